//! What is read of a pod: serde skips the rest, so that a page of pods costs little more than its text.

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;

use super::version::version_of;
use crate::mesh::revisions::DEFAULT;

/// Label that the injector puts on every pod, with a sidecar and with a gateway, and istiod on the gateways it makes.
pub(super) const INJECTED: &str = "service.istio.io/canonical-name";
/// Pods that have ended keep their labels and run no proxy.
pub(super) const UNFINISHED: &str = "status.phase!=Succeeded,status.phase!=Failed";
/// The proxy's container, in sidecars, native sidecars and gateways.
const CONTAINER: &str = "istio-proxy";

/// A pod as the API server tells of it, less all that doesn't matter here.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Sketch")]
pub(super) struct ProxyPod {
    /// Only what a watch needs: the version, and the UID.
    metadata: ObjectMeta,
    /// The proxy in it; `None` for a pod without one.
    pub(super) sighting: Option<Sighting>,
}

/// A proxy that was seen in a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sighting {
    pub(super) namespace: String,
    pub(super) owner: Owner,
    pub(super) version: Option<String>,
    pub(super) revision: String,
}

/// What a pod belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// Its kind.
    pub kind: OwnerKind,
    /// Its name.
    pub name: Box<str>,
}

/// A kind of workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OwnerKind {
    /// A Deployment, through its ReplicaSet.
    Deployment,
    /// A StatefulSet.
    StatefulSet,
    /// A DaemonSet.
    DaemonSet,
    /// A Job.
    Job,
    /// Nothing: the pod itself.
    Pod,
    /// Whatever else makes pods.
    Other(Box<str>),
}

impl fmt::Display for OwnerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
            Self::Pod => "Pod",
            Self::Other(kind) => kind,
        })
    }
}

#[derive(Deserialize)]
struct Sketch {
    metadata: Meta,
    #[serde(default)]
    spec: Spec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    namespace: String,
    name: String,
    uid: Option<String>,
    resource_version: Option<String>,
    labels: Labels,
    annotations: Annotations,
    owner_references: Vec<Reference>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Labels {
    #[serde(rename = "pod-template-hash")]
    template: Option<String>,
    /// Where injectors before 1.14 wrote the revision, and where users choose it.
    #[serde(rename = "istio.io/rev")]
    revision: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "istio.io/rev")]
    revision: Option<String>,
}

#[derive(Deserialize)]
struct Reference {
    kind: String,
    name: String,
    #[serde(default)]
    controller: bool,
}

/// The containers of a pod or of a template.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    containers: Vec<Container>,
    init_containers: Vec<Container>,
}

#[derive(Clone, Debug, Deserialize)]
struct Container {
    name: String,
    #[serde(default)]
    image: String,
}

impl Spec {
    /// The image of the proxy, if there is one.
    pub(super) fn proxy(self) -> Option<String> {
        let mut containers = self.init_containers.into_iter().chain(self.containers);
        containers.find(|container| container.name == CONTAINER).map(|container| container.image)
    }
}

impl From<Sketch> for ProxyPod {
    fn from(sketch: Sketch) -> Self {
        let Sketch { metadata: mut meta, spec } = sketch;
        let metadata = ObjectMeta {
            uid: meta.uid.take(),
            resource_version: meta.resource_version.take(),
            ..ObjectMeta::default()
        };
        let sighting = spec.proxy().map(|image| Sighting {
            owner: owner(&mut meta),
            namespace: meta.namespace,
            version: version_of(&image).map(|version| version.to_string()),
            revision: meta.annotations.revision.or(meta.labels.revision).unwrap_or_else(|| DEFAULT.to_owned()),
        });
        Self { metadata, sighting }
    }
}

