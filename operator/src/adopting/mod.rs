//! Generates the MeshInstallation for an existing Istio installation. Pure: live resources are arguments, and the
//! operator's own plan verifies whether the proposal is complete.
//!
//! [`mesh`] finds the control plane and its components, [`istiod`] reads the Helm values of the istiod chart,
//! [`gateway`] reads gateways from their resources because the gateway chart doesn't store its values, and [`webhooks`]
//! handles changes that istioctl makes to the charts' webhooks.

mod gateway;
mod istiod;
mod mesh;
#[cfg(test)]
mod tests;
mod webhooks;

use std::collections::BTreeSet;

use meshwright_api::Adoption;
use serde_json::{Map, Value, json};

pub use mesh::{ExistingMesh, FindMeshError, MeshSelector, find_mesh};

use crate::check::managed_by::{Manager, manager_of};
use crate::mesh::kind::Kind;
use crate::mesh::merge::{get, set};
use crate::mesh::object::ObjectKey;
use crate::mesh::ownership::OwnershipMeta;
use crate::mesh::revisions::REVISION_LABEL;
use crate::planning::objects::LiveObjects;

/// Label of all resources in Istio's charts.
pub const CHARTS_LABEL: &str = "app.kubernetes.io/part-of=istio";

/// A MeshInstallation for an existing mesh.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// The proposed spec.
    pub spec: Value,
    /// Notes for the user.
    pub notes: Vec<String>,
}

