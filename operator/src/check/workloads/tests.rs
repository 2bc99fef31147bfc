//! Each workload check, passing and failing.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::CheckVerdict;
use super::*;

fn of<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn no_workloads() -> Workloads {
    Workloads {
        excluded: vec![],
        services: Ok(vec![]),
        deployments: Ok(vec![]),
        stateful_sets: Ok(vec![]),
        daemon_sets: Ok(vec![]),
        pods: Ok(vec![]),
    }
}

fn deployment(namespace: &str, labels: &Value, spec: &Value) -> Deployment {
    let mut pod = json!({"containers": [{"name": "app"}]});
    pod.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    of(json!({
        "metadata": {"name": "cart", "namespace": namespace},
        "spec": {"selector": {}, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }))
}

fn findings_for(deployment: Deployment) -> Vec<(&'static str, CheckVerdict, String)> {
    let findings =
        evaluate(&Workloads { deployments: Ok(vec![deployment]), ..no_workloads() }, &["istio-system".into()]);
    findings.into_iter().map(|finding| (finding.check, finding.verdict, finding.subject)).collect()
}

fn good() -> Value {
    json!({"app": "cart", "version": "v1"})
}

fn ports(ports: &Value) -> Option<Finding> {
    service_finding(&of(json!({"metadata": {"name": "cart", "namespace": "shop"}, "spec": {"ports": ports}})))
}

#[test]
fn detects_protocol_from_name_or_app_protocol() {
    for good in [
        json!({"name": "http", "port": 80}),
        json!({"name": "HTTP2-web", "port": 80}),
        json!({"name": "grpc-web", "port": 80}),
        json!({"name": "grpc-web-ui", "port": 80}),
        json!({"name": "mongo", "port": 27017}),
        json!({"name": "web", "port": 80, "appProtocol": "http"}),
        json!({"name": "web", "port": 80, "appProtocol": "kubernetes.io/h2c"}),
        json!({"name": "dns", "port": 53, "protocol": "UDP"}),
    ] {
        assert_eq!(ports(&json!([good])), None, "{good}");
    }
    for bad in [
        json!({"port": 80}),
        json!({"name": "web", "port": 80}),
        json!({"name": "httpweb", "port": 80}),
        json!({"name": "http", "port": 80, "appProtocol": "example.com/own"}),
    ] {
        assert_eq!(ports(&json!([bad])).unwrap().verdict, CheckVerdict::Warn, "{bad}");
    }
}

#[test]
fn reports_service_with_all_unnamed_ports() {
    let found = ports(&json!([
        {"name": "web", "port": 80}, {"name": "http", "port": 81}, {"name": "api", "port": 82}
    ]));
    let found = found.unwrap();
    assert_eq!(found.subject, "Service shop/cart");
    assert!(found.reason.starts_with("2 ports name no protocol") && found.reason.ends_with("web (80), api (82)"));
    assert!(found.fix.unwrap().contains("http-web"));
    let external = json!({"metadata": {}, "spec": {"type": "ExternalName", "ports": [{"port": 80}]}});
    assert_eq!(service_finding(&of(external)), None);
}

#[test]
fn requires_app_and_version_labels() {
    let clean = [("service-port-protocol", CheckVerdict::Pass, "workloads".to_owned())];
    assert_eq!(findings_for(deployment("shop", &good(), &json!({}))), clean);
    let recommended = json!({"app.kubernetes.io/name": "cart", "app.kubernetes.io/version": "1"});
    assert_eq!(findings_for(deployment("shop", &recommended, &json!({}))), clean);
    let found = evaluate(
        &Workloads { deployments: Ok(vec![deployment("shop", &json!({}), &json!({}))]), ..no_workloads() },
        &[],
    );
    assert_eq!((found[0].check, found[0].subject.as_str()), (LABELS, "Deployment shop/cart"));
    assert_eq!(found[0].fix.as_deref(), Some("add app and version to spec.template.metadata.labels"));
}

#[test]
fn host_network_skips_other_checks() {
    let found = findings_for(deployment("shop", &json!({}), &json!({"hostNetwork": true})));
    assert_eq!(found, [(HOST_NETWORK, CheckVerdict::Warn, "Deployment shop/cart".to_owned())]);
}

#[test]
fn fails_for_sidecar_user_or_group() {
    let containers = |context: Value| json!({"containers": [{"name": "app", "securityContext": context}]});
    for spec in [
        json!({"securityContext": {"runAsUser": 1337}}),
        containers(json!({"runAsUser": 1337})),
        containers(json!({"runAsGroup": 1337})),
        json!({"initContainers": [{"name": "init", "securityContext": {"runAsUser": 1337}}]}),
    ] {
        assert_eq!(findings_for(deployment("shop", &good(), &spec))[0].1, CheckVerdict::Fail);
    }
    let proxy = json!({"containers": [{"name": "istio-proxy", "securityContext": {"runAsUser": 1337}}]});
    assert_eq!(findings_for(deployment("shop", &good(), &proxy))[0].1, CheckVerdict::Pass);
    assert_eq!(
        findings_for(deployment("shop", &good(), &containers(json!({"runAsUser": 1000}))))[0].1,
        CheckVerdict::Pass
    );
}

#[test]
fn reports_running_pods_without_controller() {
    let pod = |metadata: Value, phase: &str| {
        let mut meta = json!({"name": "job", "namespace": "shop", "labels": good()});
        meta.as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
        bare_pod(&of(json!({"metadata": meta, "spec": {"containers": []}, "status": {"phase": phase}})))
    };
    assert_eq!(pod(json!({}), "Running")[0].check, BARE_POD);
    assert_eq!(pod(json!({}), "Succeeded"), []);
    assert_eq!(pod(json!({"annotations": {"kubernetes.io/config.mirror": "x"}}), "Running"), []);
    let owner = json!({"apiVersion": "workloads/v1", "kind": "ReplicaSet", "name": "a", "uid": "u"});
    assert_eq!(pod(json!({"ownerReferences": [owner]}), "Running"), []);
    assert_eq!(pod(json!({"labels": {"sidecar.istio.io/inject": "false"}}), "Running"), []);
}

#[test]
fn skips_namespaces_with_injection_disabled() {
    let bare = || Ok(vec![deployment("shop", &json!({}), &json!({}))]);
    let excluded = Workloads { excluded: vec!["shop".into()], deployments: bare(), ..no_workloads() };
    assert_eq!(evaluate(&excluded, &[])[0].verdict, CheckVerdict::Pass);
    assert_eq!(evaluate(&Workloads { deployments: bare(), ..no_workloads() }, &[])[0].verdict, CheckVerdict::Warn);
}

#[test]
fn skips_system_and_mesh_namespaces() {
    for namespace in ["kube-system", "istio-system"] {
        assert_eq!(findings_for(deployment(namespace, &json!({}), &json!({})))[0].1, CheckVerdict::Pass);
    }
}

#[test]
fn unlistable_kinds_are_unknown() {
    let found = evaluate(&Workloads { services: Err("not allowed".into()), ..no_workloads() }, &[]);
    assert_eq!((found.len(), found[0].verdict), (1, CheckVerdict::Unknown));
}
