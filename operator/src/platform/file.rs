//! The schema of a platform's file. What is written here is checked when the file is read: unknown keys, evidence that
//! can never match, values that no chart has and facts without a source are errors.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use meshwright_api::{LoadBalancers, PlatformPermission, ServiceType};
use regex::Regex;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::GENERIC;
use crate::catalog::ChartName;

/// A platform's file is faulty; can't happen in a build whose tests pass.
#[derive(Debug, thiserror::Error)]
pub enum LoadPlatformError {
    /// It is no YAML, or lacks a field, or has one that isn't known, or a value that can't be.
    #[error("platform {platform} can't be read")]
    Yaml {
        /// The platform.
        platform: String,
        /// Cause.
        #[source]
        source: Box<serde_saphyr::Error>,
    },
    /// Nothing would ever show this platform, or everything the one that nothing shows.
    #[error("platform {0}: every platform but generic needs evidence, and generic must have none")]
    Evidence(String),
    /// A fact without a source.
    #[error("platform {0}: a fact has an empty source; say where it is from, or write inferred")]
    Unsourced(String),
}

/// A fact and where it is from.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sourced<T> {
    pub(super) value: T,
    pub(super) source: String,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct File {
    pub(super) description: String,
    #[serde(default)]
    pub(super) detection: Detection,
    #[serde(default)]
    pub(super) charts: ChartFacts,
    pub(super) components: Option<Sourced<BTreeSet<ChartName>>>,
    pub(super) gateway_service_type: Option<Sourced<ServiceType>>,
    pub(super) node_port_range: Option<Sourced<NodePortRange>>,
    pub(super) node_namespace: Option<Sourced<String>>,
    pub(super) webhook_labels: Option<Sourced<BTreeMap<String, String>>>,
    pub(super) load_balancer: Option<Sourced<LoadBalancers>>,
    pub(super) privileged_pods: Option<Sourced<PlatformPermission>>,
    pub(super) host_paths: Option<Sourced<PlatformPermission>>,
    #[serde(default)]
    pub(super) requires: Vec<Sourced<String>>,
    #[serde(default)]
    pub(super) notes: Vec<Sourced<String>>,
}

/// What shows the platform; one match is enough.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Detection {
    /// API groups that it serves.
    #[serde(default)]
    pub(super) api_groups: Vec<Sourced<String>>,
    /// How providerIDs of its nodes begin.
    #[serde(default)]
    pub(super) provider_ids: Vec<Sourced<String>>,
    /// Labels of its nodes.
    #[serde(default)]
    pub(super) node_labels: Vec<Sourced<NodeLabel>>,
    /// What the server's version contains.
    #[serde(default)]
    pub(super) server_versions: Vec<Sourced<String>>,
    /// What the names of all its nodes are like.
    #[serde(default)]
    pub(super) node_names: Vec<Sourced<NamePattern>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ChartFacts {
    pub(super) platform: Option<Sourced<String>>,
    #[serde(default)]
    pub(super) values: Vec<Sourced<BTreeMap<ChartName, Value>>>,
}

/// `key`, or `key=value`.
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

/// A regular expression for whole names.
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
                "{text:?} must fit whole names: begin it with ^, end it with $"
            )));
        }
        Regex::new(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Node ports, first and last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodePortRange {
    /// The first.
    pub first: u16,
    /// The last.
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
            _ => Err(serde::de::Error::custom(format!("{text:?} is no range of ports such as 30000-32767"))),
        }
    }
}

impl File {
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

    /// Where each fact is from.
    pub(super) fn sources(&self) -> Vec<&str> {
        fn one<T>(fact: &Sourced<T>) -> &str {
            &fact.source
        }
        fn all<T>(facts: &[Sourced<T>]) -> impl Iterator<Item = &str> {
            facts.iter().map(one)
        }
        // Taken apart, so that a new field can't be forgotten.
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
