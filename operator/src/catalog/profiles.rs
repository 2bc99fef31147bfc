//! Meshwright's profiles: components and default values of an installation. Pure; the profiles are compiled in.

use std::collections::{BTreeMap, BTreeSet};

use meshwright_api::Profile as Name;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{ChartName, yaml};

/// The components and values that an installation has before its spec is applied. A profile has no gateways: they are
/// defined by the spec only.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    description: String,
    components: BTreeSet<ChartName>,
    in_charts: Option<String>,
    platform: Option<String>,
    node_namespace: Option<String>,
    values: BTreeMap<ChartName, Value>,
}

/// A bundled profile is invalid; can't happen in a build whose tests pass.
#[derive(Debug, thiserror::Error)]
pub enum LoadProfileError {
    /// Invalid YAML, or a missing or unknown field.
    #[error("can't parse profile {profile}")]
    Yaml {
        profile: &'static str,
        #[source]
        source: Box<serde_saphyr::Error>,
    },
    /// A required component is missing.
    #[error("profile {profile} must have component {component}")]
    MissingComponent { profile: &'static str, component: ChartName },
    /// Such values would have no effect.
    #[error("profile {profile} has values for {chart}, which is not one of its components")]
    StrayValues { profile: &'static str, chart: ChartName },
    /// Gateways are defined by the spec.
    #[error("profile {profile} must not have gateways; they are defined by the spec")]
    Gateways { profile: &'static str },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProfileFile {
    description: String,
    components: BTreeSet<ChartName>,
    chart_profile: Option<String>,
    platform: Option<String>,
    node_namespace: Option<String>,
    #[serde(default)]
    values: BTreeMap<ChartName, Map<String, Value>>,
}

impl Profile {
    /// Returns a bundled profile.
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
        let ProfileFile { description, components, chart_profile, platform, node_namespace, values } =
            yaml::parse(text).map_err(|source| LoadProfileError::Yaml { profile, source })?;
        if let Some(component) = [ChartName::Base, ChartName::Istiod].into_iter().find(|c| !components.contains(c)) {
            return Err(LoadProfileError::MissingComponent { profile, component });
        }
        if components.contains(&ChartName::Gateway) {
            return Err(LoadProfileError::Gateways { profile });
        }
        if let Some(chart) = values.keys().copied().find(|chart| !components.contains(chart)) {
            return Err(LoadProfileError::StrayValues { profile, chart });
        }
        let values = values.into_iter().map(|(chart, values)| (chart, Value::Object(values))).collect();
        Ok(Self { description, components, in_charts: chart_profile, platform, node_namespace, values })
    }

    /// The purpose of the profile, in one sentence.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The charts that it installs.
    #[must_use]
    pub fn components(&self) -> &BTreeSet<ChartName> {
        &self.components
    }

    /// The profile of Istio's charts that it extends, if any.
    #[must_use]
    pub fn chart_profile(&self) -> Option<&str> {
        self.in_charts.as_deref()
    }

    /// The value of `platform` for Istio's charts, if the profile is for a single platform.
    #[must_use]
    pub fn platform(&self) -> Option<&str> {
        self.platform.as_deref()
    }

    /// The default namespace of istio-cni and ztunnel; `None` means the control plane's.
    #[must_use]
    pub fn node_namespace(&self) -> Option<&str> {
        self.node_namespace.as_deref()
    }

    /// The values for a chart, merged over those of the chart profile.
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
    fn bundled_profiles_are_valid() {
        for name in Name::ALL {
            let profile = Profile::get(name).unwrap();
            assert!(!profile.description().is_empty());
        }
    }

    #[test]
    fn profiles_extend_known_chart_profiles() {
        let of = |name| Profile::get(name).unwrap().chart_profile().map(str::to_owned);
        for name in Name::ALL {
            let expected = match name {
                Name::Default | Name::Minimal | Name::Openshift => None,
                Name::OpenshiftAmbient => Some("ambient"),
                Name::Demo | Name::Ambient | Name::Stable | Name::Preview => Some(name.as_str()),
            };
            assert_eq!(of(name).as_deref(), expected, "{name:?}");
        }
    }

    #[test]
    fn ambient_and_openshift_enable_cni() {
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
    fn minimal_has_single_istiod_without_autoscaling() {
        let profile = Profile::get(Name::Minimal).unwrap();
        let istiod = profile.values(ChartName::Istiod).unwrap();
        assert_eq!(istiod.pointer("/autoscaleEnabled"), Some(&Value::Bool(false)));
        assert_eq!(istiod.pointer("/replicaCount"), Some(&Value::from(1)));
        assert!(istiod.pointer("/resources/requests/cpu").is_some_and(Value::is_string));
        assert_eq!(Profile::get(Name::Default).unwrap().values(ChartName::Istiod), None);
    }

    #[test]
    fn rejects_profile_without_control_plane() {
        let result = parse("description: x\ncomponents: [base]\n");
        assert!(matches!(result, Err(LoadProfileError::MissingComponent { component: ChartName::Istiod, .. })));
    }

    #[test]
    fn rejects_values_for_other_components() {
        let result = parse("description: x\ncomponents: [base, istiod]\nvalues: {cni: {}}\n");
        assert!(matches!(result, Err(LoadProfileError::StrayValues { chart: ChartName::Cni, .. })));
    }

    #[test]
    fn rejects_gateways_and_unknown_fields() {
        let result = parse("description: x\ncomponents: [base, istiod, gateway]\n");
        assert!(matches!(result, Err(LoadProfileError::Gateways { .. })));
        let result = parse("description: x\ncomponents: [base, istiod]\ngateways: []\n");
        assert!(matches!(result, Err(LoadProfileError::Yaml { .. })));
    }
}
