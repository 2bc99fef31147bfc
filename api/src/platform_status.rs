//! `status.platform`: what the cluster is, and how that is known.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator found out about the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlatformStatus {
    /// The platform that the mesh is made for, as in spec.platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// By what it is known, the strongest evidence first; what spoke for another platform too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// Whether Services of type `LoadBalancer` get an address there: `Provided`, `Absent` or
    /// `Unknown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "LoadBalancers")]
    pub load_balancer: Option<LoadBalancers>,
    /// Whether privileged pods, such as those of cni and ztunnel, may run there: `Allowed`,
    /// `Forbidden` or `Unknown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PlatformPermission")]
    pub privileged_pods: Option<PlatformPermission>,
    /// What keeps parts of the mesh or its applications from working here, and what to change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The node ports that gateways may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_port_range: Option<NodePortRangeStatus>,
}

/// Whether a platform gives Services of type `LoadBalancer` an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LoadBalancers {
    /// It does.
    Provided,
    /// It doesn't, unless somebody adds an implementation.
    Absent,
    /// That depends on how the cluster was made.
    #[default]
    Unknown,
}

/// Whether a platform lets something run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PlatformPermission {
    /// It does.
    Allowed,
    /// It doesn't, unless whoever made the cluster allowed it.
    Forbidden,
    /// That depends on how the cluster was made.
    #[default]
    Unknown,
}

/// A range of node ports and how it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodePortRangeStatus {
    /// First and last port. Example: `30000-32767`.
    pub range: String,
    /// `Discovered`: the API server said so. `Spec`: spec.nodePorts.range. `Platform`: what is
    /// known of the platform. `Default`: Kubernetes' own.
    pub source: NodePortRangeSource,
    /// Why it is not the API server's word, where it isn't.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How a range of node ports is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NodePortRangeSource {
    /// The API server said so.
    Discovered,
    /// The spec says so.
    Spec,
    /// The platform usually has this one.
    Platform,
    /// Kubernetes has this one unless it is configured otherwise.
    Default,
}
