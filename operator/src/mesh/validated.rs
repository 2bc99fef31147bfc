//! A spec that was found good, in the only form that the rest of the pipeline reads.

use std::collections::{BTreeMap, BTreeSet};

use meshwright_api::{Images, PlatformStatus};
use serde_json::Value;

use super::add_ons::AddOnRelease;
use super::images;
use super::merge::get;
use super::object::{Component, Owner};
use super::patch::TargetedPatch;
use super::revisions::Revision;
use crate::catalog::{ChartName, release_file};
use crate::nodeports::{Pins, Slot};

/// All that rendering needs: which charts, with which values, into which namespaces.
#[derive(Clone, Debug, PartialEq)]
pub struct Validated {
    /// Whose objects, and of which release.
    pub owner: Owner,
    /// Namespace of the control plane.
    pub namespace: String,
    /// Revision of the control plane.
    pub revision: Revision,
    /// Further names by which pods ask for it.
    pub tags: BTreeSet<String>,
    /// Namespaces that must exist.
    pub namespaces: BTreeMap<String, MeshNamespace>,
    /// Charts, in the order of installation.
    pub releases: Vec<ChartRelease>,
    /// Add-ons, by name.
    pub add_ons: Vec<AddOnRelease>,
    /// Gateways without which's address the mesh isn't ready.
    pub addresses_required: BTreeSet<String>,
    /// Changes to rendered objects, in their order.
    pub patches: Vec<TargetedPatch>,
    /// Node ports that are pinned.
    pub node_ports: Pins,
    /// Labels that the platform wants on webhook configurations.
    pub webhook_labels: BTreeMap<String, String>,
    /// The platform, as status tells of it.
    pub platform: PlatformStatus,
}

/// A namespace that must exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshNamespace {
    /// What it is for.
    pub component: Component,
    /// Labels that it shall have.
    pub labels: BTreeMap<String, String>,
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

impl ChartRelease {
    /// What a node port of this release's Service is for.
    #[must_use]
    pub fn slot(&self, port_name: &str) -> Slot {
        Slot { namespace: self.namespace.clone(), service: self.name.clone(), port_name: port_name.to_owned() }
    }
}

impl Validated {
    /// One in istio-system, with nothing in it.
    #[cfg(test)]
    pub(crate) fn bare(owner: Owner) -> Self {
        Self {
            owner,
            namespace: "istio-system".into(),
            revision: Revision::Default,
            tags: BTreeSet::new(),
            namespaces: BTreeMap::new(),
            releases: Vec::new(),
            add_ons: Vec::new(),
            addresses_required: BTreeSet::new(),
            patches: Vec::new(),
            node_ports: Pins::default(),
            webhook_labels: BTreeMap::new(),
            platform: PlatformStatus::default(),
        }
    }

    /// With these node ports pinned.
    #[must_use]
    pub fn pin(self, node_ports: Pins) -> Self {
        Self { node_ports, ..self }
    }

    /// With the images named that have a digest. `release` has their registry and tag where the spec says nothing else.
    #[must_use]
    pub fn name_images(mut self, images: &Images, release: &release_file::Images) -> Self {
        for wanted in &mut self.releases {
            images::write(images, release, wanted.chart, &mut wanted.values);
        }
        self
    }

    /// Whether pods and namespaces that ask for a control plane by this name mean this one.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        self.revision.label() == name || self.tags.contains(name)
    }

    /// Names and namespaces of the gateways.
    pub fn gateways(&self) -> impl Iterator<Item = (&str, &str)> {
        self.releases.iter().filter_map(|release| match &release.component {
            Component::Gateway(name) => Some((name.as_str(), release.namespace.as_str())),
            _ => None,
        })
    }

    /// Whether injected pods leave the redirection to Istio's CNI plugin: it is installed, or istiod is told that it is
    /// there.
    #[must_use]
    pub fn has_cni(&self) -> bool {
        self.releases.iter().any(|release| match release.chart {
            ChartName::Cni => true,
            ChartName::Istiod => ["cni.enabled", "pilot.cni.enabled"]
                .iter()
                .any(|path| get(&release.values, path) == Some(&Value::Bool(true))),
            _ => false,
        })
    }

    /// The components with a pod on every node, and their namespaces.
    pub fn node_agents(&self) -> impl Iterator<Item = (&Component, &str)> {
        self.releases
            .iter()
            .filter(|release| matches!(release.component, Component::Cni | Component::Ztunnel))
            .map(|release| (&release.component, release.namespace.as_str()))
    }
}
