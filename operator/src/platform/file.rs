//! Schema of platform files. Parsing rejects unknown keys, invalid patterns, values for unknown charts and facts
//! without a source.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use meshwright_api::{LoadBalancerSupport, PlatformPermission, ServiceType};
use regex::Regex;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::GENERIC;
use crate::catalog::ChartName;

/// A platform file is invalid. Tests ensure that the embedded files are valid.
#[derive(Debug, thiserror::Error)]
pub enum LoadPlatformError {
    /// The file is no valid YAML, or has a missing or unknown field or an invalid value.
    #[error("platform {platform}: invalid file")]
    Yaml {
        /// Name of the platform.
        platform: String,
        /// The parse error.
        #[source]
        source: Box<serde_saphyr::Error>,
    },
    /// Detection rules are missing, or the generic platform has some.
    #[error("platform {0}: all platforms except generic need detection rules, and generic must have none")]
    Evidence(String),
    /// A fact has no source.
    #[error("platform {0}: a fact has an empty source; name the source or use inferred")]
    Unsourced(String),
}

/// A fact with its source.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SourcedFact<T> {
    pub(super) value: T,
    pub(super) source: String,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PlatformFile {
    pub(super) description: String,
    #[serde(default)]
    pub(super) detection: Detection,
    #[serde(default)]
    pub(super) charts: ChartFacts,
    pub(super) components: Option<SourcedFact<BTreeSet<ChartName>>>,
    pub(super) gateway_service_type: Option<SourcedFact<ServiceType>>,
    pub(super) node_port_range: Option<SourcedFact<NodePortRange>>,
    pub(super) node_namespace: Option<SourcedFact<String>>,
    pub(super) webhook_labels: Option<SourcedFact<BTreeMap<String, String>>>,
    pub(super) load_balancer: Option<SourcedFact<LoadBalancerSupport>>,
    pub(super) privileged_pods: Option<SourcedFact<PlatformPermission>>,
    pub(super) host_paths: Option<SourcedFact<PlatformPermission>>,
    #[serde(default)]
    pub(super) requires: Vec<SourcedFact<String>>,
    #[serde(default)]
    pub(super) notes: Vec<SourcedFact<String>>,
}

/// Detection rules of a platform; one match is sufficient.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Detection {
    /// API groups that only this platform serves.
    #[serde(default)]
    pub(super) api_groups: Vec<SourcedFact<String>>,
    /// Prefixes of the nodes' providerIDs.
    #[serde(default)]
    pub(super) provider_ids: Vec<SourcedFact<String>>,
    /// Labels of nodes.
    #[serde(default)]
    pub(super) node_labels: Vec<SourcedFact<NodeLabel>>,
    /// Substrings of the API server's version.
    #[serde(default)]
    pub(super) server_versions: Vec<SourcedFact<String>>,
    /// Patterns that the names of all nodes match.
    #[serde(default)]
    pub(super) node_names: Vec<SourcedFact<NamePattern>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ChartFacts {
    pub(super) platform: Option<SourcedFact<String>>,
    #[serde(default)]
    pub(super) values: Vec<SourcedFact<BTreeMap<ChartName, Value>>>,
}

/// A label `key` or `key=value`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub(super) struct NodeLabel {
    pub(super) key: String,
    pub(super) value: Option<String>,
}

impl From<String> for NodeLabel {
    fn from(text: String) -> Self {
        match text.split_once('=') {
            Some((key, value)) => Self { key: key.to_owned(), value: Some(value.to_owned()) },
            None => Self { key: text, value: None },
        }
    }
}

impl fmt::Display for NodeLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value}", self.key),
            None => f.write_str(&self.key),
        }
    }
}

/// A regular expression that matches whole names.
#[derive(Clone, Debug)]
pub(super) struct NamePattern(pub(super) Regex);

impl PartialEq for NamePattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl<'de> Deserialize<'de> for NamePattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if !(text.starts_with('^') && text.ends_with('$')) {
            return Err(serde::de::Error::custom(format!(
                "{text:?} must match whole names: start it with ^ and end it with $"
            )));
        }
        Regex::new(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// A range of node ports, including both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodePortRange {
    /// First port of the range.
    pub first: u16,
    /// Last port of the range.
    pub last: u16,
}

impl fmt::Display for NodePortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl<'de> Deserialize<'de> for NodePortRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bounds = text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
        match bounds {
            Some((first, last)) if 0 < first && first <= last => Ok(Self { first, last }),
            _ => Err(serde::de::Error::custom(format!("{text:?} is not a port range such as 30000-32767"))),
        }
    }
}

impl PlatformFile {
    pub(super) fn parse(platform: &str, text: &str) -> Result<Self, LoadPlatformError> {
        let file: Self = crate::catalog::parse_yaml(text)
            .map_err(|source| LoadPlatformError::Yaml { platform: platform.to_owned(), source })?;
        if file.detection.is_empty() != (platform == GENERIC) {
            return Err(LoadPlatformError::Evidence(platform.to_owned()));
        }
        if file.sources().iter().any(|source| source.trim().is_empty()) {
            return Err(LoadPlatformError::Unsourced(platform.to_owned()));
        }
        Ok(file)
    }

    /// Returns the sources of all facts.
    pub(super) fn sources(&self) -> Vec<&str> {
        fn one<T>(fact: &SourcedFact<T>) -> &str {
            &fact.source
        }
        fn all<T>(facts: &[SourcedFact<T>]) -> impl Iterator<Item = &str> {
            facts.iter().map(one)
        }
        // Destructured, so that the compiler reports new fields.
        let Self {
            description: _,
            detection: Detection { api_groups, provider_ids, node_labels, server_versions, node_names },
            charts: ChartFacts { platform, values },
            components,
            gateway_service_type,
            node_port_range,
            node_namespace,
            webhook_labels,
            load_balancer,
            privileged_pods,
            host_paths,
            requires,
            notes,
        } = self;
        let lists = all(api_groups)
            .chain(all(provider_ids))
            .chain(all(node_labels))
            .chain(all(server_versions))
            .chain(all(node_names))
            .chain(all(values))
            .chain(all(requires))
            .chain(all(notes));
        let single = [
            platform.as_ref().map(one),
            components.as_ref().map(one),
            gateway_service_type.as_ref().map(one),
            node_port_range.as_ref().map(one),
            node_namespace.as_ref().map(one),
            webhook_labels.as_ref().map(one),
            load_balancer.as_ref().map(one),
            privileged_pods.as_ref().map(one),
            host_paths.as_ref().map(one),
        ];
        lists.chain(single.into_iter().flatten()).collect()
    }
}

impl Detection {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
