//! Converts the Helm values of the istiod chart to a spec. The chart stores its values in a ConfigMap.

use meshwright_api::PlatformName;
use serde_json::{Map, Value, json};

use super::mesh::ExistingMesh;
use super::{is_empty, take};
use crate::mesh::kind::Kind;
use crate::mesh::merge::{merge, set};
use crate::mesh::object::ObjectKey;
use crate::mesh::owned_keys::{ValuesScope, owned_keys};
use crate::mesh::values::AMBIENT;
use crate::planning::objects::LiveObjects;

/// Profiles in the charts; other names are user-defined.
const CHART_PROFILES: [&str; 4] = ["ambient", "demo", "preview", "stable"];

/// Values that other fields of the spec determine.
const DERIVED_VALUES: [&str; 8] = [
    "defaultRevision",
    "global.istioNamespace",
    "global.tag",
    "revision",
    "revisionTags",
    "tag",
    "trustedZtunnelName",
    "trustedZtunnelNamespace",
];

/// The chart values of this control plane.
pub(super) fn values(found: &ExistingMesh<'_>, objects: &LiveObjects) -> Option<Map<String, Value>> {
    let name = found.revision.object_name("values");
    let key = ObjectKey { kind: Kind::ConfigMap, namespace: Some(found.namespace.clone()), name };
    let text = objects.get(&key)?.pointer("/data/original-values")?.as_str()?;
    serde_json::from_str(text).ok()
}

/// Moves values to their fields in the spec.
pub(super) fn into_spec(
    found: &ExistingMesh<'_>,
    given: Map<String, Value>,
    spec: &mut Value,
    notes: &mut Vec<String>,
) {
    let mut values = merge_pilot(given);
    for path in DERIVED_VALUES {
        take(&mut values, path);
    }
    if let Some(profile) = text(&mut values, ["profile", "global.profile"])
        && CHART_PROFILES.contains(&profile.as_str())
    {
        set(spec, "profile", profile);
    }
    if let Some(platform) = text(&mut values, ["platform", "global.platform"])
        && PlatformName::KNOWN.contains(&platform.as_str())
    {
        set(spec, "platform", platform);
    }
    if let Some(hub) = text(&mut values, ["hub", "global.hub"]) {
        set(spec, "images.registry", hub);
    }
    replicas(&mut values, spec);
    environment(found, &mut values, spec);
    // spec.cni determines this value.
    if found.cni.is_some() && take(&mut values, "cni.enabled").and_then(|on| on.as_bool()) != Some(true) {
        merge_into(&mut values, json!({"cni": {"enabled": false}}));
    }
    if let Some(mesh) = take(&mut values, "meshConfig").filter(|mesh| !is_empty(mesh)) {
        set(spec, "meshConfig", mesh);
    }
    for problem in owned_keys(ValuesScope::Istiod, &Value::Object(values.clone()), "") {
        take(&mut values, problem.field.trim_start_matches('.'));
        notes.push(format!("omitted from istiod's values: {}", problem.to_string().trim_start_matches('.')));
    }
    if !values.is_empty() {
        set(spec, "values.istiod", Value::Object(values));
    }
}

/// The chart merges the values under `pilot` into the top level.
fn merge_pilot(mut values: Map<String, Value>) -> Map<String, Value> {
    if let Some(pilot) = values.remove("pilot").filter(Value::is_object) {
        merge_into(&mut values, pilot);
    }
    values
}

fn merge_into(values: &mut Map<String, Value>, over: Value) {
    let mut merged = Value::Object(std::mem::take(values));
    merge(&mut merged, over);
    if let Value::Object(merged) = merged {
        *values = merged;
    }
}

/// Takes a value with two possible paths; the first path has precedence.
fn text(values: &mut Map<String, Value>, paths: [&str; 2]) -> Option<String> {
    let [first, second] = paths.map(|path| take(values, path));
    let texts = [first, second].into_iter().flatten().filter_map(|value| value.as_str().map(str::to_owned));
    texts.into_iter().find(|text| !text.is_empty())
}

/// Reads the number of replicas.
fn replicas(values: &mut Map<String, Value>, spec: &mut Value) {
    let scales = take(values, "autoscaleEnabled").and_then(|on| on.as_bool()).unwrap_or(true);
    let [min, max, count] = ["autoscaleMin", "autoscaleMax", "replicaCount"].map(|path| take(values, path));
    if !scales {
        set(spec, "controlPlane.replicas", count.filter(Value::is_number).unwrap_or(json!(1)));
    } else if min.is_some() || max.is_some() {
        let cpu = take(values, "cpu.targetAverageUtilization");
        let scaling = json!({
            "minReplicas": min.unwrap_or(json!(1)), "maxReplicas": max.unwrap_or(json!(5)), "targetCPUUtilizationPercentage": cpu.unwrap_or(json!(80)),
        });
        set(spec, "controlPlane.autoscaling", scaling);
    }
}

/// spec.controlPlane.env only supports strings. Other types remain values: the chart copies them unchanged into the
/// injector's configuration.
fn environment(found: &ExistingMesh<'_>, values: &mut Map<String, Value>, spec: &mut Value) {
    let Some(Value::Object(mut variables)) = take(values, "env") else { return };
    if found.ztunnel.is_some() {
        variables.remove(AMBIENT);
    }
    let (texts, others): (Map<_, _>, Map<_, _>) = variables.into_iter().partition(|(_, value)| value.is_string());
    if !texts.is_empty() {
        let env: Vec<Value> = texts.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        set(spec, "controlPlane.env", env);
    }
    if !others.is_empty() {
        values.insert("env".to_owned(), Value::Object(others));
    }
}
