//! Pre-install checks of a cluster.
//!
//! [`observe`] is the only part that does I/O, and it only reads: lists, access reviews, and the creation of an invalid
//! Service, which the API server rejects. The rest is pure: [`input`] describes what to check for, [`snapshot`] what
//! was read, and each other module is a group of checks: a function from these two to findings. A group whose data
//! can't be read reports [`CheckVerdict::Unknown`], never Pass. [`evaluate`] runs all groups.

mod conflicts;
mod existing_meshes;
mod gateway_api;
pub mod input;
mod kubernetes;
mod leftovers;
pub mod managed_by;
mod namespace_labels;
mod node_ports;
mod nodes;
pub mod observe;
mod permissions;
mod platform;
mod pod_security;
#[cfg(test)]
mod samples;
pub mod snapshot;
mod webhooks;
pub mod workloads;

use serde::Serialize;

use input::CheckInput;
use snapshot::{ClusterSnapshot, ReadResult};

/// The result of a check, ordered by severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum CheckVerdict {
    /// The check found no problem.
    Pass,
    /// The data for the check can't be read; the reason has the API server's error.
    Unknown,
    /// The mesh works, but with a limitation or a risk.
    Warn,
    /// The mesh can't be installed or won't work.
    Fail,
}

/// The result of one check of one subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable ID of the check. Example: `kubernetes-version`.
    pub check: &'static str,
    /// Result of the check.
    pub verdict: CheckVerdict,
    /// The checked object. Example: `Deployment istio-system/istiod`.
    pub subject: String,
    /// The reason for the verdict.
    pub reason: String,
    /// How to fix the problem; absent if there is nothing to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Finding {
    fn new(check: &'static str, verdict: CheckVerdict, subject: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { check, verdict, subject: subject.into(), reason: reason.into(), fix: None }
    }

    fn pass(check: &'static str, subject: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(check, CheckVerdict::Pass, subject, reason)
    }

    fn warn(check: &'static str, subject: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(check, CheckVerdict::Warn, subject, reason)
    }

    fn fail(check: &'static str, subject: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(check, CheckVerdict::Fail, subject, reason)
    }

    fn unknown(check: &'static str, subject: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(check, CheckVerdict::Unknown, subject, reason)
    }

    fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// A group of checks.
type CheckGroup = fn(&CheckInput, &ClusterSnapshot) -> Vec<Finding>;

/// The groups in output order.
const CHECK_GROUPS: [CheckGroup; 12] = [
    kubernetes::findings,
    platform::findings,
    nodes::findings,
    node_ports::findings,
    permissions::findings,
    existing_meshes::findings,
    leftovers::findings,
    conflicts::findings,
    pod_security::findings,
    namespace_labels::findings,
    webhooks::findings,
    gateway_api::findings,
];

/// Runs all groups.
#[must_use]
pub fn evaluate(input: &CheckInput, cluster: &ClusterSnapshot) -> Vec<Finding> {
    CHECK_GROUPS.iter().flat_map(|group| group(input, cluster)).collect()
}

/// The most severe verdict; `Pass` if there are no findings.
#[must_use]
pub fn worst(findings: &[Finding]) -> CheckVerdict {
    findings.iter().map(|finding| finding.verdict).max().unwrap_or(CheckVerdict::Pass)
}

/// The data that was read, or an Unknown finding with the error.
fn require<'a, T>(check: &'static str, subject: &str, result: &'a ReadResult<T>) -> Result<&'a T, Vec<Finding>> {
    result.as_ref().map_err(|error| vec![Finding::unknown(check, subject, error)])
}

/// An Unknown finding if some kinds can't be listed, so that the search for existing meshes is incomplete.
fn unreadable(check: &'static str, cluster: &ClusterSnapshot) -> Option<Finding> {
    (!cluster.unreadable.is_empty())
        .then(|| Finding::unknown(check, "kinds that can't be listed", cluster.unreadable.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_verdicts_by_severity() {
        let finding = |verdict| Finding::new("x", verdict, "", "");
        assert_eq!(worst(&[]), CheckVerdict::Pass);
        assert_eq!(worst(&[finding(CheckVerdict::Pass), finding(CheckVerdict::Unknown)]), CheckVerdict::Unknown);
        assert_eq!(worst(&[finding(CheckVerdict::Fail), finding(CheckVerdict::Warn)]), CheckVerdict::Fail);
    }

    #[test]
    fn clean_cluster_passes_all_checks() {
        let findings = evaluate(&samples::input(), &samples::cluster());
        let others: Vec<_> = findings.iter().filter(|finding| finding.verdict != CheckVerdict::Pass).collect();
        assert!(others.is_empty(), "{others:#?}");
        assert!(findings.len() >= CHECK_GROUPS.len(), "every group reports a finding");
    }

    #[test]
    fn unreadable_cluster_passes_no_check() {
        let findings = evaluate(&samples::input(), &samples::unreadable_cluster());
        assert!(findings.iter().all(|finding| finding.verdict == CheckVerdict::Unknown), "{findings:#?}");
        assert!(findings.iter().all(|finding| finding.reason.contains("not allowed")), "{findings:#?}");
    }

    #[test]
    fn documentation_lists_every_check() {
        let document = include_str!("../../../docs/check.md");
        let clean = evaluate(&samples::input(), &samples::cluster());
        let names = clean.iter().map(|finding| finding.check).chain(workloads::CHECKS);
        for name in names {
            assert!(document.contains(&format!("| `{name}` |")), "{name}");
        }
    }
}
