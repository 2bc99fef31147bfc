//! When gateways may start, and what keeps a mesh from being ready.

use super::*;
use crate::mesh::object::Owner;
use crate::mesh::validated::ChartRelease;

fn with_gateway_in(namespace: &str) -> Validated {
    let gateway = ChartRelease {
        chart: crate::catalog::ChartName::Gateway,
        name: "edge".into(),
        namespace: namespace.into(),
        component: Component::Gateway("edge".into()),
        values: serde_json::Value::Null,
    };
    let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 31, 2) };
    Validated { releases: vec![gateway], ..Validated::bare(owner) }
}

#[test]
fn gateways_start_where_the_injector_can_reach_them() {
    let excluded = Outcome::Excluded { namespace: "istio-system".into(), label: "istio-injection=disabled".into() };
    let refused = Outcome::RefusedByOther { by: "a quota".into(), message: String::new() };
    let start = |outcome: &Outcome, namespace: &str| {
        Injection::Seen(outcome.clone()).lets_gateways_start(&with_gateway_in(namespace))
    };
    assert!(start(&excluded, "edges"));
    assert!(!start(&excluded, "istio-system"));
    assert!(start(&refused, "istio-system"));
    assert!(start(&Outcome::Proved("image".into()), "istio-system"));
    for outcome in [Outcome::NotInjected, Outcome::WebhookFailed(String::new()), Outcome::NotAllowed(String::new())] {
        assert!(!start(&outcome, "edges"), "{outcome:?}");
    }
    assert!(!Injection::Pending.lets_gateways_start(&with_gateway_in("edges")));
}

#[test]
fn a_namespace_that_keeps_the_injector_away_leaves_readiness_unknown_and_is_named() {
    let excluded = Outcome::Excluded { namespace: "istio-system".into(), label: "istio-injection=disabled".into() };
    let blocker = injection_blocker(&Injection::Seen(excluded)).unwrap();
    assert_eq!(blocker.reason, Reason::ProbeRefused);
    assert!(blocker.message.contains("istio-system is labelled istio-injection=disabled"), "{}", blocker.message);
}
