//! How the API server changes applied objects, case by case.

use serde_json::{Value, json};

use super::*;

mod workloads;

fn assert_none(desired: &Value, live: &Value) {
    assert_eq!(drift(desired, live), [], "live matches desired");
}

/// Kind and path of each difference.
fn found(desired: &Value, live: &Value) -> Vec<(DifferenceKind, String)> {
    drift(desired, live).into_iter().map(|difference| (difference.kind, difference.path)).collect()
}

fn changed(path: &str) -> Vec<(DifferenceKind, String)> {
    vec![(DifferenceKind::Changed, path.to_owned())]
}

fn missing(path: &str) -> Vec<(DifferenceKind, String)> {
    vec![(DifferenceKind::Missing, path.to_owned())]
}

fn edited(live: &Value, pointer: &str, value: Value) -> Value {
    let mut live = live.clone();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match live.pointer_mut(parent).unwrap() {
        Value::Array(elements) if key == "-" => elements.push(value),
        Value::Array(elements) => elements[key.parse::<usize>().unwrap()] = value,
        parent => parent[key.replace("~1", "/")] = value,
    }
    live
}

fn without(live: &Value, pointer: &str) -> Value {
    let mut live = live.clone();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match live.pointer_mut(parent).unwrap() {
        Value::Array(elements) => drop(elements.remove(key.parse().unwrap())),
        parent => drop(parent.as_object_mut().unwrap().remove(&key.replace("~1", "/")).unwrap()),
    }
    live
}

#[test]
fn false_differs_from_absent_if_default_is_true() {
    let desired = json!({"apiVersion": "v1", "kind": "ServiceAccount", "automountServiceAccountToken": false});
    let live = json!({"apiVersion": "v1", "kind": "ServiceAccount"});
    assert_eq!(found(&desired, &live), missing("automountServiceAccountToken"));
}

#[test]
fn reports_extra_configmap_keys() {
    let desired = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"mesh": "a: 1"}});
    let mut live = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"mesh": "a: 1", "a/b~c": "x"},
                          "binaryData": {"blob": "AA=="}});
    let differences = drift(&desired, &live);
    let paths: Vec<&str> = differences.iter().map(|found| found.path.as_str()).collect();
    assert_eq!(paths, ["data[\"a/b~c\"]", "binaryData[\"blob\"]"]);
    let patch = extras_patch(&differences, &live).unwrap();
    json_patch::patch(&mut live, &patch).unwrap();
    assert_none(&desired, &live);
    assert_eq!(live["data"], desired["data"]);
}

fn webhooks() -> (Value, Value) {
    let desired = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "webhooks": [{
            "name": "rev.istio.io", "failurePolicy": "Fail", "sideEffects": "None",
            "clientConfig": {"service": {"name": "istiod", "namespace": "istio-system", "path": "/inject"}},
            "namespaceSelector": {"matchLabels": {"istio-injection": "enabled"}}, "objectSelector": {},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
        }],
    });
    let live = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "webhooks": [{
            "name": "rev.istio.io", "failurePolicy": "Fail", "sideEffects": "None", "timeoutSeconds": 10,
            "clientConfig": {"caBundle": "Q0E=", "service": {"name": "istiod", "namespace": "istio-system", "path": "/inject", "port": 443}},
            "matchPolicy": "Equivalent", "reinvocationPolicy": "Never",
            "namespaceSelector": {"matchLabels": {"istio-injection": "enabled"}}, "objectSelector": {},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "scope": "*"}],
        }],
    });
    (desired, live)
}

#[test]
fn ignores_ca_bundle_and_defaults_of_webhook() {
    let (desired, live) = webhooks();
    assert_none(&desired, &live);
}

#[test]
fn reports_path_of_edited_webhook_field() {
    let (desired, live) = webhooks();
    let hook = "webhooks[name=rev.istio.io]";
    for (pointer, value, path) in [
        ("failurePolicy", json!("Ignore"), "failurePolicy"),
        ("clientConfig/service/path", json!("/other"), "clientConfig.service.path"),
        ("namespaceSelector/matchLabels/also", json!("this"), "namespaceSelector.matchLabels"),
        ("namespaceSelector/matchExpressions", json!([{"key": "x", "operator": "Exists"}]), "namespaceSelector"),
        ("objectSelector/matchLabels", json!({"x": "y"}), "objectSelector"),
        ("rules/0/operations/-", json!("UPDATE"), "rules[0].operations"),
    ] {
        let live = edited(&live, &format!("/webhooks/0/{pointer}"), value);
        assert_eq!(found(&desired, &live), changed(&format!("{hook}.{path}")), "{pointer}");
    }
}

