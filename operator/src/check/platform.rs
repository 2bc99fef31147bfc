//! What the cluster runs on, what that forbids of the mesh, and what a person should know of it.

use meshwright_api::{LoadBalancers, PlatformPermission};

use super::asked::Asked;
use super::cluster::Cluster;
use super::{Finding, look};
use crate::mesh::words::few;
use crate::platform::{Detected, Platform, Platforms};

const CHECK: &str = "platform";

pub(super) fn findings(asked: &Asked, cluster: &Cluster) -> Vec<Finding> {
    let detected = match (&asked.platform, &cluster.platform) {
        // What was resolved without having seen the cluster says nothing of it.
        (Some(given), seen) if !given.provisional || seen.is_ok() => given,
        _ => match look(CHECK, "the platform", &cluster.platform) {
            Ok(detected) => detected,
            Err(unknown) => return unknown,
        },
    };
    let platforms = match Platforms::bundled() {
        Ok(platforms) => platforms,
        Err(error) => return vec![Finding::unknown(CHECK, "the platform", error.to_string())],
    };
    match platforms.get(&detected.name) {
        Some(platform) => judge(asked, detected, platform),
        None => vec![Finding::unknown(CHECK, &detected.name, "nothing is known of this platform")],
    }
}

fn judge(asked: &Asked, detected: &Detected, platform: &Platform) -> Vec<Finding> {
    let evidence = match detected.evidence.as_slice() {
        [] => "nothing shows which".to_owned(),
        evidence => few(evidence),
    };
    let name = platform.name();
    let mut findings = vec![Finding::pass(CHECK, name, format!("{} ({evidence})", platform.description()))];
    let forbidden =
        [(platform.privileged_pods(), "privileged pods"), (platform.host_paths(), "directories of the node")];
    for (_, what) in forbidden.into_iter().filter(|(permission, _)| *permission == PlatformPermission::Forbidden) {
        if !asked.privileged.is_empty() {
            let reason =
                format!("forbids {what}, which cni and ztunnel need, unless whoever made the cluster allowed them");
            let fix = "have them allowed, or take a profile without cni and ztunnel";
            findings.push(Finding::warn(CHECK, name, reason).fix(fix));
        }
    }
    if platform.load_balancer() == LoadBalancers::Absent && !asked.load_balancers.is_empty() {
        let reason = format!("has no load balancers for Service {}", few(&asked.load_balancers));
        let fix = "set service.type of these gateways to NodePort, or add an implementation such as MetalLB";
        findings.push(Finding::warn(CHECK, name, reason).fix(fix));
    }
    findings.extend(platform.requires().chain(platform.notes()).map(|note| Finding::pass(CHECK, name, note)));
    findings
}

#[cfg(test)]
mod tests {
    use super::super::{Verdict, samples};
    use super::*;

    fn judged(change: impl FnOnce(&mut Asked)) -> Vec<Finding> {
        let mut asked = samples::asked();
        change(&mut asked);
        findings(&asked, &samples::cluster())
    }

    fn warnings(findings: &[Finding]) -> Vec<&str> {
        findings.iter().filter(|f| f.verdict == Verdict::Warn).map(|f| f.reason.as_str()).collect()
    }

    #[test]
    fn the_platform_is_named_with_its_evidence_and_notes() {
        let found = judged(|asked| asked.platform = Some(Detected::chosen("gke")));
        assert_eq!((found[0].subject.as_str(), found[0].verdict), ("gke", Verdict::Pass));
        assert!(found[0].reason.contains("spec.platform says so"), "{found:?}");
        assert!(found.iter().any(|finding| finding.reason.contains("TCP 15017")), "{found:?}");
    }

    #[test]
    fn what_it_forbids_is_told_where_the_mesh_wants_it() {
        let tkgi = |asked: &mut Asked| asked.platform = Some(Detected::chosen("tkgi"));
        assert_eq!(warnings(&judged(tkgi)), [""; 0]);
        let found = judged(|asked| {
            tkgi(asked);
            asked.privileged = ["istio-system".to_owned()].into();
        });
        assert!(warnings(&found)[0].contains("privileged pods"), "{found:?}");
    }

    #[test]
    fn gateways_that_wait_for_a_load_balancer_are_named_where_there_is_none() {
        let with = |name: &str| {
            let platform = Some(Detected::chosen(name));
            judged(|asked| {
                asked.platform = platform;
                asked.load_balancers = vec!["edge/ingress".into()];
            })
        };
        assert!(warnings(&with("kind"))[0].contains("edge/ingress"));
        assert_eq!(warnings(&with("gke")), [""; 0]);
    }

    #[test]
    fn a_platform_that_could_not_be_seen_is_unknown_unless_the_spec_names_it() {
        let mut asked = samples::asked();
        asked.platform = Some(Detected::default());
        assert_eq!(findings(&asked, &samples::blind())[0].verdict, Verdict::Unknown);
        asked.platform = Some(Detected::chosen("gke"));
        assert_eq!(findings(&asked, &samples::blind())[0].verdict, Verdict::Pass);
    }
}
