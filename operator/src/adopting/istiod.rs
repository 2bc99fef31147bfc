//! What istiod's chart was given, and where a spec says it. The chart keeps it in a ConfigMap for people, whoever rendered it.

use meshwright_api::PlatformName;
use serde_json::{Map, Value, json};

use super::mesh::Found;
use super::{is_empty, take};
use crate::mesh::kind::Kind;
use crate::mesh::merge::{merge, set};
use crate::mesh::object::ObjectKey;
use crate::mesh::owned_keys::{Scope, owned_keys};
use crate::mesh::values::AMBIENT;
use crate::planning::objects::Objects;

/// Profiles that the charts have; any other is somebody's own name for values.
const CHART_PROFILES: [&str; 4] = ["ambient", "demo", "preview", "stable"];

/// What has its place in the spec elsewhere, or follows from it.
const FOLLOWS: [&str; 8] = [
    "defaultRevision",
    "global.istioNamespace",
    "global.tag",
    "revision",
    "revisionTags",
    "tag",
    "trustedZtunnelName",
    "trustedZtunnelNamespace",
];

/// What the chart of this control plane was given.
pub(super) fn values(found: &Found<'_>, objects: &Objects) -> Option<Map<String, Value>> {
    let name = found.revision.of_object("values");
    let key = ObjectKey { kind: Kind::ConfigMap, namespace: Some(found.namespace.clone()), name };
    let text = objects.get(&key)?.pointer("/data/original-values")?.as_str()?;
    serde_json::from_str(text).ok()
}

/// Puts values where the spec has them.
pub(super) fn into_spec(found: &Found<'_>, given: Map<String, Value>, spec: &mut Value, notes: &mut Vec<String>) {
    let mut values = at_the_top(given);
    for path in FOLLOWS {
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
    pods(&mut values, spec);
    environment(found, &mut values, spec);
    // The spec has it from the node agent.
    if found.cni.is_some() && take(&mut values, "cni.enabled").and_then(|on| on.as_bool()) != Some(true) {
        merge_into(&mut values, json!({"cni": {"enabled": false}}));
    }
    if let Some(mesh) = take(&mut values, "meshConfig").filter(|mesh| !is_empty(mesh)) {
        set(spec, "meshConfig", mesh);
    }
    for problem in owned_keys(Scope::Istiod, &Value::Object(values.clone()), "") {
        take(&mut values, problem.field.trim_start_matches('.'));
        notes.push(format!("left out of istiod's values: {}", problem.to_string().trim_start_matches('.')));
    }
    if !values.is_empty() {
        set(spec, "values.istiod", Value::Object(values));
    }
}

/// The chart lays what stands below `pilot` over the top, where it is read.
fn at_the_top(mut values: Map<String, Value>) -> Map<String, Value> {
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

/// Takes one value that may stand in two places; the first is read first.
fn text(values: &mut Map<String, Value>, paths: [&str; 2]) -> Option<String> {
    let [first, second] = paths.map(|path| take(values, path));
    let texts = [first, second].into_iter().flatten().filter_map(|value| value.as_str().map(str::to_owned));
    texts.into_iter().find(|text| !text.is_empty())
}

/// How many there are.
fn pods(values: &mut Map<String, Value>, spec: &mut Value) {
    let scales = take(values, "autoscaleEnabled").and_then(|on| on.as_bool()).unwrap_or(true);
    let [min, max, replicas] = ["autoscaleMin", "autoscaleMax", "replicaCount"].map(|path| take(values, path));
    if !scales {
        set(spec, "controlPlane.replicas", replicas.filter(Value::is_number).unwrap_or(json!(1)));
    } else if min.is_some() || max.is_some() {
        let cpu = take(values, "cpu.targetAverageUtilization");
        let scaling = json!({
            "min": min.unwrap_or(json!(1)), "max": max.unwrap_or(json!(5)), "targetCPU": cpu.unwrap_or(json!(80)),
        });
        set(spec, "controlPlane.autoscaling", scaling);
    }
}

/// Variables with texts have a place in the spec. What is no text stays a value: the chart copies it into the injector's
/// configuration as it is.
fn environment(found: &Found<'_>, values: &mut Map<String, Value>, spec: &mut Value) {
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
