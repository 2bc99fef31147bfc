//! The platform, its restrictions and its notes.

use meshwright_api::{LoadBalancerSupport, PlatformPermission};

use super::input::CheckInput;
use super::snapshot::ClusterSnapshot;
use super::{Finding, require};
use crate::mesh::text::abbreviate;
use crate::platform::{DetectedPlatform, Platform, Platforms};

const CHECK: &str = "platform";

pub(super) fn findings(input: &CheckInput, cluster: &ClusterSnapshot) -> Vec<Finding> {
    let detected = match (&input.platform, &cluster.platform) {
        // A provisional result was resolved without reading the cluster.
        (Some(given), detected_now) if !given.provisional || detected_now.is_ok() => given,
        _ => match require(CHECK, "the platform", &cluster.platform) {
            Ok(detected) => detected,
            Err(unknown) => return unknown,
        },
    };
    let platforms = match Platforms::bundled() {
        Ok(platforms) => platforms,
        Err(error) => return vec![Finding::unknown(CHECK, "the platform", error.to_string())],
    };
    match platforms.get(&detected.name) {
        Some(platform) => evaluate(input, detected, platform),
        None => vec![Finding::unknown(CHECK, &detected.name, "unknown platform")],
    }
}

fn evaluate(input: &CheckInput, detected: &DetectedPlatform, platform: &Platform) -> Vec<Finding> {
    let evidence = match detected.evidence.as_slice() {
        [] => "no platform detected".to_owned(),
        evidence => abbreviate(evidence),
    };
    let name = platform.name();
    let mut findings = vec![Finding::pass(CHECK, name, format!("{} ({evidence})", platform.description()))];
    let forbidden = [(platform.privileged_pods(), "privileged pods"), (platform.host_paths(), "hostPath volumes")];
    for (_, what) in forbidden.into_iter().filter(|(permission, _)| *permission == PlatformPermission::Forbidden) {
        if !input.privileged.is_empty() {
            let reason = format!("forbids {what} by default, which istio-cni and ztunnel need");
            let fix = "allow them in the cluster's configuration, or use a profile without istio-cni and ztunnel";
            findings.push(Finding::warn(CHECK, name, reason).fix(fix));
        }
    }
    if platform.load_balancer() == LoadBalancerSupport::Absent && !input.load_balancers.is_empty() {
        let reason = format!("has no load balancer implementation for Service {}", abbreviate(&input.load_balancers));
        let fix = "set service.type of these gateways to NodePort, or install an implementation such as MetalLB";
        findings.push(Finding::warn(CHECK, name, reason).fix(fix));
    }
    findings.extend(platform.requires().chain(platform.notes()).map(|note| Finding::pass(CHECK, name, note)));
    findings
}

#[cfg(test)]
mod tests {
    use super::super::{CheckVerdict, samples};
    use super::*;

    fn findings_for(change: impl FnOnce(&mut CheckInput)) -> Vec<Finding> {
        let mut input = samples::input();
        change(&mut input);
        findings(&input, &samples::cluster())
    }

    fn warnings(findings: &[Finding]) -> Vec<&str> {
        findings.iter().filter(|f| f.verdict == CheckVerdict::Warn).map(|f| f.reason.as_str()).collect()
    }

    #[test]
    fn reports_platform_with_evidence_and_notes() {
        let found = findings_for(|input| input.platform = Some(DetectedPlatform::from_spec("gke")));
        assert_eq!((found[0].subject.as_str(), found[0].verdict), ("gke", CheckVerdict::Pass));
        assert!(found[0].reason.contains("spec.platform says so"), "{found:?}");
        assert!(found.iter().any(|finding| finding.reason.contains("TCP 15017")), "{found:?}");
    }

    #[test]
    fn warns_if_privileged_pods_are_forbidden() {
        let tkgi = |input: &mut CheckInput| input.platform = Some(DetectedPlatform::from_spec("tkgi"));
        assert_eq!(warnings(&findings_for(tkgi)), [""; 0]);
        let found = findings_for(|input| {
            tkgi(input);
            input.privileged = ["istio-system".to_owned()].into();
        });
        assert!(warnings(&found)[0].contains("privileged pods"), "{found:?}");
    }

    #[test]
    fn warns_about_missing_load_balancer() {
        let with = |name: &str| {
            let platform = Some(DetectedPlatform::from_spec(name));
            findings_for(|input| {
                input.platform = platform;
                input.load_balancers = vec!["edge/ingress".into()];
            })
        };
        assert!(warnings(&with("kind"))[0].contains("edge/ingress"));
        assert_eq!(warnings(&with("gke")), [""; 0]);
    }

    #[test]
    fn undetected_platform_is_unknown_unless_in_spec() {
        let mut input = samples::input();
        input.platform = Some(DetectedPlatform::default());
        assert_eq!(findings(&input, &samples::unreadable_cluster())[0].verdict, CheckVerdict::Unknown);
        input.platform = Some(DetectedPlatform::from_spec("gke"));
        assert_eq!(findings(&input, &samples::unreadable_cluster())[0].verdict, CheckVerdict::Pass);
    }
}
