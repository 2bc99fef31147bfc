//! Facts about a cluster that the platform detection uses.

use std::collections::{BTreeMap, BTreeSet};

/// Facts about a cluster that indicate its platform.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterFacts {
    /// All nodes, or some of them in a large cluster.
    pub nodes: Vec<NodeFacts>,
    /// Version of the API server, including the build suffix. Example: `v1.33.5+k3s1`.
    pub server_version: String,
    /// API groups that the API server serves.
    pub api_groups: BTreeSet<String>,
}

/// Facts about a node that indicate the platform.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Name of the node.
    pub name: String,
    /// Labels of the node.
    pub labels: BTreeMap<String, String>,
    /// `spec.providerID` of the node; empty if unset.
    pub provider_id: String,
}
