//! What is known about Istio's releases, and which of them a cluster can run. Pure: the facts come
//! with the program, the cluster's version, the date and the catalog's versions are arguments.

use std::{cmp::Reverse, collections::BTreeMap};

use jiff::civil::Date;
use meshwright_api::version::VersionRequest;
use semver::Version;
use serde::Deserialize;

pub use super::minor::{Minor, ParseMinorError};
use super::yaml;

/// All that is known, by minor.
#[derive(Clone, Debug)]
pub struct Facts {
    minors: BTreeMap<Minor, MinorFacts>,
    crd_sets: BTreeMap<String, Vec<String>>,
}

/// What is known about the releases of one minor.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MinorFacts {
    /// Which minor.
    pub minor: Minor,
    /// Kubernetes versions that it can run on.
    pub kubernetes: KubernetesRange,
    /// When Istio stopped, or will stop, to repair it; absent while no day is set.
    pub end_of_life: Option<EndOfLife>,
    /// True while there are development builds alone.
    #[serde(default)]
    pub development: bool,
    /// Where the images of its releases are.
    pub hub: String,
    /// Where the images of its development builds are.
    pub development_hub: String,
    /// Name of its set of CRDs.
    crds: String,
    /// What to mind when moving to it, or back from it.
    #[serde(default)]
    pub hazards: Vec<String>,
    /// Objects that it leaves behind, as `Kind name` with `<namespace>` and `*` as place holders.
    #[serde(default)]
    pub leftovers: Vec<String>,
    /// Where the facts come from.
    pub sources: Vec<String>,
}

/// Kubernetes versions, by minor.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KubernetesRange {
    /// The oldest that it runs on.
    pub minimum: Minor,
    /// The oldest and the newest that Istio supports it on.
    pub supported: (Minor, Minor),
    /// The first that it can't run on, if there is one yet.
    pub broken_from: Option<BrokenFrom>,
}

/// From where on a release can't run.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BrokenFrom {
    /// The Kubernetes version.
    pub version: Minor,
    /// Why: completes "because ...".
    pub because: String,
}

/// When a minor's life ended or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum EndOfLife {
    /// On this day.
    On(Date),
    /// Long ago; which day doesn't matter any more.
    Word(Past),
}

/// Long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Past {
    /// Long ago.
    #[serde(rename = "past")]
    Past,
}

impl EndOfLife {
    /// Whether life has ended by a day.
    #[must_use]
    pub fn reached(self, today: Date) -> bool {
        match self {
            Self::On(day) => day <= today,
            Self::Word(Past::Past) => true,
        }
    }
}

impl std::fmt::Display for EndOfLife {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::On(day) => write!(f, "on {day}"),
            Self::Word(Past::Past) => f.write_str("long ago"),
        }
    }
}

/// A release that isn't refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Istio supports it on this Kubernetes.
    Supported,
    /// Nothing is known against it, but Istio doesn't support it on this Kubernetes.
    Untested,
}

/// Why a release can't, or shouldn't, be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing is known about it.
    #[error("nothing is known about Istio {minor}: this operator knows {known}")]
    UnknownMinor {
        /// The minor.
        minor: Minor,
        /// The minors that are known.
        known: String,
    },
    /// The cluster is too old.
    #[error("Istio {minor} needs Kubernetes {minimum} or newer, and this is {cluster}; {nearest}")]
    KubernetesTooOld {
        /// The minor.
        minor: Minor,
        /// What it needs.
        minimum: Minor,
        /// What there is.
        cluster: Minor,
        /// What would work.
        nearest: String,
    },
    /// The cluster is too new.
    #[error(
        "Istio {minor} can't run on Kubernetes {broken_from} or newer, and this is {cluster}, because {because}; {nearest}"
    )]
    KubernetesTooNew {
        /// The minor.
        minor: Minor,
        /// The first version that it can't run on.
        broken_from: Minor,
        /// Why.
        because: String,
        /// What there is.
        cluster: Minor,
        /// What would work.
        nearest: String,
    },
    /// Its faults aren't repaired any more.
    #[error("Istio {minor} gets no security fixes any more: its life ended {end}; {nearest}")]
    EndOfLife {
        /// The minor.
        minor: Minor,
        /// When.
        end: EndOfLife,
        /// What would work.
        nearest: String,
    },
}

