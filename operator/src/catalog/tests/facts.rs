//! Compatibility of releases with Kubernetes versions.

use super::*;
use crate::catalog::facts::{EndOfLife, Minor, SupportLevel, VersionRefusal};

fn check(request: &str, cluster: &str, today: &str, available: &[&str]) -> Result<SupportLevel, VersionRefusal> {
    let available: Vec<Version> = available.iter().map(|text| version(text)).collect();
    let available: Vec<&Version> = available.iter().collect();
    let facts = ReleaseFacts::bundled().unwrap();
    facts.check(&request.parse().unwrap(), &version(cluster), today.parse().unwrap(), &available)
}

const TODAY: &str = "2026-11-21";

#[test]
fn bundled_facts_are_valid() {
    let facts = ReleaseFacts::bundled().unwrap();
    let crds = |minor: &str| facts.crds(minor.parse().unwrap()).unwrap().len();
    assert_eq!([crds("1.32"), crds("1.29"), crds("1.13"), crds("1.0")], [15, 14, 15, 50]);
    for minor in ["1.24", "1.25", "1.26", "1.27", "1.28", "1.29", "1.30", "1.31"] {
        let facts = facts.minor(minor.parse().unwrap()).unwrap();
        assert!(!facts.sources.is_empty() && !facts.development, "{minor}");
    }
}

#[test]
fn accepts_provider_suffixes_in_kubernetes_version() {
    for cluster in ["1.32.0", "1.36.3", "1.33.5-gke.1162000", "1.34.1+k3s1"] {
        assert_eq!(check("1.31.2", cluster, TODAY, &[]), Ok(SupportLevel::Supported), "{cluster}");
    }
    assert_eq!(check("1.32.0-alpha.eed52ebb66ad", "1.36.3", TODAY, &[]), Ok(SupportLevel::Supported));
}

#[test]
fn accepts_untested_newer_kubernetes() {
    assert_eq!(check("1.31", "1.37.0", TODAY, &[]), Ok(SupportLevel::Untested));
}

#[test]
fn refuses_istio_1_0_with_reason_and_suggestion() {
    let error = check("1.0.6", "1.36.3", TODAY, &["1.32.0-alpha.eed52ebb66ad"]).unwrap_err().to_string();
    for part in [
        "Istio 1.0 can't run on Kubernetes 1.16 or newer, but the cluster runs 1.36",
        "extensions/v1beta1",
        "the nearest compatible release in the catalog is 1.32.0-alpha.eed52ebb66ad",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn refuses_istio_1_13_outside_its_kubernetes_range() {
    let refusal = check("1.13", "1.25.0", TODAY, &[]).unwrap_err();
    assert!(matches!(&refusal, VersionRefusal::KubernetesTooNew { because, .. } if because.contains("policy/v1beta1")));
    assert!(matches!(check("1.13", "1.18.0", TODAY, &[]), Err(VersionRefusal::KubernetesTooOld { .. })));
    assert!(matches!(check("1.13", "1.22.0", "2022-10-11", &[]), Ok(SupportLevel::Supported)));
    assert!(matches!(check("1.13", "1.22.0", "2022-10-12", &[]), Err(VersionRefusal::EndOfLife { .. })));
}

#[test]
fn refuses_old_kubernetes_with_minimum() {
    let error = check("1.31.2", "1.30.1", "2026-03-01", &["1.31.2", "1.29.6", "1.28.10"]).unwrap_err().to_string();
    assert_eq!(
        error,
        "Istio 1.31 needs Kubernetes 1.32 or newer, but the cluster runs 1.30; the nearest compatible release in the \
         catalog is 1.29.6"
    );
}

#[test]
fn refuses_release_from_end_of_life_day() {
    assert_eq!(check("1.28", "1.34.0", "2026-06-30", &[]), Ok(SupportLevel::Supported));
    let refusal = check("1.28", "1.34.0", "2026-07-01", &["1.31.2", "1.30.4"]).unwrap_err();
    assert!(matches!(refusal, VersionRefusal::EndOfLife { end: EndOfLife::On(_), .. }));
    assert!(refusal.to_string().ends_with("the nearest compatible release in the catalog is 1.30.4"), "{refusal}");
}

#[test]
fn suggests_next_newer_release_first() {
    let advice = |available: &[&str]| check("1.29", "1.34.0", TODAY, available).unwrap_err().to_string();
    assert!(advice(&["1.32.0-alpha.1", "1.31.2", "1.30.2", "1.30.10"]).ends_with("is 1.30.10"));
    assert!(advice(&["1.30.11-rc.0", "1.31.2"]).ends_with("is 1.31.2"));
    assert!(advice(&["1.28.10", "1.30.0-rc.0"]).ends_with("is 1.30.0-rc.0"));
    let none = "the catalog has no compatible release; compatible are Istio 1.30, 1.31, 1.32";
    assert!(advice(&["1.28.10"]).ends_with(none));
}

#[test]
fn reports_cluster_without_compatible_release() {
    let error = check("1.13", "1.8.0", TODAY, &["1.31.2"]).unwrap_err().to_string();
    assert!(error.ends_with("this operator knows no compatible release"), "{error}");
}

#[test]
fn refuses_unknown_minor_and_lists_known_ones() {
    let refusal = check("1.33", "1.36.3", TODAY, &["1.33.0"]).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "Istio 1.33 is unknown to this operator, which knows 1.32, 1.31, 1.30, 1.29, 1.28, 1.27, 1.26, 1.25, 1.24, \
         1.13, 1.0"
    );
    assert!(matches!(refusal, VersionRefusal::UnknownMinor { minor: Minor { major: 1, minor: 33 }, .. }));
}

#[test]
fn hazards_apply_to_upgrade_and_rollback() {
    let facts = ReleaseFacts::bundled().unwrap();
    let minors = |from: &str, to: &str| {
        let mut minors: Vec<String> =
            facts.hazards(from.parse().unwrap(), to.parse().unwrap()).map(|(minor, _)| minor.to_string()).collect();
        minors.dedup();
        minors
    };
    assert_eq!(minors("1.29", "1.31"), ["1.30", "1.31"]);
    assert_eq!(minors("1.31", "1.29"), ["1.30", "1.31"]);
    assert_eq!(minors("1.31", "1.31"), [""; 0]);
}
