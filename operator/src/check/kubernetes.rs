//! The API server's version against the release, and whether the installation can be followed at all.

use meshwright_api::conditions::Reason;
use meshwright_api::version::VersionRequest;
use semver::Version;

use super::asked::Asked;
use super::cluster::Cluster;
use super::node_ports::is_about_ports;
use super::{Finding, look};
use crate::catalog::Facts;
use crate::catalog::facts::{Refusal, Support};

const VERSION: &str = "kubernetes-version";
const SPEC: &str = "spec";

pub(super) fn findings(asked: &Asked, cluster: &Cluster) -> Vec<Finding> {
    let mut findings = match look(VERSION, "the API server", &cluster.version) {
        Ok(version) => vec![version_finding(asked, version)],
        Err(unknown) => return unknown,
    };
    findings.extend(spec(asked));
    findings
}

fn version_finding(asked: &Asked, stated: &str) -> Finding {
    let subject = format!("Kubernetes {stated}");
    let Ok(version) = Version::parse(stated.trim_start_matches('v')) else {
        return Finding::unknown(VERSION, subject, "this is no version that can be compared");
    };
    let facts = match Facts::bundled() {
        Ok(facts) => facts,
        Err(error) => return Finding::unknown(VERSION, subject, error.to_string()),
    };
    let available: Vec<&Version> = asked.available.iter().collect();
    let judge = |request: &VersionRequest| facts.check(request, &version, asked.today, &available);
    match &asked.version {
        Some(request) => finding_of(&subject, request, judge(request)),
        None => any(&subject, asked, judge),
    }
}

fn finding_of(subject: &str, request: &VersionRequest, found: Result<Support, Refusal>) -> Finding {
    match found {
        Ok(Support::Supported) => Finding::pass(VERSION, subject, format!("Istio {request} is supported on it")),
        Ok(Support::Untested) => Finding::warn(
            VERSION,
            subject,
            format!("Istio {request} is not supported on it, though nothing is known against it"),
        )
        .fix("ask for a release that is supported there, or try it where nothing depends on it"),
        Err(refusal) => {
            Finding::fail(VERSION, subject, refusal.to_string()).fix("change spec.version to a release that works here")
        }
    }
}

/// Nothing in particular is asked for: what of the catalog would work?
fn any(subject: &str, asked: &Asked, judge: impl Fn(&VersionRequest) -> Result<Support, Refusal>) -> Finding {
    if asked.available.is_empty() {
        let reason = "no catalog and no installation were given, so there is no release to hold it against";
        return Finding::pass(VERSION, subject, reason).fix("name them with --catalog and --file");
    }
    let judged: Vec<(&Version, Result<Support, Refusal>)> =
        asked.available.iter().map(|version| (version, judge(&VersionRequest::Exact(version.clone())))).collect();
    let of = |wanted: Support| {
        let good = judged.iter().filter(|(_, found)| found.as_ref().is_ok_and(|support| *support == wanted));
        good.map(|(version, _)| version.to_string()).collect::<Vec<_>>().join(", ")
    };
    let (supported, untested) = (of(Support::Supported), of(Support::Untested));
    if !supported.is_empty() {
        return Finding::pass(VERSION, subject, format!("Istio {supported} of the catalog is supported on it"));
    }
    if !untested.is_empty() {
        let reason = format!("no release of the catalog is supported on it; Istio {untested} may work");
        return Finding::warn(VERSION, subject, reason).fix("add a release that is: meshwright catalog add");
    }
    let why = judged.iter().find_map(|(_, found)| found.as_ref().err()).map(ToString::to_string).unwrap_or_default();
    Finding::fail(VERSION, subject, why).fix("add a release that works here: meshwright catalog add")
}

/// What the operator itself would say to the installation. What it says of its version and of node ports is told by the
/// checks of these.
fn spec(asked: &Asked) -> Option<Finding> {
    match asked.installation.as_ref()? {
        Ok(wanted) => {
            let owner = &wanted.owner;
            let reason = format!("stands for {} objects of Istio {}", wanted.desired.len(), owner.release);
            Some(Finding::pass(SPEC, format!("MeshInstallation {}", owner.installation), reason))
        }
        Err(blocker) if blocker.reason == Reason::VersionNotSupported || is_about_ports(blocker.reason) => None,
        Err(blocker) => Some(Finding::fail(SPEC, "MeshInstallation", &blocker.message).fix("change the installation")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Verdict, samples};
    use super::*;
    use crate::mesh::health::Blocker;

    fn judged(stated: &str, request: Option<&str>, available: &[&str]) -> Finding {
        let mut asked = samples::asked();
        asked.version = request.map(|request| request.parse().unwrap());
        asked.available = available.iter().map(|version| version.parse().unwrap()).collect();
        version_finding(&asked, stated)
    }

    #[test]
    fn a_release_is_held_against_what_is_known_of_its_minor() {
        assert_eq!(judged("v1.34.2", Some("1.31"), &["1.31.2"]).verdict, Verdict::Pass);
        assert_eq!(judged("v1.33.4-gke.1245000", Some("1.31"), &["1.31.2"]).verdict, Verdict::Pass);
        let old = judged("v1.20.0", Some("1.31"), &["1.31.2"]);
        assert!(old.verdict == Verdict::Fail && old.reason.contains("or newer, and this is 1.20"), "{old:?}");
        assert_eq!(judged("v1.99.0", Some("1.31"), &["1.31.2"]).verdict, Verdict::Warn);
        let first = judged("v1.34.2", Some("1.0.6"), &["1.31.2"]);
        assert!(first.verdict == Verdict::Fail && first.reason.contains("1.31.2"), "{first:?}");
        assert_eq!(judged("yesterday's", Some("1.31"), &[]).verdict, Verdict::Unknown);
    }

    #[test]
    fn without_an_installation_one_release_of_the_catalog_that_works_is_enough() {
        assert_eq!(judged("v1.34.2", None, &["1.31.2", "1.13.9"]).verdict, Verdict::Pass);
        assert_eq!(judged("v1.34.2", None, &["1.13.9"]).verdict, Verdict::Fail);
        assert_eq!(judged("v1.99.0", None, &["1.31.2"]).verdict, Verdict::Warn);
        assert_eq!(judged("v1.34.2", None, &[]).verdict, Verdict::Pass);
    }

    #[test]
    fn what_the_operator_would_refuse_is_said_in_its_words_and_once() {
        let mut asked = samples::asked();
        let refused = |reason| Some(Err(Blocker { reason, message: "spec.gateways[a].name: no".into() }));
        asked.installation = refused(Reason::InvalidSpec);
        let finding = spec(&asked).unwrap();
        assert!(finding.verdict == Verdict::Fail && finding.reason.contains("spec.gateways[a].name"));
        for told_elsewhere in [Reason::VersionNotSupported, Reason::NodePortTaken] {
            asked.installation = refused(told_elsewhere);
            assert_eq!(spec(&asked), None);
        }
        asked.installation = None;
        assert_eq!(spec(&asked), None);
    }
}
