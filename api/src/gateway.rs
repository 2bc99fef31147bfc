//! `spec.gateways`: ingress, egress and east-west gateways.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Autoscaling, FreeForm, Resources, is_default, rules};

/// A gateway: a Deployment of Envoy proxies and, unless `service.type` is `None`, its Service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::replicas_or_autoscaling("the gateway's"),
    validation = rules::node_port_matches_type(),
    validation = rules::traffic_policy_matches_type(),
    validation = rules::fields_require_service(),
    validation = rules::load_balancer_fields_match_type(),
    validation = rules::network_matches_direction(),
    validation = rules::east_west_port_names(),
    validation = rules::require_address_matches_type()
)]
pub struct Gateway {
    /// Name of the gateway's Deployment, Service and ServiceAccount; unique in this installation.
    /// Example: `istio-ingressgateway`.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(
        validation = rules::is_service_name(),
        validation = rules::is_not_a_component()
    )]
    pub name: String,
    /// Direction of the traffic. `Ingress` (default): traffic into the mesh; the Service's type defaults to
    /// `LoadBalancer`. `Egress`: traffic out of the mesh; the type defaults to `ClusterIP`. `EastWest`: traffic
    /// between the clusters of a multicluster mesh; requires `network`, and the type defaults to `LoadBalancer`.
    #[serde(default)]
    pub direction: GatewayDirection,
    /// Name of the network that an `EastWest` gateway serves: the value of the label `topology.istio.io/network` of the
    /// control plane's namespace. Required with direction `EastWest`, not allowed otherwise. Example: `network1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"))]
    pub network: Option<String>,
    /// Whether the mesh is Ready only when the load balancer of this gateway has an address. Default: false; a pending
    /// load balancer is reported in status but does not block readiness. Only with type `LoadBalancer`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub require_address: bool,
    /// Namespace of the gateway, created if it doesn't exist. Default: the control plane's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::is_dns_label("a gateway's namespace"))]
    pub namespace: Option<String>,
    /// Configuration of the gateway's Service.
    #[serde(default, skip_serializing_if = "is_default")]
    pub service: GatewayService,
    /// Fixed number of pods, without a HorizontalPodAutoscaler. Mutually exclusive with `autoscaling`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub replicas: Option<i32>,
    /// HorizontalPodAutoscaler of the gateway. Mutually exclusive with `replicas`. Default: 1 to 5 pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// Resource requests and limits of the gateway's pods. Example: `{requests: {cpu: 100m, memory: 128Mi}}`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// Node selector of the gateway's pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Tolerations of the gateway's pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Affinity of the gateway's pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Annotations added to the gateway's pods. Changing them restarts the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_annotations: BTreeMap<String, String>,
    /// Additional values for Istio's `gateway` chart. They take precedence over all other values. The
    /// operator rejects a key that another field sets differently, and reports unknown keys.
    /// Example: `{terminationGracePeriodSeconds: 60}`.
    #[serde(default, skip_serializing_if = "FreeForm::is_empty")]
    pub values: FreeForm,
}

impl Gateway {
    /// Returns the Service's type: the value in the spec or the default of the direction.
    #[must_use]
    pub fn service_type(&self) -> ServiceType {
        self.service_type_on(None)
    }

    /// Returns the Service's type on a platform with its own default for ingress gateways. The platform's default does
    /// not apply if fields are set that are only valid for load balancers.
    #[must_use]
    pub fn service_type_on(&self, platform: Option<ServiceType>) -> ServiceType {
        self.service.type_.unwrap_or(match self.direction {
            GatewayDirection::Ingress if self.require_address || self.service.has_load_balancer_fields() => {
                ServiceType::LoadBalancer
            }
            GatewayDirection::Ingress => platform.unwrap_or(ServiceType::LoadBalancer),
            GatewayDirection::EastWest => ServiceType::LoadBalancer,
            GatewayDirection::Egress => ServiceType::ClusterIp,
        })
    }
}

/// Direction of a gateway's traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GatewayDirection {
    /// Traffic into the mesh.
    #[default]
    Ingress,
    /// Traffic out of the mesh.
    Egress,
    /// Traffic between the clusters of a multicluster mesh.
    EastWest,
}

