//! Partial deserialization of Deployments, `StatefulSets` and `DaemonSets`, and their rollout state.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use meshwright_api::{PROXY_UPDATE, PROXY_UPDATE_RESTART};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::proxy_pod::{PodOwnerKind, Spec as PodSpec};
use crate::mesh::object::INSTALLATION_LABEL;

#[cfg(test)]
mod tests;

/// Annotation of a pod template with the mesh version that the workload was restarted for.
pub const RESTARTED_FOR: &str = "meshwright.dev/proxy-restarted-for";
/// Annotation of a pod template with the time of the restart.
pub const RESTARTED_AT: &str = "meshwright.dev/proxy-restarted-at";

/// Label of Deployments that istiod creates and updates for Gateways of the Gateway API.
const GATEWAY_API_LABEL: &str = "gateway.istio.io/managed";

/// Kind of a workload that can be restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkloadKind {
    /// Kind `Deployment` of apps/v1.
    Deployment,
    /// Kind `StatefulSet` of apps/v1.
    StatefulSet,
    /// Kind `DaemonSet` of apps/v1.
    DaemonSet,
}

impl WorkloadKind {
    /// All kinds in the order of their declaration.
    pub const ALL: [Self; 3] = [Self::Deployment, Self::StatefulSet, Self::DaemonSet];

    /// Returns the kind of a pod's owner, if it can be restarted.
    #[must_use]
    pub const fn of(owner: &PodOwnerKind) -> Option<Self> {
        match owner {
            PodOwnerKind::Deployment => Some(Self::Deployment),
            PodOwnerKind::StatefulSet => Some(Self::StatefulSet),
            PodOwnerKind::DaemonSet => Some(Self::DaemonSet),
            PodOwnerKind::Job | PodOwnerKind::Pod | PodOwnerKind::Other(_) => None,
        }
    }

    /// Returns the kind's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
        }
    }

    /// Returns the plural name, as in URL paths.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Deployment => "deployments",
            Self::StatefulSet => "statefulsets",
            Self::DaemonSet => "daemonsets",
        }
    }
}

/// Kind, namespace and name of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadId {
    /// Namespace of the workload.
    pub namespace: String,
    /// Kind of the workload.
    pub kind: WorkloadKind,
    /// Name of the workload.
    pub name: String,
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.name(), self.namespace, self.name)
    }
}

/// A workload whose pods have proxies.
#[derive(Clone, Debug, PartialEq)]
pub struct ProxyWorkload {
    /// Identity of the workload.
    pub id: WorkloadId,
    /// The resourceVersion that was read.
    pub resource_version: String,
    /// Whether the workload opts in to restarts; `None` if its namespace decides.
    pub opt_in: Option<bool>,
    /// Whether Meshwright or istiod manages the workload, and therefore its rollouts.
    pub managed: bool,
    /// The last restart for a proxy version.
    pub restarted: Option<LastRestart>,
    /// State of the last rollout.
    pub rollout: RolloutState,
    /// Proxy image in the pod template, if set by the user.
    pub pinned_image: Option<String>,
    /// Labels of the pods.
    pub labels: BTreeMap<String, String>,
    /// Desired number of pods.
    pub pods: i64,
}

/// A restart, from the annotations of the pod template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastRestart {
    /// Mesh version that the workload was restarted for.
    pub version: String,
    /// Time of the restart; `None` if the annotation is invalid.
    pub at: Option<Timestamp>,
}

/// State of a workload's rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RolloutState {
    /// All pods have the current template and are available.
    Complete,
    /// The rollout is in progress; contains its progress.
    InProgress(String),
    /// The Deployment exceeded its progress deadline.
    Failed,
    /// The Deployment is paused.
    Paused,
    /// The update strategy requires manual deletion of pods, or a partition excludes pods from updates.
    Manual,
    /// The workload exceeds the limits of responses, so that its update strategy, template or status is unknown.
    Unreadable,
}

