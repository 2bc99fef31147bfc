//! What a lab is to be like.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// One Node of the lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSpec {
    /// The Node's name.
    pub name: String,
    /// Labels beside `kubernetes.io/hostname`, `kubernetes.io/os` and `kubernetes.io/arch`, which every Node gets.
    pub labels: BTreeMap<String, String>,
    /// `spec.providerID`, by which a platform shows itself.
    pub provider_id: Option<String>,
    /// Capacity and allocatable resources, as quantities.
    pub allocatable: BTreeMap<String, String>,
}

impl NodeSpec {
    /// A Node with 16 CPUs, 64 GiB and room for 20,000 Pods.
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

/// How a lab is started. `LabOptions::default()` is one Node and Kubernetes' usual range of node ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabOptions {
    /// `--service-node-port-range` of the API server.
    pub node_port_range: String,
    /// The Nodes that are there from the start.
    pub nodes: Vec<NodeSpec>,
    /// Whether the API server writes an audit log, which [`crate::Lab::audit`] reads.
    pub audit: bool,
    /// Directory with Istio releases, as the operator's image carries one; default: `MESHWRIGHT_CATALOG`.
    pub catalog: Option<PathBuf>,
    /// The program that Pods with the image `meshwright` run; default: `MESHWRIGHT_BIN`, else what cargo built beside us.
    pub operator: Option<PathBuf>,
    /// Whether istiod's Pods run the real istiod; else kwok makes them ready, and nothing answers for them.
    pub real_istiod: bool,
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
            own: false,
        }
    }
}

impl LabOptions {
    /// Declares that the test uses powers that only a lab of our own has: the audit log, the port range, or the
    /// processes of Pods. It is then left out, by name, where tests run against somebody else's cluster.
    #[must_use]
    pub fn needs_own_lab(mut self) -> Self {
        self.own = true;
        self
    }

    /// With another range of node ports; needs a lab of our own.
    #[must_use]
    pub fn node_port_range(mut self, range: impl Into<String>) -> Self {
        self.node_port_range = range.into();
        self.needs_own_lab()
    }

    /// Without a real istiod: kwok plays its Pods, so what waits for a webhook waits for ever. Needs a lab of our own.
    #[must_use]
    pub fn istiod_by_kwok(mut self) -> Self {
        self.real_istiod = false;
        self.needs_own_lab()
    }

    /// With an audit log; needs a lab of our own.
    #[must_use]
    pub fn audited(mut self) -> Self {
        self.audit = true;
        self.needs_own_lab()
    }
}