fn owner(meta: &mut Meta) -> Owner {
    let Some(controller) = meta.owner_references.iter_mut().find(|reference| reference.controller) else {
        return Owner { kind: OwnerKind::Pod, name: std::mem::take(&mut meta.name).into() };
    };
    let name = std::mem::take(&mut controller.name);
    let deployment = meta.labels.template.as_ref().and_then(|hash| name.strip_suffix(hash.as_str())?.strip_suffix('-'));
    let kind = match (controller.kind.as_str(), deployment) {
        ("ReplicaSet", Some(deployment)) => return Owner { kind: OwnerKind::Deployment, name: deployment.into() },
        ("StatefulSet", _) => OwnerKind::StatefulSet,
        ("DaemonSet", _) => OwnerKind::DaemonSet,
        ("Job", _) => OwnerKind::Job,
        (other, _) => OwnerKind::Other(other.into()),
    };
    Owner { kind, name: name.into() }
}

impl Resource for ProxyPod {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Pod".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "pods".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(metadata: &Value, spec: &Value) -> Option<Sighting> {
        let pod: ProxyPod = serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap();
        pod.sighting
    }

    fn sidecar() -> Value {
        json!({"containers": [
            {"name": "app", "image": "app:1"},
            {"name": "istio-proxy", "image": "istio/proxyv2:1.31.2"},
        ]})
    }

    fn owned(kind: &str, name: &str) -> Owner {
        let reference = json!([{"kind": kind, "name": name, "controller": true}]);
        let labels = json!({"pod-template-hash": "6d4cf56db6", "app": "web"});
        read(&json!({"name": "p", "labels": labels, "ownerReferences": reference}), &sidecar()).unwrap().owner
    }

    #[test]
    fn a_sidecar_is_found_whichever_list_of_containers_it_is_in() {
        let meta = json!({"namespace": "shop", "name": "p", "annotations": {"istio.io/rev": "canary"}});
        let native = json!({"containers": [{"name": "app", "image": "app:1"}],
            "initContainers": [{"name": "istio-init", "image": "i:1.0.0"}, {"name": "istio-proxy", "image": "i:1.31.2"}]});
        for spec in [sidecar(), native] {
            let found = read(&meta, &spec).unwrap();
            assert_eq!((found.version.as_deref(), found.revision.as_str()), (Some("1.31.2"), "canary"));
            assert_eq!((found.namespace.as_str(), &found.owner.kind), ("shop", &OwnerKind::Pod));
        }
        assert_eq!(read(&meta, &json!({"containers": [{"name": "app", "image": "app:1"}]})), None);
    }

    #[test]
    fn a_pod_belongs_to_the_workload_that_a_person_knows() {
        let owner = |kind, name: &str| Owner { kind, name: name.into() };
        assert_eq!(owned("ReplicaSet", "web-6d4cf56db6"), owner(OwnerKind::Deployment, "web"));
        // Argo's rollouts make ReplicaSets with a hash of their own.
        assert_eq!(owned("ReplicaSet", "web-7f"), owner(OwnerKind::Other("ReplicaSet".into()), "web-7f"));
        assert_eq!(owned("StatefulSet", "db"), owner(OwnerKind::StatefulSet, "db"));
        assert_eq!(owned("DaemonSet", "log"), owner(OwnerKind::DaemonSet, "log"));
        assert_eq!(owned("Job", "once"), owner(OwnerKind::Job, "once"));
    }

    #[test]
    fn the_revision_is_the_injectors_else_the_labels_else_the_default() {
        let revision = |metadata: Value| read(&metadata, &sidecar()).unwrap().revision;
        let both = json!({"labels": {"istio.io/rev": "tag"}, "annotations": {"istio.io/rev": "1-31"}});
        assert_eq!(revision(both), "1-31");
        assert_eq!(revision(json!({"labels": {"istio.io/rev": "old"}})), "old");
        assert_eq!(revision(json!({})), DEFAULT);
    }

    #[test]
    fn a_watch_finds_the_version_it_goes_on_from() {
        let pod = json!({"metadata": {"uid": "u", "resourceVersion": "7", "managedFields": [{"manager": "kubelet"}]}});
        let pod: ProxyPod = serde_json::from_value(pod).unwrap();
        assert_eq!((pod.meta().uid.as_deref(), pod.meta().resource_version.as_deref()), (Some("u"), Some("7")));
        assert_eq!(pod.meta().managed_fields, None);
    }
}
