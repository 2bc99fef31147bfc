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

#[test]
fn a_mesh_serves_while_the_control_plane_that_a_canary_is_to_replace_does() {
    let istiod = |name: &str, available: i32| {
        let key = ObjectKey { kind: Kind::Deployment, namespace: Some("istio-system".into()), name: name.into() };
        let object = serde_json::json!({
            "metadata": {"name": name, "labels": {"meshwright.dev/component": "istiod"}},
            "spec": {"replicas": 1}, "status": {"availableReplicas": available},
        });
        let live = crate::mesh::live::Live::of(Kind::Deployment, &object, None, None);
        (key, live)
    };
    let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 32, 0) };
    let canary =
        serde_json::json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "istiod-1-32-0"}});
    let canary = Desired::admit(canary, &Component::Istiod, &owner, "istio-system").unwrap();
    let available = |live: LiveObjects| {
        measure(&Validated::bare(owner.clone()), &[Arc::new(canary.clone())], &live, &Injection::Pending).available
    };
    assert!(available(LiveObjects::from([istiod("istiod", 1), istiod("istiod-1-32-0", 0)])));
    assert!(available(LiveObjects::from([istiod("istiod-1-32-0", 1)])));
    assert!(!available(LiveObjects::from([istiod("istiod", 0), istiod("istiod-1-32-0", 0)])));
}

#[test]
fn a_workload_says_what_it_waits_for() {
    let said = |observed: bool, desired: i32, updated: i32, available: i32, total: i32| {
        let workload = Workload { observed, generation: 2, desired, updated, available, total, complaint: None };
        waiting_for("istiod", Some(&workload)).message
    };
    assert_eq!(said(true, 1, 1, 0, 1), "istiod: its pod is not ready");
    assert_eq!(said(true, 1, 1, 1, 2), "istiod: its pod is not ready; until then, 1 pod of the old template will stay");
    assert_eq!(
        said(true, 3, 2, 3, 4),
        "istiod: 1 of 3 pods are ready; until then, 2 pods of the old template will stay"
    );
    assert_eq!(said(true, 1, 1, 2, 2), "istiod: 1 pod of the old template still to go");
    assert_eq!(said(false, 1, 1, 1, 1), "istiod: Kubernetes has not acted on its newest spec yet");
    assert_eq!(said(true, 0, 0, 0, 0), "istiod: it is scaled to no pods");
}
