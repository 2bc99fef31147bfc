//! What Meshwright knows of the platforms that clusters run on, and which one this is.
//!
//! A platform is data: one file in `bundled-manifests/platforms`, taken into the program when it is built. [`file`] is its
//! schema, [`facts`] is what can be observed of a cluster, and [`detect`] goes from the one to the other. Everything here
//! is pure; `crate::apply` does the observing.

mod detect;
mod facts;
mod file;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use meshwright_api::{LoadBalancers, PlatformPermission, ServiceType};
use serde_json::Value;

pub use detect::{Detected, NODES_UNSEEN, detect};
pub use facts::{NodeFacts, Observed};
pub use file::{LoadPlatformError, NodePortRange};

use crate::catalog::ChartName;
use file::File;

/// The platform of which nothing is known.
pub const GENERIC: &str = "generic";

/// Name and text of each file.
const BUNDLED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/platforms.rs"));

/// One platform: how it shows itself, what the mesh must be like there, and what a person should know.
#[derive(Clone, Debug, PartialEq)]
pub struct Platform {
    name: String,
    file: File,
}

impl Platform {
    /// Reads a platform's file.
    pub fn parse(name: &str, text: &str) -> Result<Self, LoadPlatformError> {
        Ok(Self { name: name.to_owned(), file: File::parse(name, text)? })
    }

    /// Its name, that of its file.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is, in a sentence.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.file.description
    }

    /// Its name among the platforms of Istio's charts, if they know it: the value of `global.platform`.
    #[must_use]
    pub fn chart_platform(&self) -> Option<&str> {
        self.file.charts.platform.as_ref().map(|platform| platform.value.as_str())
    }

    /// Its values for a chart, over those of the charts' own platform.
    pub fn values(&self, chart: ChartName) -> impl Iterator<Item = &Value> {
        self.file.charts.values.iter().filter_map(move |values| values.value.get(&chart))
    }

    /// Components that the charts' values for this platform rely on, beside those of the profile.
    #[must_use]
    pub fn components(&self) -> BTreeSet<ChartName> {
        self.file.components.as_ref().map(|components| components.value.clone()).unwrap_or_default()
    }

    /// The type of an ingress gateway's Service where the spec doesn't say; `None`: as everywhere.
    #[must_use]
    pub fn gateway_service_type(&self) -> Option<ServiceType> {
        self.file.gateway_service_type.as_ref().map(|service_type| service_type.value)
    }

    /// The node ports that its API server gives out, where that isn't Kubernetes' usual range.
    #[must_use]
    pub fn node_port_range(&self) -> Option<NodePortRange> {
        self.file.node_port_range.as_ref().map(|range| range.value)
    }

    /// The namespace of cni and ztunnel where the spec doesn't say; `None`: the control plane's.
    #[must_use]
    pub fn node_namespace(&self) -> Option<&str> {
        self.file.node_namespace.as_ref().map(|namespace| namespace.value.as_str())
    }

    /// Labels that webhook configurations need there.
    #[must_use]
    pub fn webhook_labels(&self) -> BTreeMap<String, String> {
        self.file.webhook_labels.as_ref().map(|labels| labels.value.clone()).unwrap_or_default()
    }

    /// Whether Services of type `LoadBalancer` get an address.
    #[must_use]
    pub fn load_balancer(&self) -> LoadBalancers {
        self.file.load_balancer.as_ref().map(|provided| provided.value).unwrap_or_default()
    }

    /// Whether privileged pods may run.
    #[must_use]
    pub fn privileged_pods(&self) -> PlatformPermission {
        self.file.privileged_pods.as_ref().map(|permission| permission.value).unwrap_or_default()
    }

    /// Whether pods may mount directories of the node.
    #[must_use]
    pub fn host_paths(&self) -> PlatformPermission {
        self.file.host_paths.as_ref().map(|permission| permission.value).unwrap_or_default()
    }

    /// What the platform forbids, in words.
    #[must_use]
    pub fn forbids(&self) -> Vec<&'static str> {
        let forbidden = [
            (self.privileged_pods() == PlatformPermission::Forbidden, "privileged pods, which cni and ztunnel need"),
            (self.host_paths() == PlatformPermission::Forbidden, "directories of the node, which cni and ztunnel need"),
            (
                self.load_balancer() == LoadBalancers::Absent,
                "Services of type LoadBalancer, for want of load balancers",
            ),
        ];
        forbidden.into_iter().filter_map(|(holds, what)| holds.then_some(what)).collect()
    }

    /// What must be true of the cluster for the mesh to work.
    pub fn requires(&self) -> impl Iterator<Item = &str> {
        self.file.requires.iter().map(|fact| fact.value.as_str())
    }

    /// What a person should know before installing.
    pub fn notes(&self) -> impl Iterator<Item = &str> {
        self.file.notes.iter().map(|fact| fact.value.as_str())
    }

    /// Every fact with where it is from.
    #[cfg(test)]
    fn sources(&self) -> Vec<&str> {
        self.file.sources()
    }

    fn evidence(&self) -> &file::Detection {
        &self.file.detection
    }
}

/// Every platform that comes with the program.
#[derive(Clone, Debug, PartialEq)]
pub struct Platforms(Vec<Platform>);

impl Platforms {
    /// Reads the files that come with the program. They are all good in a build whose tests pass.
    pub fn bundled() -> Result<Self, LoadPlatformError> {
        BUNDLED.iter().map(|(name, text)| Platform::parse(name, text)).collect::<Result<_, _>>().map(Self)
    }

    /// The platform of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Platform> {
        self.0.iter().find(|platform| platform.name == name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Platform> {
        self.0.iter()
    }
}
