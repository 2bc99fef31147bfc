//! When gateways may start, and what blocks readiness.

use super::*;
use crate::mesh::injection_check::InjectionOutcome;
use crate::mesh::object::Owner;
use crate::mesh::validated::ChartRelease;

fn with_gateway_in(namespace: &str) -> ValidatedSpec {
    let gateway = ChartRelease {
        chart: crate::catalog::ChartName::Gateway,
        name: "edge".into(),
        namespace: namespace.into(),
        component: Component::Gateway("edge".into()),
        values: serde_json::Value::Null,
    };
    let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 31, 2) };
    ValidatedSpec { releases: vec![gateway], ..ValidatedSpec::empty(owner) }
}

#[test]
fn gateways_start_where_injection_works() {
    let excluded = InjectionOutcome::NamespaceExcluded {
        namespace: "istio-system".into(),
        label: "istio-injection=disabled".into(),
    };
    let refused = InjectionOutcome::DeniedByOther { by: "a quota".into(), message: String::new() };
    let start = |outcome: &InjectionOutcome, namespace: &str| {
        Injection::Checked(outcome.clone()).allows_gateways(&with_gateway_in(namespace))
    };
    assert!(start(&excluded, "edges"));
    assert!(!start(&excluded, "istio-system"));
    assert!(start(&refused, "istio-system"));
    assert!(start(&InjectionOutcome::Injected("image".into()), "istio-system"));
    for outcome in [
        InjectionOutcome::NotInjected,
        InjectionOutcome::NotLoaded { what: String::new(), lasting: false },
        InjectionOutcome::WebhookFailed(String::new()),
        InjectionOutcome::CheckForbidden(String::new()),
    ] {
        assert!(!start(&outcome, "edges"), "{outcome:?}");
    }
    assert!(!Injection::Pending.allows_gateways(&with_gateway_in("edges")));
}

#[test]
fn waits_until_istiod_has_loaded_its_configuration() {
    let what = "ConfigMap istio-system/istio: data.mesh.accessLogFile differs".to_owned();
    let blocker =
        injection_blocker(&Injection::Checked(InjectionOutcome::NotLoaded { what: what.clone(), lasting: false }))
            .unwrap();
    assert_eq!(blocker.reason, Reason::Applying);
    assert!(blocker.message.starts_with("istiod has not loaded its configuration yet. "), "{}", blocker.message);
    assert!(blocker.message.ends_with(&what), "{}", blocker.message);
}

#[test]
fn reports_namespace_that_excludes_check_pod() {
    let excluded = InjectionOutcome::NamespaceExcluded {
        namespace: "istio-system".into(),
        label: "istio-injection=disabled".into(),
    };
    let blocker = injection_blocker(&Injection::Checked(excluded)).unwrap();
    assert_eq!(blocker.reason, Reason::InjectionCheckDenied);
    assert!(blocker.message.contains("istio-system is labelled istio-injection=disabled"), "{}", blocker.message);
}

#[test]
fn available_while_control_plane_before_canary_runs() {
    let istiod = |name: &str, available: i32| {
        let key = ObjectKey { kind: Kind::Deployment, namespace: Some("istio-system".into()), name: name.into() };
        let object = serde_json::json!({
            "metadata": {"name": name, "labels": {"meshwright.dev/component": "istiod"}},
            "spec": {"replicas": 1}, "status": {"availableReplicas": available},
        });
        let live = crate::mesh::observed::ObservedObject::of(Kind::Deployment, &object, None, None);
        (key, live)
    };
    let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 32, 0) };
    let canary =
        serde_json::json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "istiod-1-32-0"}});
    let canary = DesiredObject::from_rendered(canary, &Component::Istiod, &owner, "istio-system").unwrap();
    let available = |live: ObservedObjects| {
        measure(&ValidatedSpec::empty(owner.clone()), &[Arc::new(canary.clone())], &live, &Injection::Pending).available
    };
    assert!(available(ObservedObjects::from([istiod("istiod", 1), istiod("istiod-1-32-0", 0)])));
    assert!(available(ObservedObjects::from([istiod("istiod-1-32-0", 1)])));
    assert!(!available(ObservedObjects::from([istiod("istiod", 0), istiod("istiod-1-32-0", 0)])));
}

#[test]
fn reports_what_workload_waits_for() {
    let message = |observed: bool, desired: i32, updated: i32, available: i32, total: i32| {
        let workload = WorkloadStatus {
            observed,
            generation: 2,
            desired,
            updated,
            available,
            ready_replicas: available,
            total,
            rollout_error: None,
            unavailable_since: None,
            available_since: None,
        };
        waiting_for("istiod", Some(&workload)).message
    };
    assert_eq!(message(true, 1, 1, 0, 1), "istiod: its pod is not ready");
    assert_eq!(message(true, 1, 1, 1, 2), "istiod: its pod is not ready; 1 pod of the old template left");
    assert_eq!(message(true, 3, 2, 3, 4), "istiod: 1 of 3 pods are ready; 2 pods of the old template left");
    assert_eq!(message(true, 1, 1, 2, 2), "istiod: 1 pod of the old template not deleted yet");
    assert_eq!(message(false, 1, 1, 1, 1), "istiod: its controller has not observed the latest generation yet");
    assert_eq!(message(true, 0, 0, 0, 0), "istiod: it is scaled to zero replicas");
}
