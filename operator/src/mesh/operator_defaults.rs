//! Values that the operator adds to the charts' own, by generation. A newer operator must not change a running mesh, so
//! each revision record names the generation that it was rendered with.

use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::loaded_configuration;
use super::merge::get;
use super::node_placement;
use super::revision::RevisionRecord;
use crate::catalog::ChartName;

/// The operator's namespace, unless it is installed in another one.
pub const OPERATOR_NAMESPACE: &str = "meshwright-system";

/// A generation of the operator's own values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OperatorDefaults(u32);

impl OperatorDefaults {
    /// Nothing is added. Records without a generation have this one.
    pub const FIRST: Self = Self(0);
    /// The generation of new revisions.
    pub const CURRENT: Self = Self(1);

    /// Whether this is [`Self::FIRST`], which records omit.
    #[must_use]
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub fn is_first(&self) -> bool {
        *self == Self::FIRST
    }

    /// The generation for a new revision of `version`, after the revision `active`. The generation changes only together
    /// with the release, since it changes pod templates; adopted pods are not restarted either.
    #[must_use]
    pub fn of_new_revision(active: Option<&RevisionRecord>, version: &Version, adopts: bool) -> Self {
        match active {
            Some(active) if active.inputs.version == *version => active.inputs.defaults,
            None if adopts => Self::FIRST,
            _ => Self::CURRENT,
        }
    }

    /// Whether the injector gets a template for the check that istiod has loaded its configuration.
    #[must_use]
    pub fn checks_loading(self) -> bool {
        self >= Self(1)
    }

    /// Whether all pods are scheduled on Linux nodes only, and those of istio-cni and ztunnel on no virtual node.
    #[must_use]
    pub fn selects_linux(self) -> bool {
        self >= Self(1)
    }

    /// Whether istio-cni leaves pods in the operator's usual namespace alone: a plugin that can't reach the API server
    /// keeps all other pods from starting, and only the operator repairs it.
    #[must_use]
    pub fn excludes_operator(self) -> bool {
        self >= Self(1)
    }

    /// Adds this generation's values of a chart. Values that are set already stay.
    pub fn write(self, chart: ChartName, values: &mut Value) {
        if self.selects_linux() {
            node_placement::write(chart, values);
        }
        if self.checks_loading() && chart == ChartName::Istiod {
            loaded_configuration::add_template(values);
        }
        if self.excludes_operator() && chart == ChartName::Cni {
            exclude_operator(values);
        }
    }
}

/// Adds the operator's namespace to the chart's default.
fn exclude_operator(values: &mut Value) {
    if get(values, "excludeNamespaces").is_none()
        && let Some(values) = values.as_object_mut()
    {
        values.insert("excludeNamespaces".into(), json!(["kube-system", OPERATOR_NAMESPACE]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_generation_adds_nothing() {
        for chart in [ChartName::Base, ChartName::Istiod, ChartName::Gateway, ChartName::Cni, ChartName::Ztunnel] {
            let mut values = json!({"a": 1});
            OperatorDefaults::FIRST.write(chart, &mut values);
            assert_eq!(values, json!({"a": 1}), "{chart}");
        }
    }

    #[test]
    fn istio_cni_excludes_the_operator() {
        let excluded = |given: Value| {
            let mut values = given;
            OperatorDefaults::CURRENT.write(ChartName::Cni, &mut values);
            values["excludeNamespaces"].clone()
        };
        assert_eq!(excluded(json!({})), json!(["kube-system", "meshwright-system"]));
        assert_eq!(excluded(json!({"excludeNamespaces": ["legacy"]})), json!(["legacy"]), "as the user has set it");
    }

    #[test]
    fn current_generation_places_pods() {
        let mut values = json!({});
        OperatorDefaults::CURRENT.write(ChartName::Gateway, &mut values);
        assert_eq!(values, json!({"nodeSelector": {"kubernetes.io/os": "linux"}}));
    }
}
