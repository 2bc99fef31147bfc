//! What is read of a Deployment, StatefulSet or DaemonSet, and what it says of itself.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use meshwright_api::{PROXY_UPDATE, PROXY_UPDATE_RESTART};
use serde::Deserialize;

use super::pod::{OwnerKind, Spec as PodSpec};
use crate::mesh::object::INSTALLATION_LABEL;

#[cfg(test)]
mod tests;

/// Annotation of a pod template: the version of the mesh for which the workload was restarted. It is the memory of that.
pub const RESTARTED_FOR: &str = "meshwright.dev/proxy-restarted-for";
/// Annotation of a pod template: when that was.
pub const RESTARTED_AT: &str = "meshwright.dev/proxy-restarted-at";

/// Label of what istiod makes for Gateways of the Gateway API, and rolls itself.
const ISTIODS: &str = "gateway.istio.io/managed";

/// A kind of workload that can be restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkloadKind {
    /// A Deployment.
    Deployment,
    /// A StatefulSet.
    StatefulSet,
    /// A DaemonSet.
    DaemonSet,
}

impl WorkloadKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Deployment, Self::StatefulSet, Self::DaemonSet];

    /// The kind of a pod's owner, if it is one that can be restarted.
    #[must_use]
    pub const fn of(owner: &OwnerKind) -> Option<Self> {
        match owner {
            OwnerKind::Deployment => Some(Self::Deployment),
            OwnerKind::StatefulSet => Some(Self::StatefulSet),
            OwnerKind::DaemonSet => Some(Self::DaemonSet),
            OwnerKind::Job | OwnerKind::Pod | OwnerKind::Other(_) => None,
        }
    }

    /// As the API server calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
        }
    }

    /// As it stands in paths.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Deployment => "deployments",
            Self::StatefulSet => "statefulsets",
            Self::DaemonSet => "daemonsets",
        }
    }
}

/// Which workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadId {
    /// Its namespace.
    pub namespace: String,
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.name(), self.namespace, self.name)
    }
}

/// A workload, as far as it matters for its proxies.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Which.
    pub id: WorkloadId,
    /// The state that this was read from.
    pub resource_version: String,
    /// What the workload itself says of being restarted; `None`: nothing, so that its namespace decides.
    pub consent: Option<bool>,
    /// It is a part of a mesh: whoever made it rolls it.
    pub of_mesh: bool,
    /// The last restart for a proxy's sake.
    pub restarted: Option<Restarted>,
    /// How far its pods are those of its template.
    pub rollout: Rollout,
    /// The image of the proxy that its template asks for, if it does.
    pub pinned: Option<String>,
    /// Labels of its pods.
    pub labels: BTreeMap<String, String>,
    /// How many pods it is to have.
    pub pods: i64,
}

/// A restart, as the pod template tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restarted {
    /// For which version of the mesh.
    pub version: String,
    /// When; `None`: somebody wrote something else there.
    pub at: Option<Timestamp>,
}

/// How far a workload's pods are those of its template, and ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rollout {
    /// All of them.
    Complete,
    /// Not all yet; how many of how many.
    UnderWay(String),
    /// The Deployment's controller has given up.
    Stuck,
    /// The Deployment is paused: a new template reaches no pod.
    Paused,
    /// A new template reaches pods only when somebody deletes them, or not all of them.
    ByHand,
}

/// As the API server tells of it. The kinds have different fields in status; those that a kind doesn't have stay 0.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Sketch")]
pub(super) struct Read {
    metadata: ObjectMeta,
    pub(super) sketch: Sketch,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Sketch {
    metadata: Meta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    namespace: String,
    name: String,
    resource_version: String,
    generation: i64,
    labels: BTreeMap<String, String>,
    annotations: Words,
}

/// The annotations that count, of a workload or of its template.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Words {
    #[serde(rename = "meshwright.dev/proxy-update")]
    update: Option<String>,
    #[serde(rename = "meshwright.dev/proxy-restarted-for")]
    restarted_for: Option<String>,
    #[serde(rename = "meshwright.dev/proxy-restarted-at")]
    restarted_at: Option<String>,
    /// With which users choose the proxy's image themselves.
    #[serde(rename = "sidecar.istio.io/proxyImage")]
    pinned: Option<String>,
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
    /// Of a StatefulSet: pods below it keep the old template.
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
    annotations: Words,
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

impl From<Sketch> for Read {
    fn from(sketch: Sketch) -> Self {
        Self { metadata: ObjectMeta::default(), sketch }
    }
}

impl Workload {
    /// The workload that was read.
    pub(super) fn of(kind: WorkloadKind, sketch: Sketch) -> Self {
        let rollout = rollout(kind, &sketch);
        let Sketch { metadata: meta, spec, status } = sketch;
        let word = meta.annotations.update.as_ref().or_else(|| meta.labels.get(PROXY_UPDATE));
        let template = spec.template.metadata;
        // A gateway's template has the proxy's container, for the injector to fill.
        let own = spec.template.spec.proxy().filter(|image| image != "auto" && !image.is_empty());
        let at = template.annotations.restarted_at.and_then(|at| at.parse().ok());
        Self {
            consent: word.map(|word| word == PROXY_UPDATE_RESTART),
            of_mesh: [INSTALLATION_LABEL, ISTIODS].iter().any(|label| meta.labels.contains_key(*label)),
            id: WorkloadId { namespace: meta.namespace, kind, name: meta.name },
            resource_version: meta.resource_version,
            restarted: template.annotations.restarted_for.map(|version| Restarted { version, at }),
            rollout,
            pinned: template.annotations.pinned.or(own),
            labels: template.labels,
            pods: match kind {
                WorkloadKind::DaemonSet => status.desired_number_scheduled,
                _ => spec.replicas.unwrap_or(1),
            },
        }
    }
}

fn rollout(kind: WorkloadKind, sketch: &Sketch) -> Rollout {
    let Sketch { metadata, spec, status } = sketch;
    if kind == WorkloadKind::Deployment && spec.paused {
        return Rollout::Paused;
    }
    if kind != WorkloadKind::Deployment && (spec.update_strategy.r#type == "OnDelete" || held_back(spec)) {
        return Rollout::ByHand;
    }
    let (wanted, total, updated, available) = match kind {
        WorkloadKind::DaemonSet => (
            status.desired_number_scheduled,
            status.desired_number_scheduled,
            status.updated_number_scheduled,
            status.number_available,
        ),
        _ => (spec.replicas.unwrap_or(1), status.replicas, status.updated_replicas, status.available_replicas),
    };
    let seen = status.observed_generation >= metadata.generation;
    if seen && [total, updated, available] == [wanted; 3] {
        return Rollout::Complete;
    }
    let given_up =
        |condition: &Condition| condition.r#type == "Progressing" && condition.reason == "ProgressDeadlineExceeded";
    if seen && kind == WorkloadKind::Deployment && status.conditions.iter().any(given_up) {
        return Rollout::Stuck;
    }
    let old = if total > updated { format!(", {} old", total - updated) } else { String::new() };
    Rollout::UnderWay(format!("{} of {wanted} pods available{old}", available.min(updated)))
}

fn held_back(spec: &Spec) -> bool {
    spec.update_strategy.rolling_update.partition > 0
}

impl Resource for Read {
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
