//! Our profiles: which components an installation starts from and with which values. Pure; the
//! table comes with the program.

use std::collections::{BTreeMap, BTreeSet};

use meshwright_api::Profile as Name;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{ChartName, yaml};

/// What an installation starts from, before anything that its spec says. Gateways are no part of
/// it: they come from the spec alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    description: String,
    components: BTreeSet<ChartName>,
    charts_own: Option<String>,
    platform: Option<String>,
    node_namespace: Option<String>,
    values: BTreeMap<ChartName, Value>,
}

/// A bundled profile is faulty; can't happen in a build whose tests pass.
#[derive(Debug, thiserror::Error)]
pub enum LoadProfileError {
    /// It is no YAML, or lacks a field, or has one that isn't known.
    #[error("profile {profile} can't be read")]
    Yaml {
        /// The profile.
        profile: &'static str,
        /// Cause.
        #[source]
        source: Box<serde_saphyr::Error>,
    },
    /// No mesh can do without these.
    #[error("profile {profile} must have component {component}")]
    Lacks {
        /// The profile.
        profile: &'static str,
        /// What it lacks.
        component: ChartName,
    },
    /// Values without effect.
    #[error("profile {profile} has values for {chart}, which is none of its components")]
    StrayValues {
        /// The profile.
        profile: &'static str,
        /// The chart.
        chart: ChartName,
    },
    /// Components are those that one can have or not.
    #[error("profile {profile} has gateways: those come from the spec")]
    Gateways {
        /// The profile.
        profile: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    description: String,
    components: BTreeSet<ChartName>,
    chart_profile: Option<String>,
    platform: Option<String>,
    node_namespace: Option<String>,
    #[serde(default)]
    values: BTreeMap<ChartName, Map<String, Value>>,
}

impl Profile {
    /// The profile with a name.
    pub fn get(name: Name) -> Result<Self, LoadProfileError> {
        let text = match name {
            Name::Default => include_str!("../../../bundled-manifests/profiles/default.yaml"),
            Name::Demo => include_str!("../../../bundled-manifests/profiles/demo.yaml"),
            Name::Minimal => include_str!("../../../bundled-manifests/profiles/minimal.yaml"),
            Name::Ambient => include_str!("../../../bundled-manifests/profiles/ambient.yaml"),
            Name::Stable => include_str!("../../../bundled-manifests/profiles/stable.yaml"),
            Name::Preview => include_str!("../../../bundled-manifests/profiles/preview.yaml"),
            Name::Openshift => include_str!("../../../bundled-manifests/profiles/openshift.yaml"),
            Name::OpenshiftAmbient => include_str!("../../../bundled-manifests/profiles/openshift-ambient.yaml"),
        };
        Self::parse(name.as_str(), text)
    }

    fn parse(profile: &'static str, text: &str) -> Result<Self, LoadProfileError> {
        let File { description, components, chart_profile, platform, node_namespace, values } =
            yaml::parse(text).map_err(|source| LoadProfileError::Yaml { profile, source })?;
        if let Some(component) = [ChartName::Base, ChartName::Istiod].into_iter().find(|c| !components.contains(c)) {
            return Err(LoadProfileError::Lacks { profile, component });
        }
        if components.contains(&ChartName::Gateway) {
            return Err(LoadProfileError::Gateways { profile });
        }
        if let Some(chart) = values.keys().copied().find(|chart| !components.contains(chart)) {
            return Err(LoadProfileError::StrayValues { profile, chart });
        }
        let values = values.into_iter().map(|(chart, values)| (chart, Value::Object(values))).collect();
        Ok(Self { description, components, charts_own: chart_profile, platform, node_namespace, values })
    }

    /// What it is for, in a sentence.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The charts that it installs.
    #[must_use]
    pub fn components(&self) -> &BTreeSet<ChartName> {
        &self.components
    }