/// Configuration of a gateway's Service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayService {
    /// Type of the Service: `LoadBalancer` (default for ingress and east-west), `ClusterIP` (default for egress) or
    /// `NodePort` (default for ingress on platforms without load balancers: minikube, tkgi, vmware-pks). `None`: the
    /// gateway has no Service, for example because another tool manages it.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ServiceType")]
    pub type_: Option<ServiceType>,
    /// Ports of the Service. Default: the chart's ports, which are status-port 15021, http2 80 and https 443, or with
    /// direction `EastWest` status-port 15021, tls 15443, tls-istiod 15012 and tls-webhook 15017. An `EastWest`
    /// gateway can only have ports with these names; their numbers and node ports can be changed. Cloud load balancers
    /// health-check the first port, so the operator moves a port named status-port to the first position.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = rules::ports_are_unique(),
        validation = rules::node_ports_are_unique()
    )]
    pub ports: Vec<GatewayPort>,
    /// Annotations of the Service, by which cloud load balancers are configured.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Class of the load balancer implementation. Only with type `LoadBalancer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317))]
    #[x_kube(validation = rules::is_load_balancer_class())]
    pub load_balancer_class: Option<String>,
    /// CIDRs of the clients that the load balancer accepts. Default: all. Only with type `LoadBalancer`.
    /// Example: `["203.0.113.0/24"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 64)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rules::are_cidrs("loadBalancerSourceRanges")
    )]
    pub load_balancer_source_ranges: Vec<String>,
    /// External traffic policy of the Service: `Cluster` (default) or `Local`, which preserves the client's address and
    /// routes traffic only to nodes that run a gateway pod. Only with type `NodePort` or `LoadBalancer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ExternalTrafficPolicy")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
    /// Whether to allocate node ports for the load balancer. Set it to false if the load balancer routes traffic
    /// directly to pods. Default: true. Only with type `LoadBalancer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocate_load_balancer_node_ports: Option<bool>,
}

impl GatewayService {
    /// Returns whether a field is set that is only valid for type `LoadBalancer`.
    fn has_load_balancer_fields(&self) -> bool {
        self.load_balancer_class.is_some()
            || !self.load_balancer_source_ranges.is_empty()
            || self.allocate_load_balancer_node_ports.is_some()
    }
}

/// Type of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// Exposed by a load balancer.
    LoadBalancer,
    /// Exposed on a port of every node.
    NodePort,
    /// Reachable from inside the cluster only.
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// The gateway has no Service.
    None,
}

impl ServiceType {
    /// Returns the type as it is written in a Service's `spec.type`, and in the chart's value `service.type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LoadBalancer => "LoadBalancer",
            Self::NodePort => "NodePort",
            Self::ClusterIp => "ClusterIP",
            Self::None => "None",
        }
    }
}

/// External traffic policy of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExternalTrafficPolicy {
    /// Every node accepts traffic; the client's address is lost.
    Cluster,
    /// Only nodes with a gateway pod accept traffic; the client's address is preserved.
    Local,
}

impl ExternalTrafficPolicy {
    /// Returns the policy as it is written in a Service's spec.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Local => "Local",
        }
    }
}

/// A port of a gateway's Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayPort {
    /// Name of the port, unique in the gateway. Istio derives the application protocol from it. Example: `http2`.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Port of the Service, 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Port of the gateway's pods, 1 to 65535. Default: `port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub target_port: Option<i32>,
    /// Node port, in the API server's node port range. Default: allocated according to `spec.nodePorts.assignment`.
    /// Only with type `NodePort` or `LoadBalancer`. Example: `30401`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub node_port: Option<i32>,
    /// Transport protocol: `TCP` (default) or `UDP`.
    #[serde(default)]
    pub protocol: Protocol,
}

/// Transport protocol of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// Transmission Control Protocol.
    #[default]
    Tcp,
    /// User Datagram Protocol, used by HTTP/3.
    Udp,
}

impl Protocol {
    /// Returns the protocol as Kubernetes writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}
