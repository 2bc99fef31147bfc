//! Which fields adoption takes over, and what it would change.

use super::*;
use crate::mesh::object::{Component, Owner};

fn desired(object: Value) -> DesiredObject {
    let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 31, 2) };
    DesiredObject::from_rendered(object, &Component::Istiod, &owner, "istio-system").unwrap()
}

fn config(mesh: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio"}, "data": {"mesh": mesh}})
}

fn entry(manager: &str, operation: &str, fields: &Value) -> Value {
    json!({"manager": manager, "operation": operation, "apiVersion": "v1", "time": "2026-11-21T10:00:00Z",
        "fieldsType": "FieldsV1", "fieldsV1": fields})
}

/// The fields that Helm owns: the label of its chart, and these keys.
fn helm_fields(keys: &[&str]) -> Value {
    let data: Map<String, Value> = keys.iter().map(|key| (format!("f:{key}"), json!({}))).collect();
    json!({"f:data": data, "f:metadata": {
        "f:labels": {"f:helm.sh/chart": {}}, "f:annotations": {"f:meta.helm.sh/release-name": {}}}})
}

fn installed_by_helm(mut object: Value, managed: &[Value]) -> Value {
    object["metadata"]["labels"] = json!({"helm.sh/chart": "istiod-1.31.2"});
    object["metadata"]["annotations"] = json!({"meta.helm.sh/release-name": "istiod"});
    object["metadata"]["resourceVersion"] = "7".into();
    object["metadata"]["managedFields"] = json!(managed);
    object
}

fn changed_paths(desired: &DesiredObject, live: &Value) -> Vec<String> {
    differences(desired, live).into_iter().map(|change| change.path).collect()
}

#[test]
fn takes_over_only_fields_of_chart_installer() {
    let mut status = entry("helm", "Update", &json!({"f:status": {}}));
    status["subresource"] = "status".into();
    let others = [entry("pilot-discovery", "Update", &json!({"f:webhooks": {}})), status];
    for (manager, operation) in [("helm", "Update"), ("helm", "Apply"), ("istio-operator", "Apply"), ("sail", "Update")]
    {
        let managed = [&others[..], &[entry(manager, operation, &helm_fields(&["mesh"]))]].concat();
        let mut live = installed_by_helm(config(""), &managed);
        let patch = take_over_patch(&live).unwrap();
        json_patch::patch(&mut live, &patch).unwrap();
        let expected = [&others[..], &[entry("meshwright", "Apply", &helm_fields(&["mesh"]))]].concat();
        assert_eq!(live["metadata"]["managedFields"], json!(expected), "{manager}");
    }
}

#[test]
fn merges_entries_of_one_api_version() {
    let mut old = entry("helm", "Update", &json!({"f:data": {"f:gone": {}}}));
    old["apiVersion"] = "v0".into();
    let more = entry("helm", "Apply", &json!({"f:data": {"f:b": {}}}));
    let live = installed_by_helm(config(""), &[entry("helm", "Update", &helm_fields(&["a"])), more, old]);
    let entries = taken_over_entries(&live).unwrap();
    assert_eq!(entries, [entry("meshwright", "Apply", &helm_fields(&["a", "b"]))]);
}

#[test]
fn takes_over_nothing_without_chart_labels() {
    let live = installed_by_helm(config(""), &[entry("kubectl-create", "Update", &json!({"f:data": {"f:mesh": {}}}))]);
    assert_eq!(take_over_patch(&live), None);
}

#[test]
fn ignores_tool_metadata_but_not_content() {
    let wanted = desired(config("accessLogFile: /dev/stdout\n"));
    let live =
        |mesh: &str, keys: &[&str]| installed_by_helm(config(mesh), &[entry("helm", "Update", &helm_fields(keys))]);
    assert_eq!(changed_paths(&wanted, &live("accessLogFile: /dev/stdout\n", &["mesh"])), [""; 0]);
    assert_eq!(
        changed_paths(&wanted, &live("{accessLogFile: /dev/stdout}", &["mesh"])),
        [""; 0],
        "same value, other formatting"
    );
    assert_eq!(
        changed_paths(&wanted, &live("trustDomain: a\n", &["mesh"])),
        ["data.mesh.trustDomain", "data.mesh.accessLogFile"]
    );
}

#[test]
fn reports_annotation_set_by_installer() {
    let service = |annotations: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "gw", "annotations": annotations}});
    let fields = json!({"f:metadata": {"f:labels": {"f:release": {}}, "f:annotations": {"f:cloud/lb": {}}}});
    let mut live = installed_by_helm(service(json!({})), &[entry("helm", "Update", &fields)]);
    live["metadata"]["annotations"] = json!({"cloud/lb": "internal", "team": "edge"});
    assert_eq!(changed_paths(&desired(service(json!({}))), &live), ["metadata.annotations[\"cloud/lb\"]"]);
    assert_eq!(changed_paths(&desired(service(json!({"cloud/lb": "internal"}))), &live), [""; 0]);
}

#[test]
fn ignores_configmap_that_documents_values() {
    let values = |text: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "values"}, "data": {"merged-values": text}});
    assert_eq!(changed_paths(&desired(values("a")), &installed_by_helm(values("b"), &[])), [""; 0]);
}

#[test]
fn leaves_ca_bundle_of_istioctl_unowned() {
    let hook = json!({"k:{\"name\":\"v\"}": {"f:name": {}, "f:clientConfig": {"f:caBundle": {}, "f:service": {}}}});
    let fields = json!({"f:webhooks": hook, "f:metadata": {"f:labels": {"f:helm.sh/chart": {}}}});
    let live = installed_by_helm(config(""), &[entry("istio-operator", "Apply", &fields)]);
    let entries = taken_over_entries(&live).unwrap();
    let config = entries[0].pointer("/fieldsV1/f:webhooks").unwrap().to_string();
    assert!(config.contains("f:service") && !config.contains("caBundle"), "{config}");
}

#[test]
fn istioctl_labels_count_only_if_chart_sets_them() {
    let with = |rev: Option<&str>| {
        let mut object = config("");
        object["metadata"]["labels"] = rev.map_or(json!({}), |rev| json!({"istio.io/rev": rev}));
        object
    };
    let labels = json!({"f:metadata": {"f:labels": {"f:helm.sh/chart": {}, "f:istio.io/rev": {}}}});
    let mut live = installed_by_helm(config(""), &[entry("istio-operator", "Apply", &labels)]);
    live["metadata"]["labels"]["istio.io/rev"] = "default".into();
    assert_eq!(changed_paths(&desired(with(None)), &live), [""; 0]);
    assert_eq!(changed_paths(&desired(with(Some("canary"))), &live), ["metadata.labels[\"istio.io/rev\"]"]);
}
