//! What can be observed of a cluster.

use std::collections::{BTreeMap, BTreeSet};

/// A cluster, as far as it shows which platform it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Nodes, or some of them in a large cluster.
    pub nodes: Vec<NodeFacts>,
    /// Version of the API server, build suffix included. Example: `v1.33.5+k3s1`.
    pub server_version: String,
    /// API groups that are served.
    pub api_groups: BTreeSet<String>,
}

/// A node, as far as it shows which platform it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// `spec.providerID`; empty where there is none.
    pub provider_id: String,
}
