//! What every reconcile is given.

use std::collections::BTreeSet;

use kube::ResourceExt as _;
use kube::runtime::reflector::Store;
use meshwright_api::MeshInstallation;
use meshwright_chart::Capabilities;

use super::Watched;
use super::events::EventSink;
use super::memory::Memory;
use super::options::Options;
use super::releases::Releases;
use crate::apply::{
    Applier, Changes, GatewayApi, GatewayPods, Inventory, Nodes, OwnRights, Prober, Reader, Revisions, Surveyor,
    Symptoms,
};
use crate::mesh::revisions::Revision;
use crate::nodeports::NodePortServer;
use crate::proxies::{Proxies, Restarts};
use crate::runtime::client::Clients;
use crate::runtime::metrics::Metrics;

/// On every installation that we look after.
pub const FINALIZER: &str = "meshwright.dev/uninstall";

/// Everything that a reconcile works with.
pub struct Context {
    /// Options.
    pub options: Options,
    /// API clients.
    pub clients: Clients,
    /// What the charts see of the server.
    pub capabilities: Capabilities,
    /// Live objects.
    pub inventory: Inventory,
    /// Reads.
    pub reader: Reader,
    /// Writes.
    pub applier: Applier,
    /// What the operator may do.
    pub rights: OwnRights,
    /// Gateway pods that were never injected.
    pub gateway_pods: GatewayPods,
    /// Why pods don't come up.
    pub symptoms: Symptoms,
    /// Whether the cluster has the Gateway API.
    pub gateway_api: GatewayApi,
    /// The operator's memory in the cluster.
    pub revisions: Revisions,
    /// What the API server says of node ports.
    pub node_ports: NodePortServer,
    /// The cluster's nodes.
    pub nodes: Nodes,
    /// The proxies that run.
    pub proxies: Proxies,
    /// Workloads that are restarted for their proxies' sake.
    pub restarts: Restarts,
    /// The proof of injection.
    pub prober: Prober,
    /// The platform, and what its namespaces refuse.
    pub surveyor: Surveyor,
    /// Events.
    pub events: EventSink,
    /// Metrics.
    pub metrics: Metrics,
    /// Calls for a reconcile of another installation.
    pub changes: Changes,
    /// The releases that there are.
    pub releases: Releases,
    /// What is kept between reconciles and can be made anew.
    pub memory: Memory,
    /// All installations, as watched; set when the controller starts.
    pub store: Option<Store<Watched>>,
}

impl Context {
    /// All installations that can be read, by precedence.
    #[must_use]
    pub fn installations(&self) -> Vec<MeshInstallation> {
        let all = self.store.iter().flat_map(Store::state);
        by_precedence(all.filter_map(|watched| watched.0.as_ref().ok().cloned()).collect())
    }

    /// The names that an installation's control planes have as revisions: one, or several where the operator names them.
    #[must_use]
    pub fn revision_names(&self, installation: &MeshInstallation) -> Vec<String> {
        let named = self.revisions.named(&installation.name_any());
        let own = Revision::of(&installation.spec).label().to_owned();
        // What ran before the first canary has no name.
        std::iter::once(own).chain(named).collect()
    }

    /// UIDs of all installations, readable or not.
    #[must_use]
    pub fn existing(&self) -> BTreeSet<String> {
        use kube::Resource as _;
        self.store.iter().flat_map(Store::state).filter_map(|watched| watched.meta().uid.clone()).collect()
    }
}

/// Installations in the order in which they come: first those that we have taken charge of, then the oldest. Times of
/// creation are whole seconds, so that the younger of two may have begun.
#[must_use]
pub fn by_precedence(mut all: Vec<MeshInstallation>) -> Vec<MeshInstallation> {
    let in_charge = |mi: &MeshInstallation| mi.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    all.sort_by_key(|mi| (!in_charge(mi), mi.metadata.creation_timestamp.clone(), mi.name_any()));
    all
}
