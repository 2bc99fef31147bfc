//! `spec.nodePorts`: which ports of the nodes the gateways may have, and who chooses them.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules;

/// How the gateways come by their node ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodePorts {
    /// The ports that gateways may have, first and last; it must lie inside the API server's range.
    /// Default: the API server's range, which the operator finds out. Example: `30400-30449`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 11))]
    #[x_kube(validation = rules::is_port_range())]
    pub range: Option<String>,
    /// Ports of the range that no gateway may have, single or as ranges.
    /// Example: `["30431", "30440-30444"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), inner(length(max = 11)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rules::are_ports_or_ranges("nodePorts.reserved")
    )]
    pub reserved: Vec<String>,
    /// Who chooses the node ports that the gateways' ports don't name: `Stable` (default): the
    /// operator, which writes them down and keeps them. `Kubernetes`: the API server, anew whenever
    /// a Service is made again.
    #[serde(default)]
    pub assignment: NodePortAssignment,
}

/// Who chooses node ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NodePortAssignment {
    /// The operator, once.
    #[default]
    Stable,
    /// The API server.
    Kubernetes,
}
