//! `status`: the observed state of an installation.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::gateway::Protocol;
use crate::{PlatformStatus, UpgradeStatus};

/// Observed state of the mesh.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshInstallationStatus {
    /// The `metadata.generation` that this status was computed from; -1 before the first reconciliation.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,
    /// Conditions of the installation: Ready, Reconciling, Stalled, Available, Upgradeable and `InUse`. Reconciling and
    /// Stalled are absent unless they are True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Summary of the current state in one word. Programs should use conditions instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Phase")]
    pub phase: Option<Phase>,
    /// Summary of the current state in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Desired, resolved, running and previous versions.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub version: VersionStatus,
    /// The upgrade or rollback in progress, or the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<UpgradeStatus>,
    /// The platform of the cluster and its evidence.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub platform: PlatformStatus,
    /// Components of the mesh.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub components: Vec<ComponentStatus>,
    /// Gateways with their addresses and ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub gateways: Vec<GatewayStatus>,
    /// Node ports used by the mesh.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["port".into(), "protocol".into()]))]
    pub node_ports: Vec<NodePortStatus>,
    /// Certificate authority of the mesh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaStatus>,
    /// Kubernetes Gateway API in this cluster. Istio doesn't include its CRDs. If they are installed, istiod manages
    /// Gateways of class `istio`; the operator doesn't manage these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway_api: Option<GatewayApiStatus>,
    /// Proxies of running pods, including gateways. Absent until the operator has counted them. Updated at most once
    /// per minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxies: Option<ProxiesStatus>,
}

/// Proxies of running pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxiesStatus {
    /// Distinct versions of the proxies; `Unknown` if the image reference contains no version. The metric
    /// `meshwright_proxies` and `meshwright status --proxies` show the number of pods by version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub versions: Vec<String>,
    /// Whether the proxy version of any pod differs from the mesh's version.
    pub outdated: bool,
    /// Hash of the configuration that new pods get. Injected pods have it in their annotation
    /// `meshwright.dev/injected-configuration`. Absent while it is unknown, and if pods don't have the annotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<String>,
    /// Whether any pod with a current proxy version was injected with another configuration than new pods. It keeps that
    /// configuration until it is restarted.
    #[serde(default)]
    pub stale_configuration: bool,
    /// With `spec.proxy.update.mode: Restart`: workloads that are restarting, waiting or failed, and those that must be
    /// restarted manually.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The Kubernetes Gateway API in a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayApiStatus {
    /// Whether the CRDs of the Gateway API are installed.
    pub installed: bool,
    /// Version of the CRDs, from their annotation `gateway.networking.k8s.io/bundle-version`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// The observedGeneration before the first reconciliation.
fn unobserved() -> i64 {
    -1
}

impl Default for MeshInstallationStatus {
    /// Returns the default that the CRD's schema defines for new objects.
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

/// Phase of an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// The operator has applied nothing yet.
    Pending,
    /// The first installation is in progress.
    Installing,
    /// A rollout of a changed spec to a running mesh is in progress.
    Updating,
    /// A rollout failed and a rollback is in progress.
    RollingBack,
    /// The mesh matches its spec and is healthy.
    Ready,
    /// The mesh is no longer healthy; the operator is retrying.
    Degraded,
    /// The operator needs user intervention; the message describes it.
    Stalled,
    /// Reconciliation is paused by `spec.paused`.
    Paused,
    /// The operator is removing the mesh.
    Uninstalling,
}

impl Phase {
    /// Returns the phase as it is written in status.
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

/// Versions and revisions of an installation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionStatus {
    /// Value of `spec.version`. Example: `1.31`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired: Option<String>,
    /// Release that `spec.version` resolves to. Example: `1.31.2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved: Option<String>,
    /// Release of the active control plane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<String>,
    /// Release of the previous control plane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// Revision of the active control plane, with `spec.upgrade.strategy: Canary`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Previous revision, which is retained while proxies use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retiring: Option<String>,
}

/// Status of a component of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComponentStatus {
    /// Name of the component. Example: `istiod`.
    pub name: String,
    /// Namespace of the component. Absent if all its objects are cluster-scoped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Version of the component.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Number of ready pods. For a component without pods, the number of applied objects.
    pub ready: i32,
    /// Desired number of pods or objects.
    pub desired: i32,
    /// Why the component is not ready, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Status of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayStatus {
    /// Name of the gateway in `spec.gateways`.
    pub name: String,
    /// Namespace of the gateway.
    pub namespace: String,
    /// Whether the gateway's pods are ready.
    pub ready: bool,
    /// Why the gateway is not ready, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Addresses of the load balancer, if it has any; otherwise of up to three ready nodes, if the gateway has node
    /// ports; otherwise the Service's DNS name in the cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Type of the addresses: `LoadBalancer`, `Node` or `Service`. Use addresses of nodes with node ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "GatewayAddressType")]
    pub address_type: Option<GatewayAddressType>,
    /// Ports of the gateway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub ports: Vec<GatewayPortStatus>,
}

/// Type of a gateway's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GatewayAddressType {
    /// Addresses of the load balancer, to be used with the Service's ports.
    LoadBalancer,
    /// Addresses of nodes, to be used with node ports.
    Node,
    /// The Service's DNS name, reachable from inside the cluster.
    Service,
}

/// Status of a gateway's port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayPortStatus {
    /// Name of the port.
    pub name: String,
    /// Port of the Service.
    pub port: i32,
    /// Node port, if allocated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_port: Option<i32>,
    /// Transport protocol: `TCP` or `UDP`.
    #[serde(default)]
    pub protocol: Protocol,
}

/// A node port used by the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodePortStatus {
    /// Node port number.
    pub port: i32,
    /// Transport protocol: `TCP` or `UDP`.
    #[serde(default)]
    pub protocol: Protocol,
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub service: String,
    /// Name of the Service's port, or `healthCheckNodePort`.
    pub port_name: String,
    /// Origin of the port: `Spec`, `Assigned` (by the operator) or `Cluster` (allocated by the API server).
    pub from: NodePortOrigin,
}

/// Origin of a node port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NodePortOrigin {
    /// Set in the spec.
    Spec,
    /// Assigned by the operator, which keeps it.
    Assigned,
    /// Allocated by the API server.
    Cluster,
}

/// Certificate authority of the mesh, according to the root certificate distributed to workloads, and to the Secret
/// `cacerts` if you provide the CA.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaStatus {
    /// Source of the root certificate. `SelfSigned`: generated by istiod. `External`: provided by the user or an
    /// external CA.
    pub source: CaSource,
    /// Expiry time of the root certificate, or of the intermediate certificate if that expires first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
    /// Subject of the intermediate certificate that expires at `notAfter`. Absent if the root certificate expires
    /// first. Example: `CN=Intermediate CA,O=Example`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intermediate: Option<String>,
}

/// Source of the root certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CaSource {
    /// Generated by istiod.
    SelfSigned,
    /// Provided to istiod, or an external CA signs certificates.
    External,
}
