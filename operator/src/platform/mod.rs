//! Kubernetes platforms and their detection.
//!
//! Each platform is defined by a file in `bundled-manifests/platforms`, which is embedded at build time. [`file`]
//! contains the schema of these files, [`facts`] the facts about a cluster, and [`detect`] the detection. This module
//! is pure; `crate::apply` reads the cluster.

mod detect;
mod facts;
mod file;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use meshwright_api::{LoadBalancerSupport, PlatformPermission, ServiceType};
use serde_json::Value;

pub use detect::{DetectedPlatform, NODES_NOT_LISTED, detect};
pub use facts::{ClusterFacts, NodeFacts};
pub use file::{LoadPlatformError, NodePortRange};

use crate::catalog::ChartName;
use file::PlatformFile;

/// Name of the platform that is used if none is detected.
pub const GENERIC: &str = "generic";

/// Name and content of all platform files.
const BUNDLED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/platforms.rs"));

/// A platform: its detection rules, its defaults for the mesh and notes for users.
#[derive(Clone, Debug, PartialEq)]
pub struct Platform {
    name: String,
    file: PlatformFile,
}

impl Platform {
    /// Parses a platform file.
    pub fn parse(name: &str, text: &str) -> Result<Self, LoadPlatformError> {
        Ok(Self { name: name.to_owned(), file: PlatformFile::parse(name, text)? })
    }

    /// Returns the platform's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns a one-sentence description.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.file.description
    }

    /// Returns the value of `global.platform` in Istio's charts, if they support the platform.
    #[must_use]
    pub fn chart_platform(&self) -> Option<&str> {
        self.file.charts.platform.as_ref().map(|platform| platform.value.as_str())
    }

    /// Returns values for a chart, which take precedence over the chart's values for the platform.
    pub fn values(&self, chart: ChartName) -> impl Iterator<Item = &Value> {
        self.file.charts.values.iter().filter_map(move |values| values.value.get(&chart))
    }

    /// Returns components that the charts' values for this platform require in addition to those of the profile.
    #[must_use]
    pub fn components(&self) -> BTreeSet<ChartName> {
        self.file.components.as_ref().map(|components| components.value.clone()).unwrap_or_default()
    }

    /// Returns the default type of ingress gateway Services, if the platform has its own.
    #[must_use]
    pub fn gateway_service_type(&self) -> Option<ServiceType> {
        self.file.gateway_service_type.as_ref().map(|service_type| service_type.value)
    }

    /// Returns the node port range, if it differs from Kubernetes' default.
    #[must_use]
    pub fn node_port_range(&self) -> Option<NodePortRange> {
        self.file.node_port_range.as_ref().map(|range| range.value)
    }

    /// Returns the default namespace of cni and ztunnel; `None` for the control plane's namespace.
    #[must_use]
    pub fn node_namespace(&self) -> Option<&str> {
        self.file.node_namespace.as_ref().map(|namespace| namespace.value.as_str())
    }

    /// Returns labels that webhook configurations need on the platform.
    #[must_use]
    pub fn webhook_labels(&self) -> BTreeMap<String, String> {
        self.file.webhook_labels.as_ref().map(|labels| labels.value.clone()).unwrap_or_default()
    }

    /// Returns whether Services of type `LoadBalancer` get an address.
    #[must_use]
    pub fn load_balancer(&self) -> LoadBalancerSupport {
        self.file.load_balancer.as_ref().map(|provided| provided.value).unwrap_or_default()
    }

    /// Returns whether the platform allows privileged pods.
    #[must_use]
    pub fn privileged_pods(&self) -> PlatformPermission {
        self.file.privileged_pods.as_ref().map(|permission| permission.value).unwrap_or_default()
    }

    /// Returns whether the platform allows hostPath volumes.
    #[must_use]
    pub fn host_paths(&self) -> PlatformPermission {
        self.file.host_paths.as_ref().map(|permission| permission.value).unwrap_or_default()
    }

    /// Describes what the platform forbids.
    #[must_use]
    pub fn forbids(&self) -> Vec<&'static str> {
        let forbidden = [
            (self.privileged_pods() == PlatformPermission::Forbidden, "privileged pods, which cni and ztunnel require"),
            (self.host_paths() == PlatformPermission::Forbidden, "hostPath volumes, which cni and ztunnel require"),
            (
                self.load_balancer() == LoadBalancerSupport::Absent,
                "Services of type LoadBalancer, because it has no load balancers",
            ),
        ];
        forbidden.into_iter().filter_map(|(holds, what)| holds.then_some(what)).collect()
    }

    /// Returns requirements for the cluster.
    pub fn requires(&self) -> impl Iterator<Item = &str> {
        self.file.requires.iter().map(|fact| fact.value.as_str())
    }

    /// Returns notes for users.
    pub fn notes(&self) -> impl Iterator<Item = &str> {
        self.file.notes.iter().map(|fact| fact.value.as_str())
    }

    /// Returns the sources of all facts.
    #[cfg(test)]
    fn sources(&self) -> Vec<&str> {
        self.file.sources()
    }

    fn detection(&self) -> &file::Detection {
        &self.file.detection
    }
}

/// All embedded platforms.
#[derive(Clone, Debug, PartialEq)]
pub struct Platforms(Vec<Platform>);

impl Platforms {
    /// Parses the embedded platform files. Tests ensure that they are valid.
    pub fn bundled() -> Result<Self, LoadPlatformError> {
        BUNDLED.iter().map(|(name, text)| Platform::parse(name, text)).collect::<Result<_, _>>().map(Self)
    }

    /// Returns the platform with a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Platform> {
        self.0.iter().find(|platform| platform.name == name)
    }

    /// Returns all platforms sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &Platform> {
        self.0.iter()
    }
}
