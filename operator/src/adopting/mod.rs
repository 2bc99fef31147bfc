//! From a mesh that somebody else installed to the MeshInstallation that reproduces it. Pure: what is live comes as an
//! argument; whether the proposal says all of it is found out by the operator's own plan.
//!
//! [`mesh`] finds the control plane and what goes with it, [`istiod`] reads what its chart was given, [`gateway`] reads
//! gateways off their objects, since their chart leaves no values behind; [`webhooks`] what istioctl does to webhooks that
//! charts made.

mod gateway;
mod istiod;
mod mesh;
#[cfg(test)]
mod tests;
mod webhooks;

use std::collections::BTreeSet;

use meshwright_api::Adoption;
use serde_json::{Map, Value, json};

pub use mesh::{Choice, FindMeshError, Found, find};

use crate::check::makers::{Origin, origin_of};
use crate::mesh::kind::Kind;
use crate::mesh::marks::Marks;
use crate::mesh::merge::{get, set};
use crate::mesh::object::ObjectKey;
use crate::mesh::revisions::REVISION_LABEL;
use crate::planning::objects::Objects;

/// The label that all objects of Istio's charts have.
pub const CHARTS: &str = "app.kubernetes.io/part-of=istio";

/// What would bring the mesh about.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// The spec of a MeshInstallation.
    pub spec: Value,
    /// What to know of it.
    pub notes: Vec<String>,
}

/// The proposal for a mesh that was found. Gateways whose pods only `Adoption::Overwrite` can take over are in it with that
/// alone.
#[must_use]
pub fn propose(found: &Found<'_>, objects: &Objects, adoption: Adoption) -> Proposal {
    let mut notes = Vec::new();
    let mut spec = json!({"version": found.version, "adoption": adoption});
    if found.namespace != mesh::USUAL_NAMESPACE {
        set(&mut spec, "namespace", found.namespace.as_str());
    }
    if let Some(revision) = found.revision.name() {
        set(&mut spec, "revision", revision);
    }
    if !found.tags.is_empty() {
        let tags: Vec<Value> = found.tags.iter().map(|tag| json!({"name": tag})).collect();
        set(&mut spec, "tags", tags);
    }
    match istiod::values(found, objects) {
        Some(values) => istiod::into_spec(found, values, &mut spec, &mut notes),
        None => notes.push("what istiod's chart was given can't be seen: its ConfigMap values isn't there".to_owned()),
    }
    for (agent, workload) in [("cni", found.cni), ("ztunnel", found.ztunnel)] {
        if let Some((key, workload)) = workload {
            set(&mut spec, agent, node_agent(found, key, workload));
            without_profile(found, agent, workload, &mut spec);
            notes.push(format!("what the chart of {agent} was given can't be seen but for namespace and resources"));
        }
    }
    let patches = patches(found, objects, adoption, &mut notes);
    if !patches.is_empty() {
        set(&mut spec, "patches", patches);
    }
    let gateways = gateways(found, objects, adoption, &mut notes);
    if !gateways.is_empty() {
        set(&mut spec, "gateways", gateways);
    }
    Proposal { spec, notes }
}

/// What no field says, and pods are replaced or webhooks turned without.
fn patches(found: &Found<'_>, objects: &Objects, adoption: Adoption, notes: &mut Vec<String>) -> Vec<Value> {
    let workloads = [Some(found.istiod), found.cni, found.ztunnel].into_iter().flatten();
    let workloads = workloads.chain(found.gateways.iter().copied());
    let mut patches: Vec<Value> = workloads.filter_map(|(key, pods)| other_release(key, pods)).collect();
    if !patches.is_empty() {
        notes.push(
            "spec.patches keep the label by which pods name the release of their chart: without them, pods are replaced"
                .to_owned(),
        );
    }
    let names: Vec<Value> = found.gateways.iter().filter_map(|(key, pods)| other_name(found, key, pods)).collect();
    if !names.is_empty() {
        notes.push(
            "spec.patches keep the name by which gateways' pods ask for istiod: without them, pods are replaced".into(),
        );
    }
    patches.extend(names);
    patches.extend(webhooks::patches(found, objects, adoption, notes));
    patches
}

fn gateways(found: &Found<'_>, objects: &Objects, adoption: Adoption, notes: &mut Vec<String>) -> Vec<Value> {
    let fate = |gateway: &Value| match adoption {
        _ if !gateway::has_charts_selector(gateway) => Fate::Left,
        Adoption::Overwrite => Fate::Replaced,
        _ => Fate::Replaceable,
    };
    notes.extend(found.uninjected.iter().map(|(key, gateway)| about_uninjected(key, fate(gateway))));
    let replaced = found.uninjected.iter().filter(|(_, gateway)| fate(gateway) == Fate::Replaced);
    let all = found.gateways.iter().chain(replaced);
    all.map(|(key, workload)| gateway::read(found, key, workload, objects)).collect()
}

/// What becomes of a gateway that istiod doesn't inject.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is taken over.
    Replaced,
    /// It could be.
    Replaceable,
    /// Its selector is one that no chart makes any more.
    Left,
}

fn about_uninjected(gateway: &ObjectKey, fate: Fate) -> String {
    let fate = match fate {
        Fate::Replaced => "its pods are replaced, and have the ServiceAccount of its name from then on",
        Fate::Replaceable => {
            "it is left as it is, at its release; with --overwrite it is taken over too, and its pods are replaced"
        }
        Fate::Left => {
            "it is left as it is, at its release, since its Deployment doesn't select pods by app and istio alone, as the \
             chart's does, and no Deployment's selector can be changed; make one of another name beside it"
        }
    };
    format!("istiod doesn't inject {gateway}, which only istioctl's charts make: {fate}")
}

