//! Partial deserialization of pods: serde skips all other fields, so that a page of pods needs little memory beyond its
//! text.

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::version::version_of;
use crate::mesh::revisions::DEFAULT;
use crate::mesh::text::shorten;

/// Label that the injection webhook sets on all pods with a sidecar or gateway, and istiod on the gateways that it
/// creates.
pub(super) const INJECTED: &str = "service.istio.io/canonical-name";
/// Excludes terminated pods, which keep their labels but run no proxy.
pub(super) const UNFINISHED: &str = "status.phase!=Succeeded,status.phase!=Failed";
/// Name of the proxy container in sidecars, native sidecars and gateways.
const CONTAINER: &str = "istio-proxy";
/// Phase and condition of pods that serve requests.
const RUNNING: &str = "Running";
const READY: &str = "Ready";

/// Maximum length of a name in Kubernetes. Users can create pods with longer annotations and owner references.
const MAX_NAME: usize = 253;
/// Maximum length of the hash of a configuration.
const MAX_HASH: usize = 64;

/// A pod with its proxy.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "RawPod")]
pub(super) struct ProxyPod {
    /// Only resourceVersion and UID, which a watch needs.
    metadata: ObjectMeta,
    /// The proxy; `None` if the pod has none.
    pub(super) proxy: Option<DetectedProxy>,
}

/// The proxy of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DetectedProxy {
    pub(super) namespace: String,
    pub(super) owner: PodOwner,
    pub(super) version: Option<String>,
    pub(super) revision: String,
    /// Hash of the configuration that it was injected with; `None` if unknown.
    pub(super) configuration: Option<String>,
    /// Whether the pod was injected, runs and is ready. Others may have any image.
    pub(super) serving: bool,
}

/// The workload that a pod belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodOwner {
    /// Kind of the workload.
    pub kind: PodOwnerKind,
    /// Name of the workload.
    pub name: Box<str>,
}

/// Kind of a pod's owner.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PodOwnerKind {
    /// Deployment that owns the pod's ReplicaSet.
    Deployment,
    /// StatefulSet that owns the pod.
    StatefulSet,
    /// DaemonSet that owns the pod.
    DaemonSet,
    /// Job that owns the pod.
    Job,
    /// Pod without an owner.
    Pod,
    /// Owner of another kind, such as a custom controller.
    Other(Box<str>),
}

impl fmt::Display for PodOwnerKind {
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
struct RawPod {
    metadata: Meta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: RawPodStatus,
    /// Set if the pod lacks fields that exceed the limits of responses.
    #[serde(rename = "meshwright.dev/response-replaced", default)]
    replaced: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawPodStatus {
    phase: String,
    conditions: Vec<PodCondition>,
}

#[derive(Deserialize)]
struct PodCondition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
}

impl RawPodStatus {
    fn is_serving(&self) -> bool {
        let is_ready = |condition: &PodCondition| condition.type_ == READY && condition.status == "True";
        self.phase == RUNNING && self.conditions.iter().any(is_ready)
    }
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
    /// Set by users to select a revision, and by Istio before 1.14.
    #[serde(rename = "istio.io/rev")]
    revision: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "istio.io/rev")]
    revision: Option<String>,
    #[serde(rename = "meshwright.dev/injected-configuration")]
    configuration: Option<String>,
    /// Set by the injection webhook.
    #[serde(rename = "sidecar.istio.io/status")]
    injection_status: Option<IgnoredAny>,
    /// Of pods of the mesh's own gateways.
    #[serde(rename = "meshwright.dev/proxy-inputs")]
    proxy_inputs: Option<IgnoredAny>,
}

impl Annotations {
    /// The mesh's own gateways have none: the operator rolls them, and the hash also covers what only sidecars get.
    fn configuration(&mut self) -> Option<String> {
        self.configuration.take().filter(|hash| hash.len() <= MAX_HASH && self.proxy_inputs.is_none())
    }
}

#[derive(Deserialize)]
struct Reference {
    kind: String,
    name: String,
    #[serde(default)]
    controller: bool,
}

/// The containers of a pod or pod template.
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
    /// Returns the image of the proxy container, if present.
    pub(super) fn proxy_image(self) -> Option<String> {
        let mut containers = self.init_containers.into_iter().chain(self.containers);
        containers.find(|container| container.name == CONTAINER).map(|container| container.image)
    }
}

