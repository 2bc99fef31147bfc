//! A spec that was found good, in the only form that the rest of the pipeline reads.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::object::{Component, Owner};
use crate::catalog::ChartName;

/// All that rendering needs: which charts, with which values, into which namespaces.
#[derive(Clone, Debug, PartialEq)]
pub struct Validated {
    /// Whose objects, and of which release.
    pub owner: Owner,
    /// Namespace of the control plane.
    pub namespace: String,
    /// Namespaces that must exist, with the labels that they shall have.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Charts, in the order of installation.
    pub releases: Vec<ChartRelease>,
    /// Gateways without which's address the mesh isn't ready.
    pub addresses_required: BTreeSet<String>,
    /// Node ports that the spec asks for.
    pub explicit_node_ports: Vec<i32>,
}

/// One chart with its values.
#[derive(Clone, Debug, PartialEq)]
pub struct ChartRelease {
    /// The chart.
    pub chart: ChartName,
    /// The release's name, Istio's usual one.
    pub name: String,
    /// The namespace.
    pub namespace: String,
    /// What its objects belong to.
    pub component: Component,
    /// Values, laid on the chart's own.
    pub values: Value,
}

impl Validated {
    /// Names and namespaces of the gateways.
    pub fn gateways(&self) -> impl Iterator<Item = (&str, &str)> {
        self.releases.iter().filter_map(|release| match &release.component {
            Component::Gateway(name) => Some((name.as_str(), release.namespace.as_str())),
            _ => None,
        })
    }
}
