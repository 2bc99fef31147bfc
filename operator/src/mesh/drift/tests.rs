//! What the Kubernetes API does to objects, case by case.

use serde_json::{Value, json};

use super::*;

mod workloads;

fn assert_none(desired: &Value, live: &Value) {
    assert_eq!(drift(desired, live), [], "live is as desired");
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
fn false_is_not_nothing_where_nothing_means_true() {
    let desired = json!({"apiVersion": "v1", "kind": "ServiceAccount", "automountServiceAccountToken": false});
    let live = json!({"apiVersion": "v1", "kind": "ServiceAccount"});
    assert_eq!(found(&desired, &live), missing("automountServiceAccountToken"));
}

#[test]
fn an_extra_key_of_a_configmap_is_an_extra() {
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
fn a_webhook_with_its_ca_bundle_and_defaults_is_as_desired() {
    let (desired, live) = webhooks();
    assert_none(&desired, &live);
}

#[test]
fn an_edited_webhook_is_told_by_its_path() {
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
fn an_extra_webhook_entry_is_an_extra_and_a_missing_one_is_missing() {
    let (desired, live) = webhooks();
    let more = edited(&live, "/webhooks/-", json!({"name": "other"}));
    assert_eq!(found(&desired, &more), [(DifferenceKind::Extra, "webhooks[name=other]".to_owned())]);
    assert_eq!(found(&desired, &without(&live, "/webhooks/0")), missing("webhooks[name=rev.istio.io]"));
}

#[test]
fn what_the_server_and_clouds_add_to_a_service_stays() {
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
fn secrets_added_to_a_service_account_stay() {
    let desired = json!({"apiVersion": "v1", "kind": "ServiceAccount", "imagePullSecrets": [{"name": "ours"}]});
    let live = json!({"apiVersion": "v1", "kind": "ServiceAccount", "secrets": [{"name": "token"}],
                      "imagePullSecrets": [{"name": "theirs"}, {"name": "ours"}]});
    assert_none(&desired, &live);
    let gone = json!({"apiVersion": "v1", "kind": "ServiceAccount", "imagePullSecrets": [{"name": "theirs"}]});
    assert_eq!(found(&desired, &gone), missing("imagePullSecrets[name=ours]"));
}

#[test]
fn a_rule_added_to_a_role_or_narrowed_in_it_is_a_difference() {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                      "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]});
    assert_none(&role, &role);
    let more = edited(&role, "/rules/-", json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}));
    assert_eq!(found(&role, &more), changed("rules"));
    let narrowed = edited(&role, "/rules/0/resourceNames", json!(["one"]));
    assert_eq!(found(&role, &narrowed), changed("rules[0]"));
}

#[test]
fn rules_of_an_aggregated_role_are_the_controllers() {
    let desired = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "rules": [],
                         "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}});
    let live = edited(&desired, "/rules/-", json!({"verbs": ["get"]}));
    assert_none(&desired, &live);
}

#[test]
fn a_subject_added_to_a_binding_is_a_difference() {
    let desired = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                         "subjects": [{"kind": "ServiceAccount", "name": "istiod", "namespace": "istio-system"}]});
    let live = edited(&desired, "/subjects/-", json!({"kind": "User", "name": "mallory"}));
    assert_eq!(found(&desired, &live), changed("subjects"));
}

#[test]
fn an_autoscaler_and_a_budget_in_the_servers_form_are_as_desired() {
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
fn a_definition_with_the_servers_defaults_is_as_desired() {
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
fn in_the_schema_of_a_definition_names_have_no_meaning_of_their_own() {
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
fn of_metadata_only_labels_and_annotations_are_ours() {
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
fn an_ingress_rule_that_was_narrowed_is_a_difference() {
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
fn kinds_of_crds_are_kept_as_written_and_compared_so() {
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
fn an_object_served_in_another_version_or_without_its_kind_is_judged_all_the_same() {
    let desired = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "spec": {"minAvailable": 1}});
    let live = edited(&desired, "/apiVersion", json!("policy/v1beta1"));
    assert_none(&desired, &live);
    assert_none(&desired, &without(&live, "/kind"));
}
