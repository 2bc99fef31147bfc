//! `spec.gateways`: Envoys at the edge of the mesh.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Autoscaling, FreeForm, Resources, is_default, rules};

/// One gateway: a Deployment of Envoys and the Service before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::replicas_or_autoscaling("the gateway's"),
    validation = rules::node_port_fits_type(),
    validation = rules::traffic_policy_fits_type(),
    validation = rules::load_balancer_fields_fit_type(),
    validation = rules::network_fits_direction(),
    validation = rules::east_west_ports(),
    validation = rules::required_address_fits_type()
)]
pub struct Gateway {
    /// Name of the gateway's Deployment, Service and `ServiceAccount`; unique in this installation.
    /// Example: `istio-ingressgateway`.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(
        validation = rules::is_service_name(),
        validation = rules::is_no_component()
    )]
    pub name: String,
    /// `Ingress` (default): into the mesh, by default with a service of type `LoadBalancer`.
    /// `Egress`: out of it, by default with a service of type `ClusterIP`.
    /// `EastWest`: between the clusters of one mesh; needs `network`, and by default has a service of
    /// type `LoadBalancer`.
    #[serde(default)]
    pub direction: Direction,
    /// Name of the network that an `EastWest` gateway leads into, as the label
    /// `topology.istio.io/network` on the mesh's namespace names it. Only with `EastWest`, which needs
    /// it. Example: `network1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"))]
    pub network: Option<String>,
    /// True: the mesh is Ready only when this gateway's load balancer has an address. Default: false;
    /// a pending load balancer is told in status and holds nothing up. Only with type `LoadBalancer`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub require_address: bool,
    /// Namespace of the gateway, made if it doesn't exist. Default: the installation's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::is_dns_label("a gateway's namespace"))]
    pub namespace: Option<String>,
    /// The Service before the gateway.
    #[serde(default, skip_serializing_if = "is_default")]
    pub service: GatewayService,
    /// A fixed number of pods; no autoscaler is made. Excludes `autoscaling`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub replicas: Option<i32>,
    /// Let a `HorizontalPodAutoscaler` choose the number of pods. Excludes `replicas`.
    /// Default: 1 to 5 pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// CPU and memory of the gateway's pods. Example: `{requests: {cpu: 100m, memory: 128Mi}}`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// Labels that a node must have to run this gateway.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the gateway's pods accept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Where the gateway's pods should and shouldn't run, as in a pod's `spec.affinity`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Annotations added to the gateway's pods. A change restarts them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_annotations: BTreeMap<String, String>,
    /// Further values for Istio's `gateway` chart, merged last. Keys that the operator must own are
    /// refused. Example: `{terminationGracePeriodSeconds: 60}`.
    #[serde(default, skip_serializing_if = "FreeForm::is_empty")]
    pub values: FreeForm,
}

impl Gateway {
    /// The Service's type: what was written, else what fits the direction.
    #[must_use]
    pub fn service_type(&self) -> ServiceType {
        self.service_type_on(None)
    }

    /// The Service's type where the platform has a type of its own for gateways that let traffic in. It doesn't
    /// count where fields are set that only a load balancer has.
    #[must_use]
    pub fn service_type_on(&self, platform: Option<ServiceType>) -> ServiceType {
        self.service.type_.unwrap_or(match self.direction {
            Direction::Ingress if self.require_address || self.service.is_load_balancers() => ServiceType::LoadBalancer,
            Direction::Ingress => platform.unwrap_or(ServiceType::LoadBalancer),
            Direction::EastWest => ServiceType::LoadBalancer,
            Direction::Egress => ServiceType::ClusterIp,
        })
    }
}

/// Which way a gateway's traffic goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Direction {
    /// Into the mesh.
    #[default]
    Ingress,
    /// Out of the mesh.
    Egress,
    /// Between the clusters of one mesh.
    EastWest,
}

/// The Service before a gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayService {
    /// `LoadBalancer` (default for ingress), `ClusterIP` (default for egress) or `NodePort` (default
    /// for ingress on platforms without load balancers: minikube, tkgi, vmware-pks).
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ServiceType")]
    pub type_: Option<ServiceType>,
    /// The Service's ports. Default: the chart's, which are status-port 15021, http2 80 and https
    /// 443, or for `EastWest` status-port 15021, tls 15443, tls-istiod 15012 and tls-webhook 15017:
    /// those names alone, each of which may get another port or a nodePort. Cloud load balancers check
    /// the health of the first port, so a port named status-port is put there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = rules::ports_are_distinct(),
        validation = rules::node_ports_are_distinct()
    )]
    pub ports: Vec<GatewayPort>,
    /// Annotations of the Service; cloud load balancers are configured by them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Which load balancer implementation serves this Service. Only with type `LoadBalancer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317))]
    #[x_kube(validation = rules::is_load_balancer_class())]
    pub load_balancer_class: Option<String>,
    /// Client addresses that the load balancer lets in, as CIDRs. Default: all. Only with type
    /// `LoadBalancer`. Example: `["203.0.113.0/24"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 64)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rules::are_ranges("loadBalancerSourceRanges")
    )]
    pub load_balancer_source_ranges: Vec<String>,
    /// `Cluster` (default) or `Local`, which keeps the client's address and sends traffic only to
    /// nodes that run the gateway. Only with type `NodePort` or `LoadBalancer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ExternalTrafficPolicy")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
    /// False: the load balancer reaches pods without node ports, so none are taken. Default: true.
    /// Only with type `LoadBalancer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocate_load_balancer_node_ports: Option<bool>,
}

impl GatewayService {
    /// Whether fields are set that only a Service of type `LoadBalancer` has.
    fn is_load_balancers(&self) -> bool {
        self.load_balancer_class.is_some()
            || !self.load_balancer_source_ranges.is_empty()
            || self.allocate_load_balancer_node_ports.is_some()
    }
}

/// How a Service is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// From outside, through a load balancer.
    LoadBalancer,
    /// From outside, through a port of every node.
    NodePort,
    /// From inside the cluster only.
    #[serde(rename = "ClusterIP")]
    ClusterIp,
}

impl ServiceType {
    /// The type as a Service's `spec.type` spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LoadBalancer => "LoadBalancer",
            Self::NodePort => "NodePort",
            Self::ClusterIp => "ClusterIP",
        }
    }
}

/// Which nodes take traffic for a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExternalTrafficPolicy {
    /// Every node, at the price of the client's address.
    Cluster,
    /// Nodes that run the gateway.
    Local,
}

impl ExternalTrafficPolicy {
    /// The policy as a Service's spec spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Local => "Local",
        }
    }
}

/// One port of a gateway's Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayPort {
    /// The port's name, unique in the gateway. Istio reads the protocol from it. Example: `http2`.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// The port that clients of the Service use, 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The port of the gateway's pods, 1 to 65535. Default: `port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub target_port: Option<i32>,
    /// The port of every node, inside the cluster's node port range. Default: chosen as
    /// spec.nodePorts.assignment says. Only with type `NodePort` or `LoadBalancer`. Example: `30401`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub node_port: Option<i32>,
    /// `TCP` (default) or `UDP`.
    #[serde(default)]
    pub protocol: Protocol,
}

/// Transport protocol of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP, which HTTP/3 uses.
    Udp,
}

impl Protocol {
    /// The protocol as Kubernetes spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}