/// Generates the proposal for a mesh. It only includes gateways without injection with `Adoption::Overwrite`, because
/// adopting them replaces their pods.
#[must_use]
pub fn propose(found: &ExistingMesh<'_>, objects: &LiveObjects, adoption: Adoption) -> Proposal {
    let mut notes = Vec::new();
    let mut spec = json!({"version": found.version, "adoption": adoption});
    if found.namespace != mesh::DEFAULT_NAMESPACE {
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
        None => {
            notes.push("the Helm values of istiod are unknown because its ConfigMap values doesn't exist".to_owned());
        }
    }
    for (component, workload) in [("cni", found.cni), ("ztunnel", found.ztunnel)] {
        if let Some((key, workload)) = workload {
            set(&mut spec, component, node_component(found, key, workload));
            unset_profile_values(found, component, workload, &mut spec);
            notes.push(format!("the Helm values of {component} are unknown except for namespace and resources"));
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

/// Patches for settings that no field of the spec covers and without which pods or webhooks would change.
fn patches(found: &ExistingMesh<'_>, objects: &LiveObjects, adoption: Adoption, notes: &mut Vec<String>) -> Vec<Value> {
    let workloads = [Some(found.istiod), found.cni, found.ztunnel].into_iter().flatten();
    let workloads = workloads.chain(found.gateways.iter().copied());
    let mut patches: Vec<Value> = workloads.filter_map(|(key, pods)| release_name_patch(key, pods)).collect();
    if !patches.is_empty() {
        notes.push(
            "spec.patches keep the pods' label with the name of their Helm release; without them, the pods would be \
             replaced"
                .to_owned(),
        );
    }
    let names: Vec<Value> =
        found.gateways.iter().filter_map(|(key, pods)| revision_label_patch(found, key, pods)).collect();
    if !names.is_empty() {
        notes.push(
            "spec.patches keep the revision label of the gateways' pods; without them, the pods would be \
             replaced"
                .into(),
        );
    }
    patches.extend(names);
    patches.extend(webhooks::patches(found, objects, adoption, notes));
    patches
}

fn gateways(
    found: &ExistingMesh<'_>,
    objects: &LiveObjects,
    adoption: Adoption,
    notes: &mut Vec<String>,
) -> Vec<Value> {
    let handling = |gateway: &Value| match adoption {
        _ if !gateway::has_charts_selector(gateway) => GatewayHandling::NotAdoptable,
        Adoption::Overwrite => GatewayHandling::Replaced,
        _ => GatewayHandling::Replaceable,
    };
    notes.extend(found.uninjected.iter().map(|(key, gateway)| uninjected_note(key, handling(gateway))));
    let replaced = found.uninjected.iter().filter(|(_, gateway)| handling(gateway) == GatewayHandling::Replaced);
    let all = found.gateways.iter().chain(replaced);
    let all: Vec<Value> = all.map(|(key, workload)| gateway::read(found, key, workload, objects)).collect();
    let has_no_service = |gateway: &&Value| get(gateway, "service.type").is_some_and(|kind| kind == "None");
    let names = all.iter().filter(has_no_service).filter_map(|gateway| gateway.get("name")?.as_str());
    notes.extend(names.map(|name| format!("gateway {name} has no Service; service.type None keeps it without one")));
    all
}

/// How the proposal handles a gateway without injection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum GatewayHandling {
    /// The gateway is adopted and its pods are replaced.
    Replaced,
    /// The gateway could be adopted with `--overwrite`.
    Replaceable,
    /// The chart can't render its selector, so it can't be adopted.
    NotAdoptable,
}

fn uninjected_note(gateway: &ObjectKey, handling: GatewayHandling) -> String {
    let handling = match handling {
        GatewayHandling::Replaced => "its pods are replaced and then use the ServiceAccount with the gateway's name",
        GatewayHandling::Replaceable => {
            "it is not adopted and keeps its release; --overwrite adopts it and replaces its pods"
        }
        GatewayHandling::NotAdoptable => {
            "it is not adopted and keeps its release, because its Deployment's selector has other labels than the chart's \
             (app and istio) and is immutable; create a new gateway with another name"
        }
    };
    format!("{gateway} has no injected proxy (as created by istioctl): {handling}")
}

fn node_component(found: &ExistingMesh<'_>, key: &ObjectKey, workload: &Value) -> Value {
    let mut component = json!({"mode": "Enabled"});
    let namespace = key.namespace.as_deref().unwrap_or_default();
    if namespace != found.namespace {
        set(&mut component, "namespace", namespace);
    }
    if let Some(resources) = workload.pointer("/spec/template/spec/containers/0/resources") {
        set(&mut component, "resources", resources.clone());
    }
    component
}

/// Values that the ambient profile sets. Istio's documentation installs ztunnel without the profile.
const VARIANT: &str = "distroless";
const HBONE: &str = "ISTIO_META_ENABLE_HBONE";

fn unset_profile_values(found: &ExistingMesh<'_>, component: &str, workload: &Value, spec: &mut Value) {
    if get(spec, "profile").is_none_or(|profile| profile != "ambient") {
        return;
    }
    let container = workload.pointer("/spec/template/spec/containers/0");
    let image = container.and_then(|container| container.get("image")).and_then(Value::as_str);
    if image.is_some_and(|image| image.ends_with(&found.version) && !image.ends_with(VARIANT)) {
        set(spec, &format!("values.{component}.global.variant"), "");
    }
    let mut variables =
        container.and_then(|container| container.get("env")).and_then(Value::as_array).into_iter().flatten();
    if component == "ztunnel" && !variables.any(|variable| variable.get("name").is_some_and(|name| name == HBONE)) {
        set(spec, "values.ztunnel.meshConfig.defaultConfig.proxyMetadata", Value::Null);
    }
}

/// Pod label with the Helm release name. istioctl and the Sail Operator use other names than the charts' defaults, and
/// a changed label would replace the pods.
const RELEASE_LABEL: &str = "app.kubernetes.io/instance";

fn release_name_patch(key: &ObjectKey, workload: &Value) -> Option<Value> {
    let release = workload.pointer("/spec/template/metadata/labels")?.get(RELEASE_LABEL)?.as_str()?;
    let default_name = if key.name == "istio-cni-node" { "istio-cni" } else { &key.name };
    let path = format!("/spec/template/metadata/labels/{}", RELEASE_LABEL.replace('/', "~1"));
    let target = json!({"kind": key.kind.name(), "name": key.name});
    let steps = json!([{"op": "replace", "path": path, "value": release}]);
    (release != default_name).then(|| json!({"target": target, "patch": steps}))
}

/// Pods of existing gateways may select their control plane with a tag or with `default`; the operator renders the
/// revision.
fn revision_label_patch(found: &ExistingMesh<'_>, key: &ObjectKey, gateway: &Value) -> Option<Value> {
    let name = mesh::selected_revision(gateway).filter(|name| Some(*name) != found.revision.name())?;
    let path = format!("/spec/template/metadata/labels/{}", REVISION_LABEL.replace('/', "~1"));
    let target = json!({"kind": key.kind.name(), "name": key.name, "namespace": key.namespace});
    Some(json!({"target": target, "patch": [{"op": "add", "path": path, "value": name}]}))
}

/// The resources of the mesh, without those of other revisions, Helm releases or MeshInstallations.
pub fn mesh_objects<'a>(
    found: &ExistingMesh<'_>,
    objects: &'a LiveObjects,
) -> impl Iterator<Item = (&'a ObjectKey, &'a Value)> {
    let helm_release =
        |(key, object): &(&ObjectKey, &Value)| Some(manager_of(key, object)).filter(Manager::is_helm_release);
    let others: BTreeSet<Manager> = found.others.iter().filter_map(helm_release).collect();
    let is_its = move |key: &ObjectKey, object: &Value| {
        let rev = get(object, "metadata.labels").and_then(|labels| labels.get(REVISION_LABEL)).and_then(Value::as_str);
        rev.is_none_or(|rev| rev == found.revision.label())
            && OwnershipMeta::of(object).is_absent()
            && !others.contains(&manager_of(key, object))
    };
    objects.iter().filter(move |(key, object)| !key.kind.shared() && is_its(key, object))
}

/// Resources of the mesh that the proposal doesn't contain, so that nothing would manage them any more.
#[must_use]
pub fn not_adopted<'a>(
    found: &ExistingMesh<'_>,
    objects: &'a LiveObjects,
    desired: &BTreeSet<ObjectKey>,
) -> Vec<&'a ObjectKey> {
    mesh_objects(found, objects).map(|(key, _)| key).filter(|key| !desired.contains(key)).collect()
}

/// Entries of a map in an object; empty if absent.
fn entries<'a>(object: &'a Value, path: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    get(object, path).and_then(Value::as_object).into_iter().flatten()
}

/// The object of another kind with the same name and namespace.
fn sibling<'a>(objects: &'a LiveObjects, key: &ObjectKey, kind: Kind) -> Option<&'a Value> {
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

/// Removes a value from a map, together with the parent maps that become empty.
fn take(values: &mut Map<String, Value>, path: &str) -> Option<Value> {
    let Some((head, rest)) = path.split_once('.') else { return values.remove(path) };
    let inner = values.get_mut(head)?.as_object_mut()?;
    let taken = take(inner, rest);
    if inner.is_empty() {
        values.remove(head);
    }
    taken
}
