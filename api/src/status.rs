//! `status`: what the operator found and did, for people and for tools.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::gateway::Protocol;
use crate::{PlatformStatus, UpgradeStatus};

/// The state of the installation, as last observed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshInstallationStatus {
    /// The metadata.generation that this status speaks of; -1 before the operator has seen the
    /// object.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,
    /// Ready, Reconciling, Stalled, Available, Upgradeable and `InUse`; Reconciling and Stalled are absent when all
    /// is well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// What the operator is doing, in one word; read conditions for decisions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Phase")]
    pub phase: Option<Phase>,
    /// The state in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The versions concerned.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub version: VersionStatus,
    /// The way to a changed spec that is under way, or the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<UpgradeStatus>,
    /// What the cluster is, and how that is known.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub platform: PlatformStatus,
    /// The parts of the mesh.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub components: Vec<ComponentStatus>,
    /// The gateways and how to reach them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub gateways: Vec<GatewayStatus>,
    /// The node ports that the mesh holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["port".into(), "protocol".into()]))]
    pub node_ports: Vec<NodePortStatus>,
    /// The mesh's certificate authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaStatus>,
    /// The Kubernetes Gateway API in this cluster. Its CRDs are not Istio's; with them istiod serves
    /// gateways of class `istio`, which the operator leaves alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway_api: Option<GatewayApiStatus>,
    /// The proxies of running pods, gateways included; absent until they were looked at. It changes
    /// once a minute at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxies: Option<ProxiesStatus>,
}

/// Which proxies run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxiesStatus {
    /// Their versions, each once; `Unknown` where the image doesn't tell. How many pods have which
    /// is in the metric `meshwright_proxies` and in `meshwright status --proxies`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub versions: Vec<String>,
    /// Whether a pod has a proxy of another version than the mesh.
    pub outdated: bool,
    /// With `spec.proxy.update.mode: Restart`: what is being restarted, what waits, what failed, and
    /// what only a person can restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Whether the cluster has the Kubernetes Gateway API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayApiStatus {
    /// Its CRDs are there.
    pub installed: bool,
    /// Their version, as their annotation `gateway.networking.k8s.io/bundle-version` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// The generation of a status that speaks of none.
fn unobserved() -> i64 {
    -1
}

impl Default for MeshInstallationStatus {
    /// The status that the CRD's schema gives a new object.
    fn default() -> Self {
        Self {
            observed_generation: unobserved(),
            conditions: Vec::new(),
            phase: None,
            message: None,
            version: VersionStatus::default(),
            upgrade: None,
            platform: PlatformStatus::default(),
            components: Vec::new(),
            gateways: Vec::new(),
            node_ports: Vec::new(),
            ca: None,
            gateway_api: None,
            proxies: None,
        }
    }
}

/// What the operator is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Seen, nothing written yet.
    Pending,
    /// The first installation is under way.
    Installing,
    /// A changed spec is being rolled out over a running mesh.
    Updating,
    /// A changed spec has failed, and what ran before is being brought back.
    RollingBack,
    /// As the spec says, and working.
    Ready,
    /// Was ready; something is missing or broken and the operator is at it.
    Degraded,
    /// The operator can't go on until a person changes something; the message says what.
    Stalled,
    /// Nothing is written, as `spec.paused` asks.
    Paused,
    /// The mesh is being removed.
    Uninstalling,
}

impl Phase {
    /// The phase as status spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Installing => "Installing",
            Self::Updating => "Updating",
            Self::RollingBack => "RollingBack",
            Self::Ready => "Ready",
            Self::Degraded => "Degraded",
            Self::Stalled => "Stalled",
            Self::Paused => "Paused",
            Self::Uninstalling => "Uninstalling",
        }
    }
}

/// The versions that an installation goes through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionStatus {
    /// What the spec asks for. Example: `1.31`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired: Option<String>,
    /// The release that this means. Example: `1.31.2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved: Option<String>,
    /// The release whose control plane serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<String>,
    /// The release that ran before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// The revision that the operator has named, with `spec.upgrade.strategy` `Canary`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The revision that ran before, and is kept while proxies use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retiring: Option<String>,
}

/// One part of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComponentStatus {
    /// The component. Example: `istiod`.
    pub name: String,
    /// Where it runs; absent for one that has only cluster-wide objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Pods that are ready, or for a component without pods the objects that are in place.
    pub ready: i32,
    /// How many there should be.
    pub desired: i32,
    /// What is wrong, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// One gateway and how to reach it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayStatus {
    /// The gateway, as in spec.gateways.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Whether its pods are ready.
    pub ready: bool,
    /// What it lacks, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Addresses: of the load balancer, where it has given one; else of up to three ready nodes,
    /// where the gateway has node ports; else the Service's name inside the cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Whose addresses these are: `LoadBalancer`, `Node` or `Service`. A node's are to be used with
    /// node ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "AddressType")]
    pub address_type: Option<AddressType>,
    /// Its ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub ports: Vec<GatewayPortStatus>,
}

/// Whose addresses a gateway's are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AddressType {
    /// The load balancer's, with the Service's ports.
    LoadBalancer,
    /// Nodes', with node ports.
    Node,
    /// The Service's, from inside the cluster.
    Service,
}

/// One port of a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayPortStatus {
    /// The port's name.
    pub name: String,
    /// The Service's port.
    pub port: i32,
    /// The node port, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_port: Option<i32>,
    /// `TCP` or `UDP`.
    #[serde(default)]
    pub protocol: Protocol,
}

/// One node port that the mesh holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodePortStatus {
    /// The port of every node.
    pub port: i32,
    /// `TCP` or `UDP`.
    #[serde(default)]
    pub protocol: Protocol,
    /// Namespace of the Service that holds it.
    pub namespace: String,
    /// The Service that holds it.
    pub service: String,
    /// The Service's port that it leads to, or `healthCheckNodePort`.
    pub port_name: String,
    /// Who chose it: `Spec`, `Assigned` (the operator) or `Cluster` (the API server).
    pub from: NodePortOrigin,
}

/// Who chose a node port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NodePortOrigin {
    /// The spec asks for it.
    Spec,
    /// The operator chose it and keeps it.
    Assigned,
    /// The API server allocated it.
    Cluster,
}

/// The mesh's certificate authority, as the root certificate handed to workloads shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaStatus {
    /// `SelfSigned`: istiod made the root itself. `External`: it was given one.
    pub source: CaSource,
    /// When the root certificate expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
}

/// Where the root certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CaSource {
    /// istiod made it itself.
    SelfSigned,
    /// It was given to istiod, or another CA signs.
    External,
}