#[test]
fn reports_extra_and_missing_webhooks() {
    let (desired, live) = webhooks();
    let more = edited(&live, "/webhooks/-", json!({"name": "other"}));
    assert_eq!(found(&desired, &more), [(DifferenceKind::Extra, "webhooks[name=other]".to_owned())]);
    assert_eq!(found(&desired, &without(&live, "/webhooks/0")), missing("webhooks[name=rev.istio.io]"));
}

#[test]
fn ignores_fields_added_to_service() {
    let desired = json!({
        "apiVersion": "v1", "kind": "Service",
        "spec": {"type": "NodePort", "selector": {"app": "gw"}, "ports": [
            {"name": "http", "port": 80, "targetPort": 8080}, {"name": "dns", "port": 80, "protocol": "UDP", "nodePort": 0}]},
    });
    let live = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"annotations": {"cloud": "x"}},
        "spec": {"type": "NodePort", "selector": {"app": "gw"}, "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
                 "ipFamilies": ["IPv4"], "healthCheckNodePort": 30999, "ports": [
            {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP", "nodePort": 30001},
            {"name": "dns", "port": 80, "targetPort": 80, "protocol": "UDP"}]},
        "status": {"loadBalancer": {}},
    });
    assert_none(&desired, &live);
    let other = edited(&live, "/spec/ports/0/targetPort", json!("8080"));
    assert_eq!(found(&desired, &other), changed("spec.ports[port=80].targetPort"));
    let narrowed = edited(&live, "/spec/selector/version", json!("2"));
    assert_eq!(found(&desired, &narrowed), changed("spec.selector"));
}

#[test]
fn ignores_secrets_added_to_service_account() {
    let desired = json!({"apiVersion": "v1", "kind": "ServiceAccount", "imagePullSecrets": [{"name": "desired"}]});
    let live = json!({"apiVersion": "v1", "kind": "ServiceAccount", "secrets": [{"name": "token"}],
                      "imagePullSecrets": [{"name": "foreign"}, {"name": "desired"}]});
    assert_none(&desired, &live);
    let replaced = json!({"apiVersion": "v1", "kind": "ServiceAccount", "imagePullSecrets": [{"name": "foreign"}]});
    assert_eq!(found(&desired, &replaced), missing("imagePullSecrets[name=desired]"));
}

#[test]
fn reports_changed_rules_of_role() {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                      "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]});
    assert_none(&role, &role);
    let more = edited(&role, "/rules/-", json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}));
    assert_eq!(found(&role, &more), changed("rules"));
    let narrowed = edited(&role, "/rules/0/resourceNames", json!(["one"]));
    assert_eq!(found(&role, &narrowed), changed("rules[0]"));
}

#[test]
fn ignores_rules_of_aggregated_role() {
    let desired = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "rules": [],
                         "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}});
    let live = edited(&desired, "/rules/-", json!({"verbs": ["get"]}));
    assert_none(&desired, &live);
}

#[test]
fn reports_subject_added_to_binding() {
    let desired = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                         "subjects": [{"kind": "ServiceAccount", "name": "istiod", "namespace": "istio-system"}]});
    let live = edited(&desired, "/subjects/-", json!({"kind": "User", "name": "mallory"}));
    assert_eq!(found(&desired, &live), changed("subjects"));
}

#[test]
fn ignores_defaults_of_autoscaler_and_disruption_budget() {
    let desired = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "spec": {
        "minReplicas": 1, "maxReplicas": 5, "metrics": [
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}},
            {"type": "Pods", "pods": {"target": {"type": "AverageValue", "averageValue": "1000m"}}}]}});
    let live = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "spec": {
        "minReplicas": 1, "maxReplicas": 5, "behavior": {}, "metrics": [
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}},
            {"type": "Pods", "pods": {"target": {"type": "AverageValue", "averageValue": "1"}}}]}});
    assert_none(&desired, &live);
    let edited = edited(&live, "/spec/metrics/0/resource/target/averageUtilization", json!(50));
    assert_eq!(found(&desired, &edited), changed("spec.metrics[0].resource.target.averageUtilization"));

    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
                        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "istiod"}}}});
    assert_none(&budget, &budget);
    let live = self::edited(&budget, "/spec/minAvailable", json!("1"));
    assert_eq!(found(&budget, &live), changed("spec.minAvailable"));
}

