//! Facts about Istio releases, compiled into the program, and whether a cluster can run a release. Pure: the cluster's
//! version, the date and the catalog's versions are arguments.

use std::{cmp::Reverse, collections::BTreeMap};

use jiff::civil::Date;
use meshwright_api::version::VersionRequest;
use semver::Version;
use serde::Deserialize;

use super::gateway_api::GatewayApiFacts;
pub use super::minor::Minor;
use super::yaml;

/// The facts about all known releases, by minor.
#[derive(Clone, Debug)]
pub struct ReleaseFacts {
    minors: BTreeMap<Minor, MinorFacts>,
    crd_sets: BTreeMap<String, Vec<String>>,
}

/// The facts about the releases of one minor.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MinorFacts {
    pub minor: Minor,
    /// The Kubernetes versions that it runs on.
    pub kubernetes: KubernetesRange,
    /// The end of Istio's support; absent until a date is announced.
    pub end_of_life: Option<EndOfLife>,
    /// Whether only development builds exist.
    #[serde(default)]
    pub development: bool,
    /// The registry of its release images.
    pub hub: String,
    /// The registry of its development images.
    pub development_hub: String,
    /// The key of its CRDs in `crdSets`.
    crds: String,
    /// Known issues when upgrading to it or rolling back from it.
    #[serde(default)]
    pub hazards: Vec<String>,
    /// The versions of the Kubernetes Gateway API that it works with, if known.
    pub gateway_api: Option<GatewayApiFacts>,
    /// Objects that its uninstallation leaves behind, as `Kind name` with the placeholders `<namespace>` and `*`.
    #[serde(default)]
    pub leftovers: Vec<String>,
    /// References for these facts.
    pub sources: Vec<String>,
}

/// A range of Kubernetes minors.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KubernetesRange {
    /// The oldest minor that it runs on.
    pub minimum: Minor,
    /// The oldest and the newest minor that Istio supports.
    pub supported: (Minor, Minor),
    /// The first minor that it can't run on, if known.
    pub broken_from: Option<BrokenFrom>,
}

/// The first Kubernetes minor that a release can't run on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BrokenFrom {
    /// The Kubernetes minor.
    pub version: Minor,
    /// The reason; completes "because ...".
    pub because: String,
}

/// The end of life of a minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum EndOfLife {
    /// A known date.
    On(Date),
    /// In the past, on a date that no longer matters.
    Past(PastKeyword),
}

/// The keyword `past` in place of a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum PastKeyword {
    #[serde(rename = "past")]
    Past,
}

impl EndOfLife {
    /// Whether the minor has reached end of life on a day.
    #[must_use]
    pub fn reached(self, today: Date) -> bool {
        match self {
            Self::On(day) => day <= today,
            Self::Past(PastKeyword::Past) => true,
        }
    }
}

impl std::fmt::Display for EndOfLife {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::On(day) => write!(f, "on {day}"),
            Self::Past(PastKeyword::Past) => f.write_str("long ago"),
        }
    }
}

/// How well a release that can run is supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SupportLevel {
    /// Istio supports it on this Kubernetes version.
    Supported,
    /// It has no known problem, but Istio doesn't support it on this Kubernetes version.
    Untested,
}

/// Why a release can't or shouldn't run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionRefusal {
    /// There are no facts about the minor.
    #[error("Istio {minor} is unknown to this operator, which knows {known}")]
    UnknownMinor {
        minor: Minor,
        /// The known minors.
        known: String,
    },
    /// The cluster is too old.
    #[error("Istio {minor} needs Kubernetes {minimum} or newer, but the cluster runs {cluster}; {nearest}")]
    KubernetesTooOld { minor: Minor, minimum: Minor, cluster: Minor, nearest: String },
    /// The cluster is too new.
    #[error(
        "Istio {minor} can't run on Kubernetes {broken_from} or newer, but the cluster runs {cluster}: {because}; \
         {nearest}"
    )]
    KubernetesTooNew { minor: Minor, broken_from: Minor, because: String, cluster: Minor, nearest: String },
    /// It gets no security fixes.
    #[error("Istio {minor} reached end of life {end} and gets no security fixes; {nearest}")]
    EndOfLife { minor: Minor, end: EndOfLife, nearest: String },
}

