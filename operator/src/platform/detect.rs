//! From what is observed of a cluster to the platform that it is.
//!
//! Evidence differs in strength. What is stronger decides, whatever the weaker says:
//!
//! 1. API groups: only the platform itself serves them, wherever its nodes run.
//! 2. providerIDs of nodes; of two beginnings that fit a node, the longer (`k3s://k3d-` over `k3s://`).
//! 3. Labels of nodes. Nodes come before the server, since it is on them that pods run: a virtual cluster has the server of
//!    one platform and the nodes of another.
//! 4. The server's version.
//! 5. Names of nodes, if all of them fit: people choose names as they like.
//!
//! Where evidence of one strength speaks for two platforms, the platform is `generic`: nothing is guessed.

use serde::{Deserialize, Serialize};

use super::facts::Observed;
use super::{GENERIC, Platform, Platforms};

/// Said in the evidence where it holds.
pub const NODES_UNSEEN: &str = "nodes may not be listed, so they were not looked at";

/// The platform, and by what it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detected {
    /// The platform's name.
    pub name: String,
    /// In words, the strongest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// There were no nodes yet, which may show another platform when they come.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub provisional: bool,
}

impl Default for Detected {
    /// A cluster that nobody has looked at.
    fn default() -> Self {
        Self { name: GENERIC.to_owned(), evidence: Vec::new(), provisional: true }
    }
}

impl Detected {
    /// The platform that the spec names.
    #[must_use]
    pub fn chosen(name: &str) -> Self {
        Self { name: name.to_owned(), evidence: vec!["spec.platform says so".to_owned()], provisional: false }
    }

    /// The same of a cluster whose nodes can't be seen, and never will be.
    #[must_use]
    pub fn without_nodes(mut self) -> Self {
        self.evidence.push(NODES_UNSEEN.to_owned());
        self.provisional = false;
        self
    }
}

/// How strong evidence is, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Strength {
    NodeName,
    ServerVersion,
    NodeLabel,
    ProviderId,
    ApiGroup,
}

/// One thing that speaks for a platform.
#[derive(Clone, Debug)]
struct Clue<'a> {
    strength: Strength,
    platform: &'a str,
    text: String,
}

/// Which platform this is.
#[must_use]
pub fn detect(platforms: &Platforms, observed: &Observed) -> Detected {
    let origins = Origins::of(platforms);
    let mut clues: Vec<Clue<'_>> = platforms.iter().flat_map(|platform| clues(platform, &origins, observed)).collect();
    // The strongest first; within one strength in a fixed order, since status must not change without cause.
    clues.sort_by(|a, b| b.strength.cmp(&a.strength).then_with(|| (a.platform, &a.text).cmp(&(b.platform, &b.text))));
    let provisional = observed.nodes.is_empty();
    let Some(first) = clues.first() else { return unknown(observed) };
    let rival = clues.iter().find(|clue| clue.strength == first.strength && clue.platform != first.platform);
    if let Some(rival) = rival {
        let evidence = vec![format!(
            "{} speaks for {}, {} for {}: set spec.platform to the right one",
            first.text, first.platform, rival.text, rival.platform
        )];
        return Detected { name: GENERIC.to_owned(), evidence, provisional };
    }
    let name = first.platform;
    let (own, others): (Vec<&Clue<'_>>, Vec<&Clue<'_>>) = clues.iter().partition(|clue| clue.platform == name);
    let weaker =
        others.into_iter().map(|clue| format!("{} would speak for {}, but is weaker", clue.text, clue.platform));
    let evidence = own.into_iter().map(|clue| clue.text.clone()).chain(weaker).collect();
    Detected { name: name.to_owned(), evidence, provisional }
}

/// What nothing speaks for.
fn unknown(observed: &Observed) -> Detected {
    if observed.nodes.is_empty() {
        return Detected::default();
    }
    let evidence = vec!["nothing about nodes or API server shows a platform that is known".to_owned()];
    Detected { name: GENERIC.to_owned(), evidence, provisional: false }
}

/// Beginnings of providerIDs, of all platforms.
struct Origins<'a>(Vec<&'a str>);

impl<'a> Origins<'a> {
    fn of(platforms: &'a Platforms) -> Self {
        let prefixes = platforms.iter().flat_map(|platform| &platform.evidence().provider_ids);
        Self(prefixes.map(|fact| fact.value.as_str()).collect())
    }

    /// Whether a providerID begins so, and with none of the longer ones.
    fn is(&self, provider_id: &str, prefix: &str) -> bool {
        let fitting = self.0.iter().filter(|known| provider_id.starts_with(**known));
        fitting.max_by_key(|known| known.len()).is_some_and(|longest| *longest == prefix)
    }
}

/// What speaks for one platform. The words leave out how many nodes and which: those come and go.
fn clues<'a>(platform: &'a Platform, origins: &Origins<'_>, observed: &Observed) -> Vec<Clue<'a>> {
    let evidence = platform.evidence();
    let clue = |strength, text| Clue { strength, platform: platform.name(), text };
    let mut found = Vec::new();
    for group in evidence.api_groups.iter().map(|fact| &fact.value) {
        if observed.api_groups.contains(group) {
            found.push(clue(Strength::ApiGroup, format!("the API group {group}")));
        }
    }
    for prefix in evidence.provider_ids.iter().map(|fact| &fact.value) {
        if observed.nodes.iter().any(|node| origins.is(&node.provider_id, prefix)) {
            found.push(clue(Strength::ProviderId, format!("nodes' providerID {prefix}")));
        }
    }
    for label in evidence.node_labels.iter().map(|fact| &fact.value) {
        let fits = |value: &String| label.value.as_ref().is_none_or(|wanted| wanted == value);
        if observed.nodes.iter().any(|node| node.labels.get(&label.key).is_some_and(fits)) {
            found.push(clue(Strength::NodeLabel, format!("nodes' label {label}")));
        }
    }
    for part in evidence.server_versions.iter().map(|fact| &fact.value) {
        if observed.server_version.contains(part.as_str()) {
            found.push(clue(Strength::ServerVersion, format!("{part} in the server's version")));
        }
    }
    for pattern in evidence.node_names.iter().map(|fact| &fact.value.0) {
        if !observed.nodes.is_empty() && observed.nodes.iter().all(|node| pattern.is_match(&node.name)) {
            found.push(clue(Strength::NodeName, format!("nodes' names {pattern}")));
        }
    }
    found
}
