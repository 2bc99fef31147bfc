//! Each check of applications, both ways.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::Verdict;
use super::*;

fn of<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn nothing() -> Apps {
    Apps {
        out: vec![],
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

fn judged(deployment: Deployment) -> Vec<(&'static str, Verdict, String)> {
    let findings = judge(&Apps { deployments: Ok(vec![deployment]), ..nothing() }, &["istio-system".into()]);
    findings.into_iter().map(|finding| (finding.check, finding.verdict, finding.subject)).collect()
}

fn good() -> Value {
    json!({"app": "cart", "version": "v1"})
}

fn ports(ports: &Value) -> Option<Finding> {
    service_finding(&of(json!({"metadata": {"name": "cart", "namespace": "shop"}, "spec": {"ports": ports}})))
}

#[test]
fn a_port_says_its_protocol_by_name_or_by_app_protocol() {
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
        assert_eq!(ports(&json!([bad])).unwrap().verdict, Verdict::Warn, "{bad}");
    }
}

#[test]
fn a_service_is_named_once_with_all_its_unclear_ports_and_a_name_that_would_do() {
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
fn pods_should_have_the_labels_app_and_version_or_those_that_stand_for_them() {
    let clean = [("service-port-protocol", Verdict::Pass, "the applications".to_owned())];
    assert_eq!(judged(deployment("shop", &good(), &json!({}))), clean);
    let recommended = json!({"app.kubernetes.io/name": "cart", "app.kubernetes.io/version": "1"});
    assert_eq!(judged(deployment("shop", &recommended, &json!({}))), clean);
    let found = judge(&Apps { deployments: Ok(vec![deployment("shop", &json!({}), &json!({}))]), ..nothing() }, &[]);
    assert_eq!((found[0].check, found[0].subject.as_str()), (LABELS, "Deployment shop/cart"));
    assert_eq!(found[0].fix.as_deref(), Some("add app and version to spec.template.metadata.labels"));
}

#[test]
fn a_pod_on_the_nodes_network_is_told_alone() {
    let found = judged(deployment("shop", &json!({}), &json!({"hostNetwork": true})));
    assert_eq!(found, [(HOST_NETWORK, Verdict::Warn, "Deployment shop/cart".to_owned())]);
}

#[test]
fn the_proxys_user_and_group_are_refused_wherever_they_stand() {
    let containers = |context: Value| json!({"containers": [{"name": "app", "securityContext": context}]});
    for spec in [
        json!({"securityContext": {"runAsUser": 1337}}),
        containers(json!({"runAsUser": 1337})),
        containers(json!({"runAsGroup": 1337})),
        json!({"initContainers": [{"name": "init", "securityContext": {"runAsUser": 1337}}]}),
    ] {
        assert_eq!(judged(deployment("shop", &good(), &spec))[0].1, Verdict::Fail);
    }
    let proxy = json!({"containers": [{"name": "istio-proxy", "securityContext": {"runAsUser": 1337}}]});
    assert_eq!(judged(deployment("shop", &good(), &proxy))[0].1, Verdict::Pass);
    assert_eq!(judged(deployment("shop", &good(), &containers(json!({"runAsUser": 1000}))))[0].1, Verdict::Pass);
}

#[test]
fn a_pod_without_a_maker_is_told_unless_it_is_over_or_the_nodes_own() {
    let pod = |metadata: Value, phase: &str| {
        let mut meta = json!({"name": "job", "namespace": "shop", "labels": good()});
        meta.as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
        bare_pod(&of(json!({"metadata": meta, "spec": {"containers": []}, "status": {"phase": phase}})))
    };
    assert_eq!(pod(json!({}), "Running")[0].check, BARE_POD);
    assert_eq!(pod(json!({}), "Succeeded"), []);
    assert_eq!(pod(json!({"annotations": {"kubernetes.io/config.mirror": "x"}}), "Running"), []);
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a", "uid": "u"});
    assert_eq!(pod(json!({"ownerReferences": [owner]}), "Running"), []);
    assert_eq!(pod(json!({"labels": {"sidecar.istio.io/inject": "false"}}), "Running"), []);
}

#[test]
fn namespaces_that_stay_out_of_the_mesh_are_left_out() {
    let bare = || Ok(vec![deployment("shop", &json!({}), &json!({}))]);
    let out = Apps { out: vec!["shop".into()], deployments: bare(), ..nothing() };
    assert_eq!(judge(&out, &[])[0].verdict, Verdict::Pass);
    assert_eq!(judge(&Apps { deployments: bare(), ..nothing() }, &[])[0].verdict, Verdict::Warn);
}

#[test]
fn namespaces_that_are_never_injected_and_the_meshs_own_are_left_out() {
    for namespace in ["kube-system", "istio-system"] {
        assert_eq!(judged(deployment(namespace, &json!({}), &json!({})))[0].1, Verdict::Pass);
    }
}

#[test]
fn what_may_not_be_listed_is_unknown() {
    let found = judge(&Apps { services: Err("you may not".into()), ..nothing() }, &[]);
    assert_eq!((found.len(), found[0].verdict), (1, Verdict::Unknown));
}
