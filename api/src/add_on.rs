//! `spec.addons`: observability add-ons.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::FreeForm;

/// An observability add-on in the control plane's namespace. The condition Ready does not depend on add-ons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddOn {
    /// Name of the add-on: `prometheus` (metrics and alerts), `grafana` (dashboards), `kiali` (service graph)
    /// or `jaeger` (distributed tracing).
    pub name: AddOnName,
    /// Helm values of the add-on, validated against its schema. If a value is unknown or has the wrong type,
    /// the operator reports it and applies nothing. Example: `{retention: 7d}`.
    #[serde(default, skip_serializing_if = "FreeForm::is_empty")]
    pub values: FreeForm,
}

/// The add-ons included in the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AddOnName {
    /// Metrics and alerts (Prometheus).
    Prometheus,
    /// Dashboards of the mesh and of the operator (Grafana).
    Grafana,
    /// Service graph (Kiali).
    Kiali,
    /// Distributed tracing (Jaeger).
    Jaeger,
}

impl AddOnName {
    /// All add-ons in the order of their declaration.
    pub const ALL: [Self; 4] = [Self::Prometheus, Self::Grafana, Self::Kiali, Self::Jaeger];

    /// Returns the name as it is written in the spec.
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