/// A workload as returned by the API server. The kinds have different status fields; missing ones are 0.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "RawWorkload")]
pub(super) struct WorkloadResource {
    metadata: ObjectMeta,
    pub(super) raw: RawWorkload,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct RawWorkload {
    metadata: Meta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
    /// Set if the workload lacks fields that exceed the limits of responses.
    #[serde(rename = "meshwright.dev/response-replaced", default)]
    replaced: Option<IgnoredAny>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    namespace: String,
    name: String,
    resource_version: String,
    generation: i64,
    labels: BTreeMap<String, String>,
    annotations: RelevantAnnotations,
}

/// Annotations of a workload or pod template that affect restarts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RelevantAnnotations {
    #[serde(rename = "meshwright.dev/proxy-update")]
    update: Option<String>,
    #[serde(rename = "meshwright.dev/proxy-restarted-for")]
    restarted_for: Option<String>,
    #[serde(rename = "meshwright.dev/proxy-restarted-at")]
    restarted_at: Option<String>,
    /// Set by users to select the proxy's image.
    #[serde(rename = "sidecar.istio.io/proxyImage")]
    pinned_image: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    replicas: Option<i64>,
    paused: bool,
    update_strategy: Strategy,
    template: Template,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Strategy {
    r#type: String,
    rolling_update: Rolling,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Rolling {
    /// In a StatefulSet, pods with a lower ordinal keep the old template.
    partition: i64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Template {
    metadata: TemplateMeta,
    spec: PodSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct TemplateMeta {
    labels: BTreeMap<String, String>,
    annotations: RelevantAnnotations,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    observed_generation: i64,
    replicas: i64,
    updated_replicas: i64,
    available_replicas: i64,
    desired_number_scheduled: i64,
    updated_number_scheduled: i64,
    number_available: i64,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Deserialize)]
struct Condition {
    r#type: String,
    #[serde(default)]
    reason: String,
}

impl From<RawWorkload> for WorkloadResource {
    fn from(raw: RawWorkload) -> Self {
        Self { metadata: ObjectMeta::default(), raw }
    }
}

impl ProxyWorkload {
    /// Converts a workload as returned by the API server.
    pub(super) fn new(kind: WorkloadKind, raw: RawWorkload) -> Self {
        let rollout = rollout(kind, &raw);
        let RawWorkload { metadata: meta, spec, status, .. } = raw;
        let opt_in = meta.annotations.update.as_ref().or_else(|| meta.labels.get(PROXY_UPDATE));
        let template = spec.template.metadata;
        // Templates of injected gateways contain a proxy container with the image `auto`.
        let custom_image = spec.template.spec.proxy_image().filter(|image| image != "auto" && !image.is_empty());
        let at = template.annotations.restarted_at.and_then(|at| at.parse().ok());
        Self {
            opt_in: opt_in.map(|opt_in| opt_in == PROXY_UPDATE_RESTART),
            managed: [INSTALLATION_LABEL, GATEWAY_API_LABEL].iter().any(|label| meta.labels.contains_key(*label)),
            id: WorkloadId { namespace: meta.namespace, kind, name: meta.name },
            resource_version: meta.resource_version,
            restarted: template.annotations.restarted_for.map(|version| LastRestart { version, at }),
            rollout,
            pinned_image: template.annotations.pinned_image.or(custom_image),
            labels: template.labels,
            pods: match kind {
                WorkloadKind::DaemonSet => status.desired_number_scheduled,
                _ => spec.replicas.unwrap_or(1),
            },
        }
    }
}

fn rollout(kind: WorkloadKind, raw: &RawWorkload) -> RolloutState {
    let RawWorkload { metadata, spec, status, replaced } = raw;
    if replaced.is_some() {
        return RolloutState::Unreadable;
    }
    if kind == WorkloadKind::Deployment && spec.paused {
        return RolloutState::Paused;
    }
    if kind != WorkloadKind::Deployment && (spec.update_strategy.r#type == "OnDelete" || has_partition(spec)) {
        return RolloutState::Manual;
    }
    let (desired, total, updated, available) = match kind {
        WorkloadKind::DaemonSet => (
            status.desired_number_scheduled,
            status.desired_number_scheduled,
            status.updated_number_scheduled,
            status.number_available,
        ),
        _ => (spec.replicas.unwrap_or(1), status.replicas, status.updated_replicas, status.available_replicas),
    };
    let observed = status.observed_generation >= metadata.generation;
    if observed && [total, updated, available] == [desired; 3] {
        return RolloutState::Complete;
    }
    let deadline_exceeded =
        |condition: &Condition| condition.r#type == "Progressing" && condition.reason == "ProgressDeadlineExceeded";
    if observed && kind == WorkloadKind::Deployment && status.conditions.iter().any(deadline_exceeded) {
        return RolloutState::Failed;
    }
    let old = if total > updated { format!(", {} old", total - updated) } else { String::new() };
    RolloutState::InProgress(format!("{} of {desired} pods available{old}", available.min(updated)))
}

fn has_partition(spec: &Spec) -> bool {
    spec.update_strategy.rolling_update.partition > 0
}

impl Resource for WorkloadResource {
    type DynamicType = WorkloadKind;
    type Scope = NamespaceResourceScope;

    fn kind(kind: &WorkloadKind) -> Cow<'_, str> {
        kind.name().into()
    }

    fn group(_: &WorkloadKind) -> Cow<'_, str> {
        "apps".into()
    }

    fn version(_: &WorkloadKind) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural(kind: &WorkloadKind) -> Cow<'_, str> {
        kind.plural().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
