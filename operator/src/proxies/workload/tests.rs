//! What is read of workloads.

use serde_json::{Value, json};

use super::*;

fn read(kind: WorkloadKind, object: Value) -> Workload {
    Workload::of(kind, serde_json::from_value::<Read>(object).unwrap().sketch)
}

fn deployment(generation: i64, spec: &Value, status: &Value) -> Rollout {
    read(
        WorkloadKind::Deployment,
        json!({"metadata": {"name": "a", "generation": generation}, "spec": spec, "status": status}),
    )
    .rollout
}

#[test]
fn a_rollout_is_complete_when_all_pods_are_new_and_available_and_the_newest_template_was_seen() {
    let done = || json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3});
    assert_eq!(deployment(2, &json!({"replicas": 3}), &done()), Rollout::Complete);
    assert!(matches!(deployment(3, &json!({"replicas": 3}), &done()), Rollout::UnderWay(_)));
    let with = |key: &str, value: i64| {
        let mut status = done();
        status[key] = value.into();
        deployment(2, &json!({"replicas": 3}), &status)
    };
    for (key, value) in [("replicas", 4), ("updatedReplicas", 2), ("availableReplicas", 2)] {
        assert!(matches!(with(key, value), Rollout::UnderWay(_)), "{key}");
    }
    assert_eq!(with("replicas", 4), Rollout::UnderWay("3 of 3 pods available, 1 old".into()));
}

#[test]
fn a_paused_or_given_up_deployment_is_told_from_one_that_is_rolling_out() {
    let conditions = json!([{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]);
    assert_eq!(deployment(1, &json!({}), &json!({"observedGeneration": 1, "conditions": conditions})), Rollout::Stuck);
    let before = deployment(2, &json!({}), &json!({"observedGeneration": 1, "conditions": conditions}));
    assert!(matches!(before, Rollout::UnderWay(_)), "what was given up is an older template");
    assert_eq!(deployment(1, &json!({"paused": true}), &json!({})), Rollout::Paused);
}

#[test]
fn daemon_sets_and_stateful_sets_are_judged_by_their_own_fields() {
    let status = json!({"observedGeneration": 1, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 2});
    let rollout = |kind, spec: Value| {
        read(kind, json!({"metadata": {"name": "a", "generation": 1}, "spec": spec, "status": status})).rollout
    };
    assert_eq!(rollout(WorkloadKind::DaemonSet, json!({})), Rollout::Complete);
    assert_eq!(rollout(WorkloadKind::DaemonSet, json!({"updateStrategy": {"type": "OnDelete"}})), Rollout::ByHand);
    let part = json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}});
    assert_eq!(rollout(WorkloadKind::StatefulSet, part), Rollout::ByHand);
}

#[test]
fn the_annotation_has_the_last_word_and_only_one_word_allows_a_restart() {
    let consent = |metadata: Value| read(WorkloadKind::Deployment, json!({"metadata": metadata})).consent;
    assert_eq!(consent(json!({})), None);
    assert_eq!(consent(json!({"labels": {PROXY_UPDATE: "restart"}})), Some(true));
    assert_eq!(consent(json!({"labels": {PROXY_UPDATE: "Restart"}})), Some(false));
    let both = json!({"labels": {PROXY_UPDATE: "restart"}, "annotations": {PROXY_UPDATE: "never"}});
    assert_eq!(consent(both), Some(false));
}

#[test]
fn a_template_with_a_proxy_of_its_own_keeps_it_and_one_for_the_injector_to_fill_doesnt() {
    let pinned = |image: &str| {
        let template = json!({"spec": {"containers": [{"name": "istio-proxy", "image": image}]}});
        read(WorkloadKind::Deployment, json!({"metadata": {}, "spec": {"template": template}})).pinned
    };
    assert_eq!(pinned("auto"), None);
    assert_eq!(pinned("my/proxy:1").as_deref(), Some("my/proxy:1"));
}

#[test]
fn what_the_operator_or_istiod_made_is_left_to_them() {
    let of_mesh = |label: &str| read(WorkloadKind::Deployment, json!({"metadata": {"labels": {label: "x"}}})).of_mesh;
    assert!(of_mesh(INSTALLATION_LABEL) && of_mesh("gateway.istio.io/managed") && !of_mesh("app"));
}

#[test]
fn a_restart_is_remembered_in_the_template_under_the_names_that_are_written() {
    let annotations = json!({RESTARTED_FOR: "1.32.0", RESTARTED_AT: "2026-11-21T10:00:00Z", "sidecar.istio.io/proxyImage": "my/proxy:1"});
    let template = json!({"metadata": {"labels": {"app": "web"}, "annotations": annotations}});
    let workload = read(
        WorkloadKind::Deployment,
        json!({"metadata": {"labels": {INSTALLATION_LABEL: "mesh"}}, "spec": {"template": template}}),
    );
    let at = "2026-11-21T10:00:00Z".parse().ok();
    assert_eq!(workload.restarted, Some(Restarted { version: "1.32.0".into(), at }));
    assert_eq!((workload.pinned.as_deref(), workload.of_mesh), (Some("my/proxy:1"), true));
    assert_eq!(workload.labels["app"], "web");
}