/// The bundled facts contradict themselves; can't happen in a build whose tests pass.
#[derive(Debug, thiserror::Error)]
pub enum ParseFactsError {
    /// They are no YAML, or lack a field, or have one that isn't known.
    #[error("the facts about releases can't be read")]
    Yaml(#[source] Box<serde_saphyr::Error>),
    /// A minor has two entries.
    #[error("there are two entries for Istio {0}")]
    Twice(Minor),
    /// A range has its ends the wrong way round.
    #[error("Istio {0}: the Kubernetes versions are in the wrong order")]
    Range(Minor),
    /// A set of CRDs has no list.
    #[error("Istio {minor}: there is no set of CRDs with the name {name:?}")]
    CrdSet {
        /// The minor.
        minor: Minor,
        /// The set's name.
        name: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    crd_sets: BTreeMap<String, Vec<String>>,
    releases: Vec<MinorFacts>,
}

impl Facts {
    /// The facts that come with the program.
    pub fn bundled() -> Result<Self, ParseFactsError> {
        Self::parse(include_str!("../../../bundled-manifests/releases.yaml"))
    }

    fn parse(text: &str) -> Result<Self, ParseFactsError> {
        let File { crd_sets, releases } = yaml::parse(text).map_err(ParseFactsError::Yaml)?;
        let mut minors = BTreeMap::new();
        for facts in releases {
            let minor = facts.minor;
            if !facts.kubernetes.is_in_order() {
                return Err(ParseFactsError::Range(minor));
            }
            if !crd_sets.contains_key(&facts.crds) {
                return Err(ParseFactsError::CrdSet { minor, name: facts.crds });
            }
            if minors.insert(minor, facts).is_some() {
                return Err(ParseFactsError::Twice(minor));
            }
        }
        Ok(Self { minors, crd_sets })
    }

    /// What is known about one minor.
    pub fn minor(&self, minor: Minor) -> Result<&MinorFacts, Refusal> {
        let known = || self.minors.keys().rev().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        self.minors.get(&minor).ok_or_else(|| Refusal::UnknownMinor { minor, known: known() })
    }

    /// What is known about every minor, the oldest first.
    pub fn minors(&self) -> impl Iterator<Item = &MinorFacts> {
        self.minors.values()
    }

    /// What to mind on the way from one minor to another, each with the minor that brings it.
    pub fn hazards(&self, from: Minor, to: Minor) -> impl Iterator<Item = (Minor, &str)> {
        let between = move |minor: Minor| from.min(to) < minor && minor <= from.max(to);
        let passed = self.minors.values().filter(move |facts| between(facts.minor));
        passed.flat_map(|facts| facts.hazards.iter().map(|hazard| (facts.minor, hazard.as_str())))
    }

    /// The names of the CRDs that a minor brings, as `plural.group`.
    pub fn crds(&self, minor: Minor) -> Result<&[String], Refusal> {
        let set = self.crd_sets.get(&self.minor(minor)?.crds);
        Ok(set.map(Vec::as_slice).unwrap_or_default())
    }

    /// Whether a cluster can run what a spec asks for. To be asked before the catalog is: a
    /// release that can't run here is refused for that reason, whether or not the catalog has it.
    /// `cluster` is the API server's version and `available` the catalog's, for the advice.
    pub fn check(
        &self,
        request: &VersionRequest,
        cluster: &Version,
        today: Date,
        available: &[&Version],
    ) -> Result<Support, Refusal> {
        let (major, minor) = request.minor();
        let minor = Minor { major, minor };
        let cluster = Minor::of(cluster);
        self.judge(minor, cluster, today, || self.nearest(minor, cluster, today, available))
    }

    fn judge(
        &self,
        minor: Minor,
        cluster: Minor,
        today: Date,
        nearest: impl FnOnce() -> String,
    ) -> Result<Support, Refusal> {
        let facts = self.minor(minor)?;
        let KubernetesRange { minimum, supported: (first, last), ref broken_from } = facts.kubernetes;
        if cluster < minimum {
            return Err(Refusal::KubernetesTooOld { minor, minimum, cluster, nearest: nearest() });
        }
        if let Some(BrokenFrom { version, because }) = broken_from
            && cluster >= *version
        {
            let (broken_from, because) = (*version, because.clone());
            return Err(Refusal::KubernetesTooNew { minor, broken_from, because, cluster, nearest: nearest() });
        }
        match facts.end_of_life {
            Some(end) if end.reached(today) => Err(Refusal::EndOfLife { minor, end, nearest: nearest() }),
            _ if (first..=last).contains(&cluster) => Ok(Support::Supported),
            _ => Ok(Support::Untested),
        }
    }

    /// Advice: the next newer release of the catalog that would work here, else the next older one,
    /// and pre-releases only if there is nothing else.
    fn nearest(&self, from: Minor, cluster: Minor, today: Date, available: &[&Version]) -> String {
        let works = |minor: Minor| self.judge(minor, cluster, today, String::new).is_ok();
        let candidates = available.iter().filter(|version| works(Minor::of(version)));
        let nearest = candidates.min_by_key(|version| {
            let minor = Minor::of(version);
            let distance = minor.minor.abs_diff(from.minor);
            (!version.pre.is_empty(), minor.major.abs_diff(from.major), minor < from, distance, Reverse(**version))
        });
        if let Some(version) = nearest {
            return format!("the nearest release in the catalog that works here is {version}");
        }
        let minors: Vec<String> =
            self.minors.keys().copied().filter(|minor| works(*minor)).map(|minor| minor.to_string()).collect();
        if minors.is_empty() {
            "no release that this operator knows works here".to_owned()
        } else {
            format!("the catalog has no release that works here, Istio {} would", minors.join(", "))
        }
    }
}

impl KubernetesRange {
    fn is_in_order(&self) -> bool {
        let (first, last) = self.supported;
        let broken = self.broken_from.as_ref();
        self.minimum <= first && first <= last && broken.is_none_or(|broken| last < broken.version)
    }
}
