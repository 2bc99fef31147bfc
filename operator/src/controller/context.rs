//! The dependencies of a reconcile.

use std::collections::BTreeSet;

use kube::ResourceExt as _;
use kube::runtime::reflector::Store;
use meshwright_api::MeshInstallation;

use super::Watched;
use super::cache::ReconcileCache;
use super::events::EventSink;
use super::options::OperatorOptions;
use super::releases::ReleaseStore;
use crate::apply::{
    Applier, Changes, ClusterDetector, GatewayApi, GatewayPods, InjectionChecker, Inventory, Nodes, OwnPermissions,
    PodDiagnostics, Reader, RevisionHistory, ServerVersion,
};
use crate::mesh::peers::Peer;
use crate::mesh::revisions::Revision;
use crate::nodeports::NodePortServer;
use crate::proxies::{ProxyWatcher, WorkloadRestarter};
use crate::runtime::client::Clients;
use crate::runtime::metrics::Metrics;

/// The finalizer on every MeshInstallation whose mesh the operator has written.
pub const FINALIZER: &str = "meshwright.dev/uninstall";

/// Clients, caches and helpers that all reconciles share.
pub struct Context {
    /// The operator's command line.
    pub options: OperatorOptions,
    /// Separate API clients for watches and for requests.
    pub clients: Clients,
    /// The API server's version.
    pub server_version: ServerVersion,
    /// Live objects, as watched.
    pub inventory: Inventory,
    /// Reads live objects.
    pub reader: Reader,
    /// Writes objects of meshes.
    pub applier: Applier,
    /// The operator's own permissions.
    pub permissions: OwnPermissions,
    /// Replaces gateway pods that were never injected.
    pub gateway_pods: GatewayPods,
    /// Explains why pods do not start.
    pub pod_diagnostics: PodDiagnostics,
    /// Detects the Kubernetes Gateway API.
    pub gateway_api: GatewayApi,
    /// The ControllerRevisions of accepted specs.
    pub revision_history: RevisionHistory,
    /// Node ports in use and the API server's range.
    pub node_ports: NodePortServer,
    /// Addresses of the cluster's nodes.
    pub nodes: Nodes,
    /// Proxies that run in the cluster.
    pub proxies: ProxyWatcher,
    /// Restarts workloads with outdated proxies.
    pub restarts: WorkloadRestarter,
    /// Runs injection checks in the background.
    pub injection_checker: InjectionChecker,
    /// Detects the platform and namespaces with Pod Security.
    pub detector: ClusterDetector,
    /// Queue of Events to publish.
    pub events: EventSink,
    /// The operator's Prometheus metrics.
    pub metrics: Metrics,
    /// Requeues other installations.
    pub changes: Changes,
    /// Releases in catalogs and registries.
    pub releases: ReleaseStore,
    /// Data that a restart loses without harm.
    pub cache: ReconcileCache,
    /// All MeshInstallations, as watched; set when the controller starts.
    pub store: Option<Store<Watched>>,
}

impl Context {
    /// All MeshInstallations that can be parsed, by precedence.
    #[must_use]
    pub fn installations(&self) -> Vec<MeshInstallation> {
        let all = self.store.iter().flat_map(Store::state);
        by_precedence(all.filter_map(|watched| watched.0.as_ref().ok().cloned()).collect())
    }

    /// The MeshInstallations that can't be parsed.
    #[must_use]
    pub fn unreadable(&self) -> Vec<Peer> {
        use kube::Resource as _;
        let all = self.store.iter().flat_map(Store::state).filter(|watched| watched.0.is_err());
        all.map(|watched| Peer::unreadable(watched.name_any(), watched.meta().uid.clone().unwrap_or_default()))
            .collect()
    }

    /// The `istio.io/rev` values of an installation's control planes: one, or several with canary upgrades.
    #[must_use]
    pub fn revision_names(&self, installation: &MeshInstallation) -> Vec<String> {
        let named = self.revision_history.named(&installation.name_any());
        let own = Revision::of(&installation.spec).label().to_owned();
        // The control plane from before the first canary has no revision name.
        std::iter::once(own).chain(named).collect()
    }

    /// UIDs of all MeshInstallations, including those that cannot be parsed.
    #[must_use]
    pub fn existing(&self) -> BTreeSet<String> {
        use kube::Resource as _;
        self.store.iter().flat_map(Store::state).filter_map(|watched| watched.meta().uid.clone()).collect()
    }
}

/// Sorts MeshInstallations by precedence: first those with our finalizer, then the oldest. Creation timestamps have a
/// resolution of one second, so that the younger of two may have started first.
#[must_use]
pub fn by_precedence(mut all: Vec<MeshInstallation>) -> Vec<MeshInstallation> {
    let has_finalizer = |mi: &MeshInstallation| mi.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    all.sort_by_key(|mi| (!has_finalizer(mi), mi.metadata.creation_timestamp.clone(), mi.name_any()));
    all
}
