//! What speaks for and against a mesh in a cluster, found before anything is installed.
//!
//! [`observe`] is the only part that does I/O, and it only reads: lists, reviews of rights, and the creation of a Service
//! that the API server refuses. Everything else is pure: [`asked`] is what shall be installed, [`cluster`] what was seen,
//! and each of the other modules is one group of checks, a function from these two to findings. A group that couldn't be
//! looked at is [`Verdict::Unknown`] and never taken for good. [`judge`] has the list of groups.

pub mod asked;
pub mod cluster;
mod collisions;
mod foreign;
mod gateway_api;
mod kubernetes;
mod leftovers;
pub mod makers;
mod node_ports;
pub mod observe;
mod platform;
mod pod_security;
mod rights;
#[cfg(test)]
mod samples;
mod webhooks;
pub mod workloads;

use serde::Serialize;

use asked::Asked;
use cluster::{Cluster, Seen};

/// What a check came to. The order is that of gravity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// It couldn't be seen; the reason says why.
    Unknown,
    /// The mesh works, and something will surprise somebody.
    Warn,
    /// The mesh will not be installed, or not work.
    Fail,
}

/// The outcome of one check of one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check: a name that stays the same between versions. Example: `kubernetes-version`.
    pub check: &'static str,
    /// The outcome.
    pub verdict: Verdict,
    /// What was looked at. Example: `Deployment istio-system/istiod`.
    pub subject: String,
    /// Why the outcome is what it is.
    pub reason: String,
    /// What to do about it; absent where there is nothing to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Finding {
    fn new(check: &'static str, verdict: Verdict, subject: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { check, verdict, subject: subject.into(), reason: reason.into(), fix: None }
    }

    fn pass(check: &'static str, subject: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(check, Verdict::Pass, subject, reason)
    }

    fn warn(check: &'static str, subject: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(check, Verdict::Warn, subject, reason)
    }

    fn fail(check: &'static str, subject: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(check, Verdict::Fail, subject, reason)
    }

    fn unknown(check: &'static str, subject: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(check, Verdict::Unknown, subject, reason)
    }

    fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// One group of checks.
type Group = fn(&Asked, &Cluster) -> Vec<Finding>;

/// The groups, in the order in which they are shown.
const GROUPS: [Group; 10] = [
    kubernetes::findings,
    platform::findings,
    node_ports::findings,
    rights::findings,
    foreign::findings,
    leftovers::findings,
    collisions::findings,
    pod_security::findings,
    webhooks::findings,
    gateway_api::findings,
];

/// All findings, group by group.
#[must_use]
pub fn judge(asked: &Asked, cluster: &Cluster) -> Vec<Finding> {
    GROUPS.iter().flat_map(|group| group(asked, cluster)).collect()
}

/// The gravest verdict; `Pass` where nothing was found.
#[must_use]
pub fn worst(findings: &[Finding]) -> Verdict {
    findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Pass)
}

/// What was seen, or the finding that it couldn't be.
fn look<'a, T>(check: &'static str, subject: &str, seen: &'a Seen<T>) -> Result<&'a T, Vec<Finding>> {
    seen.as_ref().map_err(|why| vec![Finding::unknown(check, subject, why)])
}

/// What kept a search for traces of meshes from being complete.
fn hidden(check: &'static str, cluster: &Cluster) -> Option<Finding> {
    (!cluster.hidden.is_empty()).then(|| Finding::unknown(check, "what can't be listed", cluster.hidden.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_seen_is_graver_than_good_and_less_grave_than_trouble() {
        let finding = |verdict| Finding::new("x", verdict, "", "");
        assert_eq!(worst(&[]), Verdict::Pass);
        assert_eq!(worst(&[finding(Verdict::Pass), finding(Verdict::Unknown)]), Verdict::Unknown);
        assert_eq!(worst(&[finding(Verdict::Fail), finding(Verdict::Warn)]), Verdict::Fail);
    }

    #[test]
    fn a_clean_cluster_passes_every_check() {
        let findings = judge(&samples::asked(), &samples::cluster());
        let others: Vec<_> = findings.iter().filter(|finding| finding.verdict != Verdict::Pass).collect();
        assert!(others.is_empty(), "{others:#?}");
        assert!(findings.len() >= GROUPS.len(), "every group says something");
    }

    #[test]
    fn a_cluster_of_which_nothing_can_be_seen_passes_no_check() {
        let findings = judge(&samples::asked(), &samples::blind());
        assert!(findings.iter().all(|finding| finding.verdict == Verdict::Unknown), "{findings:#?}");
        assert!(findings.iter().all(|finding| finding.reason.contains("may not")), "{findings:#?}");
    }

    #[test]
    fn the_document_tells_of_every_check() {
        let document = include_str!("../../../docs/check.md");
        let clean = judge(&samples::asked(), &samples::cluster());
        let names = clean.iter().map(|finding| finding.check).chain(workloads::CHECKS);
        for name in names {
            assert!(document.contains(&format!("| `{name}` |")), "{name}");
        }
    }
}