fn node_agent(found: &Found<'_>, key: &ObjectKey, workload: &Value) -> Value {
    let mut agent = json!({"mode": "Enabled"});
    let namespace = key.namespace.as_deref().unwrap_or_default();
    if namespace != found.namespace {
        set(&mut agent, "namespace", namespace);
    }
    if let Some(resources) = workload.pointer("/spec/template/spec/containers/0/resources") {
        set(&mut agent, "resources", resources.clone());
    }
    agent
}

/// What the ambient profile adds to an agent's chart, where that was not given the profile, as Istio's documents have it.
const VARIANT: &str = "distroless";
const HBONE: &str = "ISTIO_META_ENABLE_HBONE";

fn without_profile(found: &Found<'_>, agent: &str, workload: &Value, spec: &mut Value) {
    if get(spec, "profile").is_none_or(|profile| profile != "ambient") {
        return;
    }
    let container = workload.pointer("/spec/template/spec/containers/0");
    let image = container.and_then(|container| container.get("image")).and_then(Value::as_str);
    if image.is_some_and(|image| image.ends_with(&found.version) && !image.ends_with(VARIANT)) {
        set(spec, &format!("values.{agent}.global.variant"), "");
    }
    let mut variables =
        container.and_then(|container| container.get("env")).and_then(Value::as_array).into_iter().flatten();
    if agent == "ztunnel" && !variables.any(|variable| variable.get("name").is_some_and(|name| name == HBONE)) {
        set(spec, "values.ztunnel.meshConfig.defaultConfig.proxyMetadata", Value::Null);
    }
}

/// The label of pods with the name that their chart's release had. istioctl and Sail have names of their own for releases,
/// and a label that changes would replace pods.
const RELEASE_LABEL: &str = "app.kubernetes.io/instance";

fn other_release(key: &ObjectKey, workload: &Value) -> Option<Value> {
    let release = workload.pointer("/spec/template/metadata/labels")?.get(RELEASE_LABEL)?.as_str()?;
    let usual = if key.name == "istio-cni-node" { "istio-cni" } else { &key.name };
    let path = format!("/spec/template/metadata/labels/{}", RELEASE_LABEL.replace('/', "~1"));
    let target = json!({"kind": key.kind.name(), "name": key.name});
    let steps = json!([{"op": "replace", "path": path, "value": release}]);
    (release != usual).then(|| json!({"target": target, "patch": steps}))
}

/// A gateway's pods may ask for their control plane by a tag, or say that it is the default. Ours ask by its revision alone.
fn other_name(found: &Found<'_>, key: &ObjectKey, gateway: &Value) -> Option<Value> {
    let name = mesh::revision_asked_for(gateway).filter(|name| Some(*name) != found.revision.name())?;
    let path = format!("/spec/template/metadata/labels/{}", REVISION_LABEL.replace('/', "~1"));
    let target = json!({"kind": key.kind.name(), "name": key.name, "namespace": key.namespace});
    Some(json!({"target": target, "patch": [{"op": "add", "path": path, "value": name}]}))
}

/// The objects of the mesh that was found, and not of another revision, Helm release or installation.
pub fn of_mesh<'a>(found: &Found<'_>, objects: &'a Objects) -> impl Iterator<Item = (&'a ObjectKey, &'a Value)> {
    let helms = |(key, object): &(&ObjectKey, &Value)| Some(origin_of(key, object)).filter(Origin::is_helms);
    let others: BTreeSet<Origin> = found.others.iter().filter_map(helms).collect();
    let is_its = move |key: &ObjectKey, object: &Value| {
        let rev = get(object, "metadata.labels").and_then(|labels| labels.get(REVISION_LABEL)).and_then(Value::as_str);
        rev.is_none_or(|rev| rev == found.revision.label())
            && Marks::of(object).are_missing()
            && !others.contains(&origin_of(key, object))
    };
    objects.iter().filter(move |(key, object)| !key.kind.shared() && is_its(key, object))
}

/// What of the mesh nothing in the proposal stands for, and nobody would look after any more.
#[must_use]
pub fn left_out<'a>(found: &Found<'_>, objects: &'a Objects, desired: &BTreeSet<ObjectKey>) -> Vec<&'a ObjectKey> {
    of_mesh(found, objects).map(|(key, _)| key).filter(|key| !desired.contains(key)).collect()
}

/// A table of an object, empty where there is none.
fn table<'a>(object: &'a Value, path: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    get(object, path).and_then(Value::as_object).into_iter().flatten()
}

/// What else carries an object's name in its namespace.
fn sibling<'a>(objects: &'a Objects, key: &ObjectKey, kind: Kind) -> Option<&'a Value> {
    objects.get(&ObjectKey { kind, ..key.clone() })
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// Takes a value out of a table, with the tables above it that it leaves empty.
fn take(values: &mut Map<String, Value>, path: &str) -> Option<Value> {
    let Some((head, rest)) = path.split_once('.') else { return values.remove(path) };
    let inner = values.get_mut(head)?.as_object_mut()?;
    let taken = take(inner, rest);
    if inner.is_empty() {
        values.remove(head);
    }
    taken
}
