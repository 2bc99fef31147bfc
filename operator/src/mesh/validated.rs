//! A validated spec, which is the only form that rendering and planning accept.

use std::collections::{BTreeMap, BTreeSet};

use meshwright_api::{Images, PlatformStatus};
use serde_json::Value;

use super::add_ons::AddOnRelease;
use super::images;
use super::merge::get;
use super::node_placement;
use super::object::{Component, Owner};
use super::operator_defaults::OperatorDefaults;
use super::patch::ParsedPatch;
use super::revisions::Revision;
use crate::catalog::{ChartName, ReleaseImages};
use crate::nodeports::{Pins, PortKey};

/// The input of rendering: charts, values and namespaces.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedSpec {
    /// The installation that owns the objects, and the exact release.
    pub owner: Owner,
    /// Namespace of the control plane.
    pub namespace: String,
    /// Revision of the control plane.
    pub revision: Revision,
    /// Revision tags of the control plane.
    pub tags: BTreeSet<String>,
    /// Namespaces of all releases.
    pub namespaces: BTreeMap<String, MeshNamespace>,
    /// Releases of Istio's charts, in the order of installation.
    pub releases: Vec<ChartRelease>,
    /// Releases of add-ons, sorted by name.
    pub add_ons: Vec<AddOnRelease>,
    /// Gateways that need an address for the mesh to be ready.
    pub addresses_required: BTreeSet<String>,
    /// Patches of rendered objects, in the order of the spec.
    pub patches: Vec<ParsedPatch>,
    /// Node ports that the operator allocated or the spec sets.
    pub node_ports: Pins,
    /// Labels that the platform requires on webhook configurations.
    pub webhook_labels: BTreeMap<String, String>,
    /// Properties of the platform for status.
    pub platform: PlatformStatus,
    /// Generation of the values that the operator adds.
    pub defaults: OperatorDefaults,
}

/// A namespace that the mesh requires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshNamespace {
    /// Component that the Namespace object belongs to.
    pub component: Component,
    /// Desired labels of the Namespace object.
    pub labels: BTreeMap<String, String>,
}

/// A Helm release of one of Istio's charts.
#[derive(Clone, Debug, PartialEq)]
pub struct ChartRelease {
    /// Chart that is rendered.
    pub chart: ChartName,
    /// Release name, as in Istio's documentation.
    pub name: String,
    /// Namespace of the release.
    pub namespace: String,
    /// Component that the objects belong to.
    pub component: Component,
    /// Values that override the chart's defaults.
    pub values: Value,
}

impl ChartRelease {
    /// Identifies a node port of this release's Service.
    #[must_use]
    pub fn port_key(&self, port_name: &str) -> PortKey {
        PortKey { namespace: self.namespace.clone(), service: self.name.clone(), port_name: port_name.to_owned() }
    }
}

impl ValidatedSpec {
    /// A spec in istio-system without any releases.
    #[cfg(test)]
    pub(crate) fn empty(owner: Owner) -> Self {
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
            defaults: OperatorDefaults::FIRST,
        }
    }

    /// Sets the allocated node ports.
    #[must_use]
    pub fn with_node_ports(self, node_ports: Pins) -> Self {
        Self { node_ports, ..self }
    }

    /// Sets images with a digest in the chart values. `release` provides the tag, and the registry unless the spec sets
    /// one.
    #[must_use]
    pub fn with_image_digests(mut self, images: &Images, release: &ReleaseImages) -> Self {
        for wanted in &mut self.releases {
            images::write_digests(images, release, wanted.chart, &mut wanted.values);
        }
        self
    }

    /// Adds the operator's own values.
    #[must_use]
    pub fn with_defaults(mut self, defaults: OperatorDefaults) -> Self {
        self.defaults = defaults;
        for release in &mut self.releases {
            defaults.write(release.chart, &mut release.values);
        }
        for add_on in self.add_ons.iter_mut().filter(|_| defaults.selects_linux()) {
            node_placement::select_linux(&mut add_on.values);
        }
        self
    }

    /// Whether `name` is the revision of this control plane or one of its tags.
    #[must_use]
    pub fn has_revision_name(&self, name: &str) -> bool {
        self.revision.label() == name || self.tags.contains(name)
    }

    /// Name and namespace of each gateway.
    pub fn gateways(&self) -> impl Iterator<Item = (&str, &str)> {
        self.releases.iter().filter_map(|release| match &release.component {
            Component::Gateway(name) => Some((name.as_str(), release.namespace.as_str())),
            _ => None,
        })
    }

    /// Whether Istio's CNI plugin redirects the traffic of injected pods: it is part of the mesh, or the values of
    /// istiod declare it as installed.
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

    /// The enabled ones of cni and ztunnel, with their namespaces.
    pub fn node_components(&self) -> impl Iterator<Item = (&Component, &str)> {
        self.releases
            .iter()
            .filter(|release| matches!(release.component, Component::Cni | Component::Ztunnel))
            .map(|release| (&release.component, release.namespace.as_str()))
    }
}
