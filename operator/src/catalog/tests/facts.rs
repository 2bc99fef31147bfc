//! What can run where.

use super::*;
use crate::catalog::facts::{EndOfLife, Minor, Refusal, Support};

fn check(request: &str, cluster: &str, today: &str, available: &[&str]) -> Result<Support, Refusal> {
    let available: Vec<Version> = available.iter().map(|text| version(text)).collect();
    let available: Vec<&Version> = available.iter().collect();
    let facts = Facts::bundled().unwrap();
    facts.check(&request.parse().unwrap(), &version(cluster), today.parse().unwrap(), &available)
}

const TODAY: &str = "2026-11-21";

#[test]
fn the_bundled_facts_are_sound() {
    let facts = Facts::bundled().unwrap();
    let crds = |minor: &str| facts.crds(minor.parse().unwrap()).unwrap().len();
    assert_eq!([crds("1.32"), crds("1.29"), crds("1.13"), crds("1.0")], [15, 14, 15, 50]);
    for minor in ["1.24", "1.25", "1.26", "1.27", "1.28", "1.29", "1.30", "1.31"] {
        let facts = facts.minor(minor.parse().unwrap()).unwrap();
        assert!(!facts.sources.is_empty() && !facts.development, "{minor}");
    }
}

#[test]
fn a_supported_release_is_fine_whatever_the_provider_calls_its_kubernetes() {
    for cluster in ["1.32.0", "1.36.3", "1.33.5-gke.1162000", "1.34.1+k3s1"] {
        assert_eq!(check("1.31.2", cluster, TODAY, &[]), Ok(Support::Supported), "{cluster}");
    }
    assert_eq!(check("1.32.0-alpha.eed52ebb66ad", "1.36.3", TODAY, &[]), Ok(Support::Supported));
}

#[test]
fn a_newer_kubernetes_than_was_tested_is_no_reason_to_refuse() {
    assert_eq!(check("1.31", "1.37.0", TODAY, &[]), Ok(Support::Untested));
}

#[test]
fn istio_1_0_is_refused_with_the_reason_and_the_nearest_that_works() {
    let error = check("1.0.6", "1.36.3", TODAY, &["1.32.0-alpha.eed52ebb66ad"]).unwrap_err().to_string();
    for part in [
        "Istio 1.0 can't run on Kubernetes 1.16 or newer, and this is 1.36",
        "extensions/v1beta1",
        "the nearest release in the catalog that works here is 1.32.0-alpha.eed52ebb66ad",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn istio_1_13_is_refused_on_a_kubernetes_that_is_too_new_or_too_old() {
    let refusal = check("1.13", "1.25.0", TODAY, &[]).unwrap_err();
    assert!(matches!(&refusal, Refusal::KubernetesTooNew { because, .. } if because.contains("policy/v1beta1")));
    assert!(matches!(check("1.13", "1.18.0", TODAY, &[]), Err(Refusal::KubernetesTooOld { .. })));
    assert!(matches!(check("1.13", "1.22.0", "2022-10-11", &[]), Ok(Support::Supported)));
    assert!(matches!(check("1.13", "1.22.0", "2022-10-12", &[]), Err(Refusal::EndOfLife { .. })));
}

#[test]
fn an_old_kubernetes_is_refused_with_what_is_needed() {
    let error = check("1.31.2", "1.30.1", "2026-03-01", &["1.31.2", "1.29.6", "1.28.10"]).unwrap_err().to_string();
    assert_eq!(
        error,
        "Istio 1.31 needs Kubernetes 1.32 or newer, and this is 1.30; the nearest release in the catalog that works \
         here is 1.29.6"
    );
}

#[test]
fn life_ends_on_its_day_and_not_before() {
    assert_eq!(check("1.28", "1.34.0", "2026-06-30", &[]), Ok(Support::Supported));
    let refusal = check("1.28", "1.34.0", "2026-07-01", &["1.31.2", "1.30.4"]).unwrap_err();
    assert!(matches!(refusal, Refusal::EndOfLife { end: EndOfLife::On(_), .. }));
    assert!(refusal.to_string().ends_with("the nearest release in the catalog that works here is 1.30.4"), "{refusal}");
}

#[test]
fn the_advice_prefers_newer_to_older_patches_to_their_betters_and_releases_to_pre_releases() {
    let advice = |available: &[&str]| check("1.29", "1.34.0", TODAY, available).unwrap_err().to_string();
    assert!(advice(&["1.32.0-alpha.1", "1.31.2", "1.30.2", "1.30.10"]).ends_with("is 1.30.10"));
    assert!(advice(&["1.30.11-rc.0", "1.31.2"]).ends_with("is 1.31.2"));
    assert!(advice(&["1.28.10", "1.30.0-rc.0"]).ends_with("is 1.30.0-rc.0"));
    assert!(advice(&["1.28.10"]).ends_with("the catalog has no release that works here, Istio 1.30, 1.31, 1.32 would"));
}

#[test]
fn a_cluster_on_which_nothing_works_is_told_so() {
    let error = check("1.13", "1.8.0", TODAY, &["1.31.2"]).unwrap_err().to_string();
    assert!(error.ends_with("no release that this operator knows works here"), "{error}");
}

#[test]
fn a_minor_that_nothing_is_known_about_is_refused_with_those_that_are() {
    let refusal = check("1.33", "1.36.3", TODAY, &["1.33.0"]).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "nothing is known about Istio 1.33: this operator knows 1.32, 1.31, 1.30, 1.29, 1.28, 1.27, 1.26, 1.25, 1.24, \
         1.13, 1.0"
    );
    assert!(matches!(refusal, Refusal::UnknownMinor { minor: Minor { major: 1, minor: 33 }, .. }));
}

#[test]
fn what_a_minor_brings_is_minded_on_the_way_to_it_and_on_the_way_back() {
    let facts = Facts::bundled().unwrap();
    let minors = |from: &str, to: &str| {
        let mut told: Vec<String> =
            facts.hazards(from.parse().unwrap(), to.parse().unwrap()).map(|(minor, _)| minor.to_string()).collect();
        told.dedup();
        told
    };
    assert_eq!(minors("1.29", "1.31"), ["1.30", "1.31"]);
    assert_eq!(minors("1.31", "1.29"), ["1.30", "1.31"]);
    assert_eq!(minors("1.31", "1.31"), [""; 0]);
}