#[test]
fn ignores_defaults_of_crd() {
    let desired = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "spec": {
        "group": "networking.istio.io", "names": {"kind": "Gateway", "plural": "gateways", "shortNames": ["gw"]},
        "preserveUnknownFields": false,
        "versions": [{"name": "v1", "served": true, "storage": false, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "description": null, "properties": {
                "selector": {"type": "object", "nullable": false, "minimum": 1.0}}}}}]}});
    let live = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "spec": {
        "group": "networking.istio.io", "conversion": {"strategy": "None"},
        "names": {"kind": "Gateway", "listKind": "GatewayList", "plural": "gateways", "singular": "gateway", "shortNames": ["gw"]},
        "versions": [{"name": "v1", "served": true, "storage": false, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "selector": {"type": "object", "minimum": 1}}}}}]},
        "status": {"storedVersions": ["v1"]}});
    assert_none(&desired, &live);
    assert_eq!(
        found(&desired, &edited(&live, "/spec/versions/0/served", json!(false))),
        changed("spec.versions[0].served")
    );
    assert_eq!(found(&desired, &without(&live, "/spec/versions/0/served")), missing("spec.versions[0].served"));
}

#[test]
fn compares_crd_schema_without_special_field_names() {
    let properties = |selector: Value, default: &str| {
        let properties = json!({"selector": selector, "limits": {"default": default}});
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
               "spec": {"versions": [{"schema": {"openAPIV3Schema": {"properties": properties}}}]}})
    };
    let desired = properties(json!({"type": "object"}), "1");
    assert_none(&desired, &properties(json!({"type": "object", "title": "added"}), "1"));
    let path = "spec.versions[0].schema.openAPIV3Schema.properties.limits.default";
    assert_eq!(found(&desired, &properties(json!({"type": "object"}), "1000m")), changed(path));
}

#[test]
fn compares_only_labels_and_annotations_of_metadata() {
    let object = |metadata: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
    let desired =
        object(json!({"labels": {"a": "b"}, "resourceVersion": "1", "finalizers": ["x"], "ownerReferences": []}));
    assert_none(
        &desired,
        &object(json!({"labels": {"a": "b"}, "resourceVersion": "2", "ownerReferences": [{"uid": "u"}]})),
    );
    assert_eq!(found(&desired, &object(json!({}))), missing("metadata.labels"));
}

#[test]
fn reports_narrowed_network_policy() {
    let desired = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                         "spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 15017}]}]}});
    let live = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                      "spec": {"podSelector": {}, "policyTypes": ["Ingress"],
                               "ingress": [{"ports": [{"port": 15017, "protocol": "TCP"}]}]}});
    assert_none(&desired, &live);
    let live = edited(&live, "/spec/ingress/0/from", json!([{"podSelector": {}}]));
    assert_eq!(found(&desired, &live), changed("spec.ingress[0]"));
}

#[test]
fn compares_custom_resources_without_normalization() {
    let desired = json!({"apiVersion": "networking.istio.io/v1", "kind": "Thing",
                         "spec": {"selector": {"a": "b"}, "paused": false, "limits": {"x": "1000m"}, "containers": [{"name": "a"}]}});
    let more = edited(&desired, "/spec/selector/c", json!("d"));
    assert_none(&desired, &more);
    assert_eq!(found(&desired, &without(&desired, "/spec/paused")), missing("spec.paused"));
    assert_eq!(found(&desired, &edited(&desired, "/spec/limits/x", json!("1"))), changed("spec.limits.x"));
    assert_eq!(
        found(&desired, &edited(&desired, "/spec/containers/-", json!({"name": "b"}))),
        changed("spec.containers")
    );
}

#[test]
fn compares_objects_of_another_api_version() {
    let desired = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "spec": {"minAvailable": 1}});
    let live = edited(&desired, "/apiVersion", json!("policy/v1beta1"));
    assert_none(&desired, &live);
    assert_none(&desired, &without(&live, "/kind"));
}
