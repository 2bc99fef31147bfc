//! `status.platform`: the detected platform and its evidence.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The platform of the cluster and its evidence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlatformStatus {
    /// Platform that the mesh is configured for: the detected one or `spec.platform`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Evidence for the platform, strongest first, followed by weaker evidence for other platforms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// Whether Services of type `LoadBalancer` get an address on this platform: `Provided`, `Absent` or `Unknown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "LoadBalancerSupport")]
    pub load_balancer: Option<LoadBalancerSupport>,
    /// Whether the platform allows privileged pods, such as those of cni and ztunnel: `Allowed`, `Forbidden` or
    /// `Unknown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PlatformPermission")]
    pub privileged_pods: Option<PlatformPermission>,
    /// Problems that prevent parts of the mesh or applications from working, each with a remedy, and keys of the spec
    /// that have no effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Range of node ports for gateways.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_port_range: Option<NodePortRangeStatus>,
}

/// Whether Services of type `LoadBalancer` get an address on a platform.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LoadBalancerSupport {
    /// The platform includes a load balancer implementation.
    Provided,
    /// The platform includes no load balancer implementation; one can be installed.
    Absent,
    /// It depends on the configuration of the cluster.
    #[default]
    Unknown,
}

/// Whether a platform allows a kind of pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PlatformPermission {
    /// The platform allows it by default.
    Allowed,
    /// The platform forbids it, unless the cluster was created with a different setting.
    Forbidden,
    /// It depends on the configuration of the cluster.
    #[default]
    Unknown,
}

/// A range of node ports and its source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodePortRangeStatus {
    /// First and last port of the range. Example: `30000-32767`.
    pub range: String,
    /// Source of the range. `Discovered`: reported by the API server. `Spec`: `spec.nodePorts.range`. `Platform`: the
    /// default of the platform. `Default`: the default of Kubernetes.
    pub source: NodePortRangeSource,
    /// Why the range could not be discovered from the API server, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Source of a node port range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NodePortRangeSource {
    /// Reported by the API server.
    Discovered,
    /// Set in the spec.
    Spec,
    /// Default of the platform.
    Platform,
    /// Default of Kubernetes.
    Default,
}