/// The bundled facts are inconsistent; can't happen in a build whose tests pass.
#[derive(Debug, thiserror::Error)]
pub enum ParseFactsError {
    /// Invalid YAML, or a missing or unknown field.
    #[error("can't parse the facts about releases")]
    Yaml(#[source] Box<serde_saphyr::Error>),
    /// A minor has two entries.
    #[error("duplicate entry for Istio {0}")]
    Duplicate(Minor),
    /// The start of a range is after its end.
    #[error("Istio {0}: invalid range of Kubernetes versions")]
    Range(Minor),
    /// `crds` names a set that doesn't exist.
    #[error("Istio {minor}: crdSets has no {name:?}")]
    CrdSet { minor: Minor, name: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FactsFile {
    crd_sets: BTreeMap<String, Vec<String>>,
    releases: Vec<MinorFacts>,
}

impl ReleaseFacts {
    /// Returns the facts that are compiled into the program.
    pub fn bundled() -> Result<Self, ParseFactsError> {
        Self::parse(include_str!("../../../bundled-manifests/releases.yaml"))
    }

    fn parse(text: &str) -> Result<Self, ParseFactsError> {
        let FactsFile { crd_sets, releases } = yaml::parse(text).map_err(ParseFactsError::Yaml)?;
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
                return Err(ParseFactsError::Duplicate(minor));
            }
        }
        Ok(Self { minors, crd_sets })
    }

    /// Returns the facts about one minor.
    pub fn minor(&self, minor: Minor) -> Result<&MinorFacts, VersionRefusal> {
        let known = || self.minors.keys().rev().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        self.minors.get(&minor).ok_or_else(|| VersionRefusal::UnknownMinor { minor, known: known() })
    }

    /// Returns the facts about all minors, oldest first.
    pub fn minors(&self) -> impl Iterator<Item = &MinorFacts> {
        self.minors.values()
    }

    /// Returns the known issues of an upgrade or rollback between two minors, each with the minor that introduced it.
    pub fn hazards(&self, from: Minor, to: Minor) -> impl Iterator<Item = (Minor, &str)> {
        let between = move |minor: Minor| from.min(to) < minor && minor <= from.max(to);
        let crossed = self.minors.values().filter(move |facts| between(facts.minor));
        crossed.flat_map(|facts| facts.hazards.iter().map(|hazard| (facts.minor, hazard.as_str())))
    }

    /// Returns the names of a minor's CRDs, as `plural.group`.
    pub fn crds(&self, minor: Minor) -> Result<&[String], VersionRefusal> {
        let set = self.crd_sets.get(&self.minor(minor)?.crds);
        Ok(set.map(Vec::as_slice).unwrap_or_default())
    }

    /// Checks whether a cluster can run the requested version. Call it before looking the version up in the catalog, so
    /// that an incompatible release is refused as incompatible even if the catalog lacks it. `cluster` is the API
    /// server's version; `available` are the catalog's versions, used to suggest another one.
    pub fn check(
        &self,
        request: &VersionRequest,
        cluster: &Version,
        today: Date,
        available: &[&Version],
    ) -> Result<SupportLevel, VersionRefusal> {
        let (major, minor) = request.minor();
        let minor = Minor { major, minor };
        let cluster = Minor::of(cluster);
        self.compatibility(minor, cluster, today, || self.nearest(minor, cluster, today, available))
    }

    fn compatibility(
        &self,
        minor: Minor,
        cluster: Minor,
        today: Date,
        nearest: impl FnOnce() -> String,
    ) -> Result<SupportLevel, VersionRefusal> {
        let facts = self.minor(minor)?;
        let KubernetesRange { minimum, supported: (first, last), ref broken_from } = facts.kubernetes;
        if cluster < minimum {
            return Err(VersionRefusal::KubernetesTooOld { minor, minimum, cluster, nearest: nearest() });
        }
        if let Some(BrokenFrom { version, because }) = broken_from
            && cluster >= *version
        {
            let (broken_from, because) = (*version, because.clone());
            return Err(VersionRefusal::KubernetesTooNew { minor, broken_from, because, cluster, nearest: nearest() });
        }
        match facts.end_of_life {
            Some(end) if end.reached(today) => Err(VersionRefusal::EndOfLife { minor, end, nearest: nearest() }),
            _ if (first..=last).contains(&cluster) => Ok(SupportLevel::Supported),
            _ => Ok(SupportLevel::Untested),
        }
    }

    /// Suggests a release: the next newer compatible one in the catalog, else the next older one; a pre-release only if
    /// there is nothing else.
    fn nearest(&self, from: Minor, cluster: Minor, today: Date, available: &[&Version]) -> String {
        let compatible = |minor: Minor| self.compatibility(minor, cluster, today, String::new).is_ok();
        let candidates = available.iter().filter(|version| compatible(Minor::of(version)));
        let nearest = candidates.min_by_key(|version| {
            let minor = Minor::of(version);
            let distance = minor.minor.abs_diff(from.minor);
            (!version.pre.is_empty(), minor.major.abs_diff(from.major), minor < from, distance, Reverse(**version))
        });
        if let Some(version) = nearest {
            return format!("the nearest compatible release in the catalog is {version}");
        }
        let minors: Vec<String> =
            self.minors.keys().copied().filter(|minor| compatible(*minor)).map(|minor| minor.to_string()).collect();
        if minors.is_empty() {
            "this operator knows no compatible release".to_owned()
        } else {
            format!("the catalog has no compatible release; compatible are Istio {}", minors.join(", "))
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
