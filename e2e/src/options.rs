//! Options of a lab.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// A simulated Node of the lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSpec {
    /// `metadata.name` of the Node.
    pub name: String,
    /// Labels in addition to `kubernetes.io/hostname`, `kubernetes.io/os` and `kubernetes.io/arch`.
    pub labels: BTreeMap<String, String>,
    /// `spec.providerID`, which identifies a platform.
    pub provider_id: Option<String>,
    /// Capacity and allocatable resources, as quantities.
    pub allocatable: BTreeMap<String, String>,
}

impl NodeSpec {
    /// Creates a Node with 16 CPUs, 64 GiB of memory and a limit of 20,000 Pods.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let allocatable = [("cpu", "16"), ("memory", "64Gi"), ("pods", "20000"), ("ephemeral-storage", "100Gi")];
        Self {
            name: name.into(),
            labels: BTreeMap::new(),
            provider_id: None,
            allocatable: allocatable.into_iter().map(|(name, amount)| (name.to_owned(), amount.to_owned())).collect(),
        }
    }
}

/// Whether processes of Pods have the memory limit of their container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemoryLimit {
    /// They may use all memory of the machine.
    Ignored,
    /// The kernel kills a process that exceeds it.
    Enforced,
}

/// Options of a lab. The default is one Node and Kubernetes' default node port range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabOptions {
    /// `--service-node-port-range` of the API server.
    pub node_port_range: String,
    /// Nodes that exist from the start.
    pub nodes: Vec<NodeSpec>,
    /// Whether the API server writes an audit log, which [`crate::Lab::audit`] reads.
    pub audit: bool,
    /// Catalog directory for the operator; default: `MESHWRIGHT_CATALOG`.
    pub catalog: Option<PathBuf>,
    /// Program for Pods with the image `meshwright`; default: `MESHWRIGHT_BIN`, else the one in cargo's target
    /// directory.
    pub operator: Option<PathBuf>,
    /// Whether istiod's Pods run the real istiod; otherwise kwok reports them as ready, and no webhook responds.
    pub real_istiod: bool,
    pub(crate) operator_memory: MemoryLimit,
    pub(crate) own: bool,
}

impl Default for LabOptions {
    fn default() -> Self {
        Self {
            node_port_range: "30000-32767".to_owned(),
            nodes: vec![NodeSpec::new("node-1")],
            audit: false,
            catalog: None,
            operator: None,
            real_istiod: true,
            operator_memory: MemoryLimit::Ignored,
            own: false,
        }
    }
}

impl LabOptions {
    /// Declares that the test uses features that an external cluster lacks: the audit log, the node port range, or the
    /// processes of Pods. The test is then skipped on external clusters.
    #[must_use]
    pub fn needs_own_lab(mut self) -> Self {
        self.own = true;
        self
    }

    /// Sets the node port range; not available on external clusters.
    #[must_use]
    pub fn node_port_range(mut self, range: impl Into<String>) -> Self {
        self.node_port_range = range.into();
        self.needs_own_lab()
    }

    /// Simulates istiod's Pods by kwok, so that waiting for a webhook never ends; not available on external clusters.
    #[must_use]
    pub fn fake_istiod(mut self) -> Self {
        self.real_istiod = false;
        self.needs_own_lab()
    }

    /// Runs the operator's processes with the memory limit of their container; not available on external clusters.
    #[must_use]
    pub fn limit_operator_memory(mut self) -> Self {
        self.operator_memory = MemoryLimit::Enforced;
        self.needs_own_lab()
    }

    /// Whether this machine has memory cgroups that the lab may create, which [`Self::limit_operator_memory`] needs.
    #[must_use]
    pub fn can_limit_memory() -> bool {
        crate::runner::memory_cgroup::is_available()
    }

    /// Enables the audit log; not available on external clusters.
    #[must_use]
    pub fn audited(mut self) -> Self {
        self.audit = true;
        self.needs_own_lab()
    }
}