    /// The profile of Istio's charts that it builds on, if it builds on one.
    #[must_use]
    pub fn chart_profile(&self) -> Option<&str> {
        self.charts_own.as_deref()
    }

    /// The platform that it is for, as Istio's charts name it, if it is for one alone.
    #[must_use]
    pub fn platform(&self) -> Option<&str> {
        self.platform.as_deref()
    }

    /// Where cni and ztunnel go unless the spec says; `None`: to the control plane.
    #[must_use]
    pub fn node_namespace(&self) -> Option<&str> {
        self.node_namespace.as_deref()
    }

    /// Its own values for a chart, laid on those of the charts' profile.
    #[must_use]
    pub fn values(&self, chart: ChartName) -> Option<&Value> {
        self.values.get(&chart)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Profile, LoadProfileError> {
        Profile::parse("test", text)
    }

    #[test]
    fn every_bundled_profile_is_sound() {
        for name in Name::ALL {
            let profile = Profile::get(name).unwrap();
            assert!(!profile.description().is_empty());
        }
    }

    #[test]
    fn a_profile_names_one_of_the_charts_own_or_none() {
        let of = |name| Profile::get(name).unwrap().chart_profile().map(str::to_owned);
        for name in Name::ALL {
            let charts_own = match name {
                Name::Default | Name::Minimal | Name::Openshift => None,
                Name::OpenshiftAmbient => Some("ambient"),
                Name::Demo | Name::Ambient | Name::Stable | Name::Preview => Some(name.as_str()),
            };
            assert_eq!(of(name).as_deref(), charts_own, "{name:?}");
        }
    }

    #[test]
    fn node_agents_come_with_ambient_and_openshift() {
        let agents = |name| {
            let profile = Profile::get(name).unwrap();
            [ChartName::Cni, ChartName::Ztunnel].map(|chart| profile.components().contains(&chart))
        };
        for name in Name::ALL {
            let expected = match name {
                Name::Ambient | Name::OpenshiftAmbient => [true, true],
                Name::Openshift => [true, false],
                _ => [false, false],
            };
            assert_eq!(agents(name), expected, "{name:?}");
        }
        let openshift = Profile::get(Name::Openshift).unwrap();
        assert_eq!((openshift.platform(), openshift.node_namespace()), (Some("openshift"), Some("kube-system")));
        assert_eq!(Profile::get(Name::Ambient).unwrap().node_namespace(), None);
    }

    #[test]
    fn minimal_is_one_small_istiod_that_does_not_scale() {
        let profile = Profile::get(Name::Minimal).unwrap();
        let istiod = profile.values(ChartName::Istiod).unwrap();
        assert_eq!(istiod.pointer("/autoscaleEnabled"), Some(&Value::Bool(false)));
        assert_eq!(istiod.pointer("/replicaCount"), Some(&Value::from(1)));
        assert!(istiod.pointer("/resources/requests/cpu").is_some_and(Value::is_string));
        assert_eq!(Profile::get(Name::Default).unwrap().values(ChartName::Istiod), None);
    }

    #[test]
    fn a_profile_without_the_control_plane_is_refused() {
        let result = parse("description: x\ncomponents: [base]\n");
        assert!(matches!(result, Err(LoadProfileError::Lacks { component: ChartName::Istiod, .. })));
    }

    #[test]
    fn values_for_what_is_not_installed_are_refused() {
        let result = parse("description: x\ncomponents: [base, istiod]\nvalues: {cni: {}}\n");
        assert!(matches!(result, Err(LoadProfileError::StrayValues { chart: ChartName::Cni, .. })));
    }

    #[test]
    fn gateways_and_unknown_fields_are_refused() {
        let result = parse("description: x\ncomponents: [base, istiod, gateway]\n");
        assert!(matches!(result, Err(LoadProfileError::Gateways { .. })));
        let result = parse("description: x\ncomponents: [base, istiod]\ngateways: []\n");
        assert!(matches!(result, Err(LoadProfileError::Yaml { .. })));
    }
}
