//! `spec.addons`: tools that show what the mesh does.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::FreeForm;

/// A tool beside the mesh, in the control plane's namespace. It never keeps the mesh from being Ready.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddOn {
    /// Which: `prometheus` (metrics and alerts), `grafana` (dashboards), `kiali` (the mesh as a graph)
    /// or `jaeger` (traces).
    pub name: AddOnName,
    /// Values of the add-on, which its own schema checks: one that it doesn't know, or of another
    /// type, is refused by name, and nothing is applied. Example: `{retention: 7d}`.
    #[serde(default, skip_serializing_if = "FreeForm::is_empty")]
    pub values: FreeForm,
}

/// The add-ons that come with the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AddOnName {
    /// Metrics and alerts.
    Prometheus,
    /// Dashboards.
    Grafana,
    /// The mesh as a graph.
    Kiali,
    /// Traces.
    Jaeger,
}

impl AddOnName {
    /// Every add-on.
    pub const ALL: [Self; 4] = [Self::Prometheus, Self::Grafana, Self::Kiali, Self::Jaeger];

    /// The name as the spec spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prometheus => "prometheus",
            Self::Grafana => "grafana",
            Self::Kiali => "kiali",
            Self::Jaeger => "jaeger",
        }
    }
}
