//! `spec.nodePorts`: range and assignment of the gateways' node ports.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules;

/// Range and assignment of the gateways' node ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodePorts {
    /// Range from which the operator chooses node ports for gateways, as first and last port. It must be inside the API
    /// server's node port range. The operator chooses from its part in 30000-32767 first, and never ports that nodes
    /// need, such as those below 1024; an explicit `nodePort` can be any port in the API server's range.
    /// Default: the API server's range, which the operator discovers. Example: `30400-30449`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 11))]
    #[x_kube(validation = rules::is_port_range())]
    pub range: Option<String>,
    /// Ports and ranges of ports that the operator must not assign to gateways.
    /// Example: `["30431", "30440-30444"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), inner(length(max = 11)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rules::are_ports_or_ranges("nodePorts.reserved")
    )]
    pub reserved: Vec<String>,
    /// How node ports are assigned to gateway ports without `nodePort`. `Stable` (default): the operator chooses them
    /// and keeps them when a Service is recreated. `Kubernetes`: the API server allocates them, possibly different
    /// ones whenever a Service is recreated.
    #[serde(default)]
    pub assignment: NodePortAssignment,
}

/// How node ports are assigned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NodePortAssignment {
    /// The operator chooses node ports and keeps them.
    #[default]
    Stable,
    /// The API server allocates node ports.
    Kubernetes,
}