impl From<RawPod> for ProxyPod {
    fn from(raw: RawPod) -> Self {
        let RawPod { metadata: mut meta, spec, status, replaced } = raw;
        let metadata = ObjectMeta {
            uid: meta.uid.take(),
            resource_version: meta.resource_version.take(),
            ..ObjectMeta::default()
        };
        // An injected pod whose spec is too large to read has a proxy of an unknown version.
        let is_too_large = replaced.is_some() && meta.annotations.injection_status.is_some();
        let proxy = spec.proxy_image().or_else(|| is_too_large.then(String::new)).map(|image| {
            let owner = owner(&mut meta);
            let configuration = meta.annotations.configuration();
            let serving = meta.annotations.injection_status.is_some() && status.is_serving();
            let revision = meta.annotations.revision.or(meta.labels.revision);
            let mut revision = revision.unwrap_or_else(|| DEFAULT.to_owned());
            shorten(&mut revision, MAX_NAME);
            let version = version_of(&image).map(|version| version.to_string());
            DetectedProxy { owner, namespace: meta.namespace, version, revision, configuration, serving }
        });
        Self { metadata, proxy }
    }
}

fn owner(meta: &mut Meta) -> PodOwner {
    let Some(controller) = meta.owner_references.iter_mut().find(|reference| reference.controller) else {
        return PodOwner { kind: PodOwnerKind::Pod, name: std::mem::take(&mut meta.name).into() };
    };
    // The API server doesn't validate these.
    shorten(&mut controller.name, MAX_NAME);
    shorten(&mut controller.kind, MAX_NAME);
    let name = std::mem::take(&mut controller.name);
    let deployment = meta.labels.template.as_ref().and_then(|hash| name.strip_suffix(hash.as_str())?.strip_suffix('-'));
    let kind = match (controller.kind.as_str(), deployment) {
        ("ReplicaSet", Some(deployment)) => {
            return PodOwner { kind: PodOwnerKind::Deployment, name: deployment.into() };
        }
        ("StatefulSet", _) => PodOwnerKind::StatefulSet,
        ("DaemonSet", _) => PodOwnerKind::DaemonSet,
        ("Job", _) => PodOwnerKind::Job,
        (other, _) => PodOwnerKind::Other(other.into()),
    };
    PodOwner { kind, name: name.into() }
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
    use crate::mesh::injected_configuration::INJECTED_CONFIGURATION_ANNOTATION;
    use crate::mesh::object::REPLACED_ANNOTATION;
    use crate::mesh::proxy_inputs::PROXY_INPUTS_ANNOTATION;

    fn parse(metadata: &Value, spec: &Value) -> Option<DetectedProxy> {
        let pod: ProxyPod = serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap();
        pod.proxy
    }

    fn sidecar() -> Value {
        json!({"containers": [
            {"name": "app", "image": "app:1"},
            {"name": "istio-proxy", "image": "istio/proxyv2:1.31.2"},
        ]})
    }

    fn owned(kind: &str, name: &str) -> PodOwner {
        let reference = json!([{"kind": kind, "name": name, "controller": true}]);
        let labels = json!({"pod-template-hash": "6d4cf56db6", "app": "web"});
        parse(&json!({"name": "p", "labels": labels, "ownerReferences": reference}), &sidecar()).unwrap().owner
    }

    #[test]
    fn finds_sidecars_and_native_sidecars() {
        let meta = json!({"namespace": "shop", "name": "p", "annotations": {"istio.io/rev": "canary"}});
        let native = json!({"containers": [{"name": "app", "image": "app:1"}],
            "initContainers": [
                {"name": "istio-init", "image": "i:1.0.0"}, {"name": "istio-proxy", "image": "i:1.31.2"}]});
        for spec in [sidecar(), native] {
            let found = parse(&meta, &spec).unwrap();
            assert_eq!((found.version.as_deref(), found.revision.as_str()), (Some("1.31.2"), "canary"));
            assert_eq!((found.namespace.as_str(), &found.owner.kind), ("shop", &PodOwnerKind::Pod));
        }
        assert_eq!(parse(&meta, &json!({"containers": [{"name": "app", "image": "app:1"}]})), None);
    }

    #[test]
    fn resolves_the_owning_workload() {
        let owner = |kind, name: &str| PodOwner { kind, name: name.into() };
        assert_eq!(owned("ReplicaSet", "web-6d4cf56db6"), owner(PodOwnerKind::Deployment, "web"));
        // ReplicaSets of Argo Rollouts have a different hash.
        assert_eq!(owned("ReplicaSet", "web-7f"), owner(PodOwnerKind::Other("ReplicaSet".into()), "web-7f"));
        assert_eq!(owned("StatefulSet", "db"), owner(PodOwnerKind::StatefulSet, "db"));
        assert_eq!(owned("DaemonSet", "log"), owner(PodOwnerKind::DaemonSet, "log"));
        assert_eq!(owned("Job", "once"), owner(PodOwnerKind::Job, "once"));
    }

    #[test]
    fn revision_prefers_annotation_over_label() {
        let revision = |metadata: Value| parse(&metadata, &sidecar()).unwrap().revision;
        let both = json!({"labels": {"istio.io/rev": "tag"}, "annotations": {"istio.io/rev": "1-31"}});
        assert_eq!(revision(both), "1-31");
        assert_eq!(revision(json!({"labels": {"istio.io/rev": "old"}})), "old");
        assert_eq!(revision(json!({})), DEFAULT);
    }

    #[test]
    fn injected_pod_without_spec_has_proxy_of_unknown_version() {
        let pod = |annotations: Value| {
            let metadata = json!({"namespace": "shop", "name": "p", "annotations": annotations});
            let pod = json!({"metadata": metadata, REPLACED_ANNOTATION: true});
            serde_json::from_value::<ProxyPod>(pod).unwrap().proxy
        };
        let proxy = pod(json!({"sidecar.istio.io/status": "{}", "istio.io/rev": "canary"})).unwrap();
        assert_eq!((proxy.version, proxy.revision.as_str(), proxy.serving), (None, "canary", false));
        assert_eq!(pod(json!({})), None, "the label alone is no proof");
    }

    #[test]
    fn shortens_what_any_user_can_write() {
        let long = "x".repeat(100_000);
        let reference = json!([{"kind": long, "name": long, "controller": true}]);
        let meta = json!({"name": "p", "annotations": {"istio.io/rev": long}, "ownerReferences": reference});
        let found = parse(&meta, &sidecar()).unwrap();
        assert!(found.revision.len() <= MAX_NAME && found.owner.name.len() <= MAX_NAME);
        assert!(found.owner.kind.to_string().len() <= MAX_NAME);
    }

    #[test]
    fn reads_configuration_except_of_own_gateways() {
        let configuration = |annotations: Value| {
            parse(&json!({"name": "p", "annotations": annotations}), &sidecar()).unwrap().configuration
        };
        assert_eq!(configuration(json!({INJECTED_CONFIGURATION_ANNOTATION: "a1"})).as_deref(), Some("a1"));
        assert_eq!(configuration(json!({})), None);
        assert_eq!(configuration(json!({INJECTED_CONFIGURATION_ANNOTATION: "a".repeat(65)})), None);
        let gateway = json!({INJECTED_CONFIGURATION_ANNOTATION: "a1", PROXY_INPUTS_ANNOTATION: "b2"});
        assert_eq!(configuration(gateway), None);
    }

    #[test]
    fn only_ready_injected_pods_serve() {
        let serves = |injected: bool, phase: &str, ready: &str| {
            let annotations = if injected { json!({"sidecar.istio.io/status": "{}"}) } else { json!({}) };
            let conditions = json!([{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": ready}]);
            let pod = json!({"metadata": {"name": "p", "annotations": annotations}, "spec": sidecar(),
                "status": {"phase": phase, "conditions": conditions}});
            serde_json::from_value::<ProxyPod>(pod).unwrap().proxy.unwrap().serving
        };
        assert!(serves(true, "Running", "True"));
        for (injected, phase, ready) in
            [(false, "Running", "True"), (true, "Pending", "True"), (true, "Running", "False")]
        {
            assert!(!serves(injected, phase, ready), "{injected} {phase} {ready}");
        }
        assert!(!parse(&json!({"name": "p"}), &sidecar()).unwrap().serving, "a pod without status");
    }

    #[test]
    fn keeps_metadata_for_watches() {
        let pod = json!({"metadata": {"uid": "u", "resourceVersion": "7", "managedFields": [{"manager": "kubelet"}]}});
        let pod: ProxyPod = serde_json::from_value(pod).unwrap();
        assert_eq!((pod.meta().uid.as_deref(), pod.meta().resource_version.as_deref()), (Some("u"), Some("7")));
        assert_eq!(pod.meta().managed_fields, None);
    }
}
