//! Tests of the deserialization of workloads.

use serde_json::{Value, json};

use super::*;
use crate::mesh::object::REPLACED_ANNOTATION;

fn parse(kind: WorkloadKind, object: Value) -> ProxyWorkload {
    ProxyWorkload::new(kind, serde_json::from_value::<WorkloadResource>(object).unwrap().raw)
}

fn deployment(generation: i64, spec: &Value, status: &Value) -> RolloutState {
    parse(
        WorkloadKind::Deployment,
        json!({"metadata": {"name": "a", "generation": generation}, "spec": spec, "status": status}),
    )
    .rollout
}

#[test]
fn rollout_completes_when_all_pods_are_updated() {
    let done = || json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3});
    assert_eq!(deployment(2, &json!({"replicas": 3}), &done()), RolloutState::Complete);
    assert!(matches!(deployment(3, &json!({"replicas": 3}), &done()), RolloutState::InProgress(_)));
    let with = |key: &str, value: i64| {
        let mut status = done();
        status[key] = value.into();
        deployment(2, &json!({"replicas": 3}), &status)
    };
    for (key, value) in [("replicas", 4), ("updatedReplicas", 2), ("availableReplicas", 2)] {
        assert!(matches!(with(key, value), RolloutState::InProgress(_)), "{key}");
    }
    assert_eq!(with("replicas", 4), RolloutState::InProgress("3 of 3 pods available, 1 old".into()));
}

#[test]
fn detects_paused_and_failed_deployments() {
    let conditions = json!([{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]);
    assert_eq!(
        deployment(1, &json!({}), &json!({"observedGeneration": 1, "conditions": conditions})),
        RolloutState::Failed
    );
    let before = deployment(2, &json!({}), &json!({"observedGeneration": 1, "conditions": conditions}));
    assert!(matches!(before, RolloutState::InProgress(_)), "an older template failed");
    assert_eq!(deployment(1, &json!({"paused": true}), &json!({})), RolloutState::Paused);
}

#[test]
fn uses_status_fields_of_each_kind() {
    let status = json!({"observedGeneration": 1, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 2});
    let rollout = |kind, spec: Value| {
        parse(kind, json!({"metadata": {"name": "a", "generation": 1}, "spec": spec, "status": status})).rollout
    };
    assert_eq!(rollout(WorkloadKind::DaemonSet, json!({})), RolloutState::Complete);
    assert_eq!(rollout(WorkloadKind::DaemonSet, json!({"updateStrategy": {"type": "OnDelete"}})), RolloutState::Manual);
    let part = json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}});
    assert_eq!(rollout(WorkloadKind::StatefulSet, part), RolloutState::Manual);
}

#[test]
fn rollout_of_replaced_workload_is_unknown() {
    let stub = json!({"metadata": {"name": "a"}, "status": {"replicas": 1}, REPLACED_ANNOTATION: true});
    for kind in WorkloadKind::ALL {
        assert_eq!(parse(kind, stub.clone()).rollout, RolloutState::Unreadable);
    }
}

#[test]
fn annotation_takes_precedence_over_label() {
    let opt_in = |metadata: Value| parse(WorkloadKind::Deployment, json!({"metadata": metadata})).opt_in;
    assert_eq!(opt_in(json!({})), None);
    assert_eq!(opt_in(json!({"labels": {PROXY_UPDATE: "restart"}})), Some(true));
    assert_eq!(opt_in(json!({"labels": {PROXY_UPDATE: "Restart"}})), Some(false));
    let both = json!({"labels": {PROXY_UPDATE: "restart"}, "annotations": {PROXY_UPDATE: "never"}});
    assert_eq!(opt_in(both), Some(false));
}

#[test]
fn detects_custom_proxy_images() {
    let pinned_image = |image: &str| {
        let template = json!({"spec": {"containers": [{"name": "istio-proxy", "image": image}]}});
        parse(WorkloadKind::Deployment, json!({"metadata": {}, "spec": {"template": template}})).pinned_image
    };
    assert_eq!(pinned_image("auto"), None);
    assert_eq!(pinned_image("my/proxy:1").as_deref(), Some("my/proxy:1"));
}

#[test]
fn detects_managed_workloads() {
    let managed = |label: &str| parse(WorkloadKind::Deployment, json!({"metadata": {"labels": {label: "x"}}})).managed;
    assert!(managed(INSTALLATION_LABEL) && managed("gateway.istio.io/managed") && !managed("app"));
}

#[test]
fn reads_restart_annotations_of_template() {
    let annotations = json!({RESTARTED_FOR: "1.32.0", RESTARTED_AT: "2026-11-21T10:00:00Z", "sidecar.istio.io/proxyImage": "my/proxy:1"});
    let template = json!({"metadata": {"labels": {"app": "web"}, "annotations": annotations}});
    let workload = parse(
        WorkloadKind::Deployment,
        json!({"metadata": {"labels": {INSTALLATION_LABEL: "mesh"}}, "spec": {"template": template}}),
    );
    let at = "2026-11-21T10:00:00Z".parse().ok();
    assert_eq!(workload.restarted, Some(LastRestart { version: "1.32.0".into(), at }));
    assert_eq!((workload.pinned_image.as_deref(), workload.managed), (Some("my/proxy:1"), true));
    assert_eq!(workload.labels["app"], "web");
}
