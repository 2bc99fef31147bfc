//! Kubernetes version compatibility, and the validity of the spec.

use meshwright_api::conditions::Reason;
use meshwright_api::version::VersionRequest;
use semver::Version;

use super::input::CheckInput;
use super::node_ports::is_node_port_reason;
use super::snapshot::ClusterSnapshot;
use super::{Finding, require};
use crate::catalog::ReleaseFacts;
use crate::catalog::facts::{SupportLevel, VersionRefusal};
use crate::mesh::unknown_keys::abbreviated;

const VERSION: &str = "kubernetes-version";
const SPEC: &str = "spec";

pub(super) fn findings(input: &CheckInput, cluster: &ClusterSnapshot) -> Vec<Finding> {
    let mut findings = match require(VERSION, "the API server", &cluster.version) {
        Ok(version) => vec![version_finding(input, version)],
        Err(unknown) => return unknown,
    };
    findings.extend(spec(input));
    findings.extend(unknown_keys(input));
    findings
}

fn version_finding(input: &CheckInput, stated: &str) -> Finding {
    let subject = format!("Kubernetes {stated}");
    let Ok(version) = Version::parse(stated.trim_start_matches('v')) else {
        return Finding::unknown(VERSION, subject, "can't be parsed as a version");
    };
    let facts = match ReleaseFacts::bundled() {
        Ok(facts) => facts,
        Err(error) => return Finding::unknown(VERSION, subject, error.to_string()),
    };
    let available: Vec<&Version> = input.available.iter().collect();
    let evaluate = |request: &VersionRequest| facts.check(request, &version, input.today, &available);
    match &input.version {
        Some(request) => finding_of(&subject, request, evaluate(request)),
        None => any(&subject, input, evaluate),
    }
}

fn finding_of(subject: &str, request: &VersionRequest, found: Result<SupportLevel, VersionRefusal>) -> Finding {
    match found {
        Ok(SupportLevel::Supported) => Finding::pass(VERSION, subject, format!("Istio {request} supports it")),
        Ok(SupportLevel::Untested) => Finding::warn(
            VERSION,
            subject,
            format!("Istio {request} is not tested with it, but no incompatibility is known"),
        )
        .fix("use a release that supports this version, or test it on a non-production cluster"),
        Err(error) => {
            Finding::fail(VERSION, subject, error.to_string()).fix("change spec.version to a compatible release")
        }
    }
}

/// Without a MeshInstallation, one compatible release in the catalog is enough.
fn any(
    subject: &str,
    input: &CheckInput,
    evaluate: impl Fn(&VersionRequest) -> Result<SupportLevel, VersionRefusal>,
) -> Finding {
    if input.available.is_empty() {
        let reason = "not compared, because neither --catalog nor --file is set";
        return Finding::pass(VERSION, subject, reason).fix("set --catalog or --file");
    }
    let results: Vec<(&Version, Result<SupportLevel, VersionRefusal>)> =
        input.available.iter().map(|version| (version, evaluate(&VersionRequest::Exact(version.clone())))).collect();
    let of = |wanted: SupportLevel| {
        let good = results.iter().filter(|(_, found)| found.as_ref().is_ok_and(|support| *support == wanted));
        good.map(|(version, _)| version.to_string()).collect::<Vec<_>>().join(", ")
    };
    let (supported, untested) = (of(SupportLevel::Supported), of(SupportLevel::Untested));
    if !supported.is_empty() {
        return Finding::pass(VERSION, subject, format!("supported by Istio {supported} in the catalog"));
    }
    if !untested.is_empty() {
        let reason = format!("no release in the catalog supports it; Istio {untested} may work");
        return Finding::warn(VERSION, subject, reason).fix("add a release that supports it: meshwright catalog add");
    }
    let reason =
        results.iter().find_map(|(_, found)| found.as_ref().err()).map(ToString::to_string).unwrap_or_default();
    Finding::fail(VERSION, subject, reason).fix("add a compatible release: meshwright catalog add")
}

