//! Workloads, the kinds with the most fields that the API server sets, omits and normalizes.

use super::*;

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "istiod", "namespace": "istio-system", "labels": {"app": "istiod"},
                     "annotations": {"meshwright.dev/desired-hash": "1"}, "creationTimestamp": null},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "istiod"}},
            "strategy": {"rollingUpdate": {"maxSurge": "100%", "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": {"app": "istiod"}, "creationTimestamp": null},
                "spec": {
                    "hostNetwork": false,
                    "securityContext": {},
                    "nodeSelector": {},
                    "tolerations": [{"key": "cni", "operator": "Exists"}],
                    "containers": [{
                        "name": "discovery", "image": "pilot:1",
                        "env": [{"name": "EMPTY", "value": ""}, {"name": "REVISION", "value": "default"},
                                {"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": 1}}}],
                        "ports": [{"containerPort": 15010}, {"containerPort": 15012, "protocol": "TCP"}],
                        "resources": {"requests": {"cpu": 0.5, "memory": "2048Mi"}, "limits": {}},
                        "volumeMounts": [{"name": "config", "mountPath": "/etc/istio", "readOnly": false}],
                    }],
                    "volumes": [{"name": "config", "emptyDir": {"medium": "Memory", "sizeLimit": "1024Ki"}},
                                {"name": "token", "projected": {"sources": [
                                    {"serviceAccountToken": {"audience": "istio-ca", "path": "istio-token"}}]}}],
                },
            },
        },
    })
}

/// The same Deployment as the API server stores it.
fn live_deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "istiod", "namespace": "istio-system", "labels": {"app": "istiod", "team": "net"},
                     "annotations": {"meshwright.dev/desired-hash": "1", "deployment.kubernetes.io/revision": "3"},
                     "uid": "u", "resourceVersion": "77", "generation": 4, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
            "selector": {"matchLabels": {"app": "istiod"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "100%", "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": {"app": "istiod"}, "annotations": {"kubectl.kubernetes.io/restartedAt": "now"}},
                "spec": {
                    "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "securityContext": {},
                    "tolerations": [{"key": "cni", "operator": "Exists"}],
                    "containers": [{
                        "name": "discovery", "image": "pilot:1", "imagePullPolicy": "IfNotPresent",
                        "env": [{"name": "ADDED", "value": "x"}, {"name": "EMPTY"}, {"name": "REVISION", "value": "default"},
                                {"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1"}}}],
                        "ports": [{"containerPort": 15010, "protocol": "TCP"}, {"containerPort": 15012, "protocol": "TCP"}],
                        "resources": {"requests": {"cpu": "500m", "memory": "2Gi"}},
                        "volumeMounts": [{"name": "config", "mountPath": "/etc/istio"}],
                    }],
                    "volumes": [{"name": "added", "emptyDir": {}},
                                {"name": "config", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
                                {"name": "token", "projected": {"defaultMode": 420, "sources": [
                                    {"serviceAccountToken": {"audience": "istio-ca", "path": "istio-token", "expirationSeconds": 3600}}]}}],
                },
            },
        },
        "status": {"replicas": 1},
    })
}

#[test]
fn ignores_normalization_of_deployment() {
    assert_none(&deployment(), &live_deployment());
}

#[test]
fn reports_path_of_edited_field() {
    let (desired, live) = (deployment(), live_deployment());
    let container = "/spec/template/spec/containers/0";
    let discovery = "spec.template.spec.containers[name=discovery]";
    for (pointer, value, path) in [
        ("/spec/replicas".to_owned(), json!(0), "spec.replicas".to_owned()),
        (format!("{container}/image"), json!("pilot:2"), format!("{discovery}.image")),
        (format!("{container}/env/2/value"), json!("canary"), format!("{discovery}.env[name=REVISION].value")),
        (format!("{container}/env/1/value"), json!("x"), format!("{discovery}.env[name=EMPTY].value")),
        (
            format!("{container}/resources/requests/memory"),
            json!("2G"),
            format!("{discovery}.resources.requests.memory"),
        ),
        (
            format!("{container}/volumeMounts/0/readOnly"),
            json!(true),
            format!("{discovery}.volumeMounts[mountPath=/etc/istio].readOnly"),
        ),
        ("/spec/template/spec/hostNetwork".to_owned(), json!(true), "spec.template.spec.hostNetwork".to_owned()),
        (
            "/spec/template/spec/nodeSelector".to_owned(),
            json!({"zone": "a"}),
            "spec.template.spec.nodeSelector".to_owned(),
        ),
        (
            "/spec/template/spec/tolerations/-".to_owned(),
            json!({"operator": "Exists"}),
            "spec.template.spec.tolerations".to_owned(),
        ),
        (
            "/spec/strategy/rollingUpdate/maxUnavailable".to_owned(),
            json!("0"),
            "spec.strategy.rollingUpdate.maxUnavailable".to_owned(),
        ),
        (
            "/metadata/annotations/meshwright.dev~1desired-hash".to_owned(),
            json!("2"),
            "metadata.annotations[\"meshwright.dev/desired-hash\"]".to_owned(),
        ),
    ] {
        assert_eq!(found(&desired, &edited(&live, &pointer, value)), changed(&path), "{pointer}");
    }
}

