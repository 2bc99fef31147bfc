//! Detects the platform of a cluster.
//!
//! The strongest evidence decides, in this order:
//!
//! 1. API groups, which only the platform itself serves, wherever its nodes run.
//! 2. providerIDs of nodes. The longest matching prefix applies (`k3s://k3d-` over `k3s://`).
//! 3. Labels of nodes. Nodes precede the server, because pods run on them: a virtual cluster has the server of one
//!    platform and the nodes of another.
//! 4. The server's version.
//! 5. Names of nodes, if all of them match, because users can choose names freely.
//!
//! If evidence of equal strength indicates two platforms, the result is ambiguous and the platform is `generic`.

use serde::{Deserialize, Serialize};

use super::facts::ClusterFacts;
use super::{GENERIC, Platform, Platforms};

/// Part of the evidence if the operator lacks the permission to list nodes.
pub const NODES_NOT_LISTED: &str = "no permission to list nodes; detected from the API server only";

/// The platform and its evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetectedPlatform {
    /// Name of the platform.
    pub name: String,
    /// Evidence, strongest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// Whether the cluster had no nodes, which can change the result later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub provisional: bool,
}

impl Default for DetectedPlatform {
    /// Returns the platform of a cluster that has not been read.
    fn default() -> Self {
        Self { name: GENERIC.to_owned(), evidence: Vec::new(), provisional: true }
    }
}

impl DetectedPlatform {
    /// Returns the platform set in `spec.platform`. The evidence is part of the hashed inputs of revisions, so its
    /// text must not change.
    #[must_use]
    pub fn from_spec(name: &str) -> Self {
        Self { name: name.to_owned(), evidence: vec!["spec.platform says so".to_owned()], provisional: false }
    }

    /// Marks the result as final although the nodes can't be listed.
    #[must_use]
    pub fn without_node_access(mut self) -> Self {
        self.evidence.push(NODES_NOT_LISTED.to_owned());
        self.provisional = false;
        self
    }
}

/// Strength of evidence, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum EvidenceStrength {
    NodeName,
    ServerVersion,
    NodeLabel,
    ProviderId,
    ApiGroup,
}

/// Evidence for a platform.
#[derive(Clone, Debug)]
struct Evidence<'a> {
    strength: EvidenceStrength,
    platform: &'a str,
    text: String,
}

/// Detects the platform of a cluster.
#[must_use]
pub fn detect(platforms: &Platforms, cluster: &ClusterFacts) -> DetectedPlatform {
    let prefixes = ProviderIdPrefixes::of(platforms);
    let mut all: Vec<Evidence<'_>> =
        platforms.iter().flat_map(|platform| evidence(platform, &prefixes, cluster)).collect();
    // Strongest first, then in a deterministic order, so that status is stable.
    all.sort_by(|a, b| b.strength.cmp(&a.strength).then_with(|| (a.platform, &a.text).cmp(&(b.platform, &b.text))));
    let provisional = cluster.nodes.is_empty();
    let Some(first) = all.first() else { return not_detected(cluster) };
    let other = all.iter().find(|other| other.strength == first.strength && other.platform != first.platform);
    if let Some(other) = other {
        let evidence = vec![format!(
            "ambiguous: {} indicates {}, {} indicates {}; set spec.platform",
            first.text, first.platform, other.text, other.platform
        )];
        return DetectedPlatform { name: GENERIC.to_owned(), evidence, provisional };
    }
    let name = first.platform;
    let (own, others): (Vec<&Evidence<'_>>, Vec<&Evidence<'_>>) = all.iter().partition(|item| item.platform == name);
    let weaker = others.into_iter().map(|item| format!("{} (weaker evidence for {})", item.text, item.platform));
    let evidence = own.into_iter().map(|item| item.text.clone()).chain(weaker).collect();
    DetectedPlatform { name: name.to_owned(), evidence, provisional }
}

fn not_detected(cluster: &ClusterFacts) -> DetectedPlatform {
    if cluster.nodes.is_empty() {
        return DetectedPlatform::default();
    }
    let evidence = vec!["platform not detected".to_owned()];
    DetectedPlatform { name: GENERIC.to_owned(), evidence, provisional: false }
}

/// The providerID prefixes of all platforms.
struct ProviderIdPrefixes<'a>(Vec<&'a str>);

impl<'a> ProviderIdPrefixes<'a> {
    fn of(platforms: &'a Platforms) -> Self {
        let prefixes = platforms.iter().flat_map(|platform| &platform.detection().provider_ids);
        Self(prefixes.map(|fact| fact.value.as_str()).collect())
    }

    /// Returns whether `prefix` is the longest prefix of a providerID.
    fn is_longest_match(&self, provider_id: &str, prefix: &str) -> bool {
        let matching = self.0.iter().filter(|known| provider_id.starts_with(**known));
        matching.max_by_key(|known| known.len()).is_some_and(|longest| *longest == prefix)
    }
}

/// Returns the evidence for a platform. The texts contain no names and numbers of nodes, because these change.
fn evidence<'a>(
    platform: &'a Platform,
    prefixes: &ProviderIdPrefixes<'_>,
    cluster: &ClusterFacts,
) -> Vec<Evidence<'a>> {
    let detection = platform.detection();
    let item = |strength, text| Evidence { strength, platform: platform.name(), text };
    let mut found = Vec::new();
    for group in detection.api_groups.iter().map(|fact| &fact.value) {
        if cluster.api_groups.contains(group) {
            found.push(item(EvidenceStrength::ApiGroup, format!("the API group {group}")));
        }
    }
    for prefix in detection.provider_ids.iter().map(|fact| &fact.value) {
        if cluster.nodes.iter().any(|node| prefixes.is_longest_match(&node.provider_id, prefix)) {
            found.push(item(EvidenceStrength::ProviderId, format!("nodes' providerID {prefix}")));
        }
    }
    for label in detection.node_labels.iter().map(|fact| &fact.value) {
        let matches = |value: &String| label.value.as_ref().is_none_or(|expected| expected == value);
        if cluster.nodes.iter().any(|node| node.labels.get(&label.key).is_some_and(matches)) {
            found.push(item(EvidenceStrength::NodeLabel, format!("nodes' label {label}")));
        }
    }
    for part in detection.server_versions.iter().map(|fact| &fact.value) {
        if cluster.server_version.contains(part.as_str()) {
            found.push(item(EvidenceStrength::ServerVersion, format!("{part} in the server's version")));
        }
    }
    for pattern in detection.node_names.iter().map(|fact| &fact.value.0) {
        if !cluster.nodes.is_empty() && cluster.nodes.iter().all(|node| pattern.is_match(&node.name)) {
            found.push(item(EvidenceStrength::NodeName, format!("nodes' names {pattern}")));
        }
    }
    found
}