/// Whether the operator would accept the spec. Rejections because of the version or node ports are reported by the
/// checks for these.
fn spec(input: &CheckInput) -> Option<Finding> {
    match input.installation.as_ref()? {
        Ok(wanted) => {
            let owner = &wanted.owner;
            let reason = format!("valid; renders {} resources of Istio {}", wanted.desired.len(), owner.release);
            Some(Finding::pass(SPEC, format!("MeshInstallation {}", owner.installation), reason))
        }
        Err(blocker) if blocker.reason == Reason::VersionNotSupported || is_node_port_reason(blocker.reason) => None,
        Err(blocker) => Some(Finding::fail(SPEC, "MeshInstallation", &blocker.message).fix("correct the spec")),
    }
}

/// Keys of the spec that have no effect.
fn unknown_keys(input: &CheckInput) -> Vec<Finding> {
    let Some(Ok(wanted)) = &input.installation else { return Vec::new() };
    let subject = format!("MeshInstallation {}", wanted.owner.installation);
    abbreviated(&wanted.unknown_keys).into_iter().map(|warning| Finding::warn(SPEC, &subject, warning)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{CheckVerdict, samples};
    use super::*;
    use crate::mesh::health::Blocker;
    use crate::mesh::problem::Problem;

    fn findings_for(stated: &str, request: Option<&str>, available: &[&str]) -> Finding {
        let mut input = samples::input();
        input.version = request.map(|request| request.parse().unwrap());
        input.available = available.iter().map(|version| version.parse().unwrap()).collect();
        version_finding(&input, stated)
    }

    #[test]
    fn compares_release_with_kubernetes_version() {
        assert_eq!(findings_for("v1.34.2", Some("1.31"), &["1.31.2"]).verdict, CheckVerdict::Pass);
        assert_eq!(findings_for("v1.33.4-gke.1245000", Some("1.31"), &["1.31.2"]).verdict, CheckVerdict::Pass);
        let old = findings_for("v1.20.0", Some("1.31"), &["1.31.2"]);
        assert!(
            old.verdict == CheckVerdict::Fail && old.reason.contains("or newer, but the cluster runs 1.20"),
            "{old:?}"
        );
        assert_eq!(findings_for("v1.99.0", Some("1.31"), &["1.31.2"]).verdict, CheckVerdict::Warn);
        let first = findings_for("v1.34.2", Some("1.0.6"), &["1.31.2"]);
        assert!(first.verdict == CheckVerdict::Fail && first.reason.contains("1.31.2"), "{first:?}");
        assert_eq!(findings_for("yesterday's", Some("1.31"), &[]).verdict, CheckVerdict::Unknown);
    }

    #[test]
    fn passes_with_one_compatible_release() {
        assert_eq!(findings_for("v1.34.2", None, &["1.31.2", "1.13.9"]).verdict, CheckVerdict::Pass);
        assert_eq!(findings_for("v1.34.2", None, &["1.13.9"]).verdict, CheckVerdict::Fail);
        assert_eq!(findings_for("v1.99.0", None, &["1.31.2"]).verdict, CheckVerdict::Warn);
        assert_eq!(findings_for("v1.34.2", None, &[]).verdict, CheckVerdict::Pass);
    }

    #[test]
    fn warns_of_unknown_keys() {
        let mut input = samples::input();
        assert_eq!(unknown_keys(&input), []);
        if let Some(Ok(mesh)) = &mut input.installation {
            mesh.unknown_keys = vec![Problem::new("spec.meshConfig.x", "unknown key"); 12];
        }
        let found = unknown_keys(&input);
        assert_eq!((found.len(), found[0].verdict), (11, CheckVerdict::Warn));
        assert_eq!((found[0].check, found[0].reason.as_str()), ("spec", "spec.meshConfig.x: unknown key"));
        assert!(found[10].reason.contains("2 more"), "{found:?}");
    }

    #[test]
    fn reports_spec_rejection_once() {
        let mut input = samples::input();
        let rejected = |reason| Some(Err(Blocker { reason, message: "spec.gateways[a].name: no".into() }));
        input.installation = rejected(Reason::InvalidSpec);
        let finding = spec(&input).unwrap();
        assert!(finding.verdict == CheckVerdict::Fail && finding.reason.contains("spec.gateways[a].name"));
        for reported_elsewhere in [Reason::VersionNotSupported, Reason::NodePortInUse] {
            input.installation = rejected(reported_elsewhere);
            assert_eq!(spec(&input), None);
        }
        input.installation = None;
        assert_eq!(spec(&input), None);
    }
}