#[test]
fn reports_path_of_removed_field() {
    let (desired, live) = (deployment(), live_deployment());
    for (pointer, path) in [
        ("/metadata/annotations/meshwright.dev~1desired-hash", "metadata.annotations[\"meshwright.dev/desired-hash\"]"),
        ("/metadata/labels/app", "metadata.labels.app"),
        ("/spec/template/spec/containers/0/env/2", "spec.template.spec.containers[name=discovery].env[name=REVISION]"),
        (
            "/spec/template/spec/containers/0/ports/1",
            "spec.template.spec.containers[name=discovery].ports[containerPort=15012,protocol=TCP]",
        ),
        ("/spec/template/spec/containers/0/resources", "spec.template.spec.containers[name=discovery].resources"),
        ("/spec/template/spec/volumes/1", "spec.template.spec.volumes[name=config]"),
        ("/spec/strategy/rollingUpdate/maxUnavailable", "spec.strategy.rollingUpdate.maxUnavailable"),
    ] {
        assert_eq!(found(&desired, &without(&live, pointer)), missing(path), "{pointer}");
    }
}

#[test]
fn patch_removes_only_extra_containers() {
    let (desired, live) = (deployment(), live_deployment());
    let mut edited = live.clone();
    let pod = edited.pointer_mut("/spec/template/spec").unwrap();
    pod["containers"] = json!([{"name": "one"}, pod["containers"][0], {"name": "two"}]);
    pod["initContainers"] = json!([{"name": "three"}]);
    let differences = drift(&desired, &edited);
    assert!(differences.iter().all(|found| found.kind == DifferenceKind::Extra));
    let paths: Vec<&str> = differences.iter().map(|found| found.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "spec.template.spec.containers[name=one]",
            "spec.template.spec.containers[name=two]",
            "spec.template.spec.initContainers[name=three]",
        ]
    );
    let patch = extras_patch(&differences, &edited).unwrap();
    json_patch::patch(&mut edited, &patch).unwrap();
    assert_none(&desired, &edited);
    assert_eq!(edited.pointer("/spec/template/spec/containers"), live.pointer("/spec/template/spec/containers"));
}

#[test]
fn patch_fails_if_list_changed_meanwhile() {
    let desired = deployment();
    let edited = edited(&live_deployment(), "/spec/template/spec/containers/-", json!({"name": "extra"}));
    let patch = extras_patch(&drift(&desired, &edited), &edited).unwrap();
    let mut moved = edited.clone();
    moved.pointer_mut("/spec/template/spec/containers").unwrap().as_array_mut().unwrap().reverse();
    assert!(json_patch::patch(&mut moved, &patch).is_err());
}

#[test]
fn creates_no_patch_without_extras() {
    let live = edited(&live_deployment(), "/spec/replicas", json!(0));
    assert_eq!(extras_patch(&drift(&deployment(), &live), &live), None);
}

#[test]
fn fingerprint_covers_only_desired_fields() {
    let (desired, live) = (deployment(), live_deployment());
    let print = fingerprint(&desired, &live);
    assert_eq!(print.len(), 16);
    assert_eq!(print, fingerprint(&desired, &desired), "equivalent notation");
    assert_eq!(print, fingerprint(&desired, &edited(&live, "/metadata/resourceVersion", json!("78"))));
    assert_eq!(print, fingerprint(&desired, &edited(&live, "/status/replicas", json!(2))));
    assert_ne!(print, fingerprint(&desired, &edited(&live, "/spec/replicas", json!(2))));
    assert_ne!(print, fingerprint(&desired, &without(&live, "/metadata/labels/app")));
    let one = edited(&live, "/spec/template/spec/tolerations/-", json!({"key": "a", "operator": "Exists"}));
    let two = edited(&live, "/spec/template/spec/tolerations/-", json!({"key": "b", "operator": "Exists"}));
    assert_ne!(
        fingerprint(&desired, &one),
        fingerprint(&desired, &two),
        "both differ from the desired state, and from each other"
    );
}
