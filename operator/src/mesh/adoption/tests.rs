//! Whose fields become ours, and what that changes.

use super::*;
use crate::mesh::object::{Component, Owner};

fn desired(object: Value) -> Desired {
    let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 31, 2) };
    Desired::admit(object, &Component::Istiod, &owner, "istio-system").unwrap()
}

fn config(mesh: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio"}, "data": {"mesh": mesh}})
}

fn entry(manager: &str, operation: &str, fields: &Value) -> Value {
    json!({"manager": manager, "operation": operation, "apiVersion": "v1", "time": "2026-11-21T10:00:00Z",
        "fieldsType": "FieldsV1", "fieldsV1": fields})
}

/// What Helm writes: the label of its chart, and these keys.
fn helms(keys: &[&str]) -> Value {
    let data: Map<String, Value> = keys.iter().map(|key| (format!("f:{key}"), json!({}))).collect();
    json!({"f:data": data, "f:metadata": {
        "f:labels": {"f:helm.sh/chart": {}}, "f:annotations": {"f:meta.helm.sh/release-name": {}}}})
}

fn made_by_helm(mut object: Value, managed: &[Value]) -> Value {
    object["metadata"]["labels"] = json!({"helm.sh/chart": "istiod-1.31.2"});
    object["metadata"]["annotations"] = json!({"meta.helm.sh/release-name": "istiod"});
    object["metadata"]["resourceVersion"] = "7".into();
    object["metadata"]["managedFields"] = json!(managed);
    object
}

fn told(desired: &Desired, live: &Value) -> Vec<String> {
    differences(desired, live).into_iter().map(|change| change.path).collect()
}

#[test]
fn the_fields_of_whoever_wrote_the_charts_labels_become_ours_and_those_of_others_stay_theirs() {
    let mut status = entry("helm", "Update", &json!({"f:status": {}}));
    status["subresource"] = "status".into();
    let others = [entry("pilot-discovery", "Update", &json!({"f:webhooks": {}})), status];
    for (manager, operation) in [("helm", "Update"), ("helm", "Apply"), ("istio-operator", "Apply"), ("sail", "Update")]
    {
        let managed = [&others[..], &[entry(manager, operation, &helms(&["mesh"]))]].concat();
        let mut live = made_by_helm(config(""), &managed);
        let patch = hand_over(&live).unwrap();
        json_patch::patch(&mut live, &patch).unwrap();
        let expected = [&others[..], &[entry("meshwright", "Apply", &helms(&["mesh"]))]].concat();
        assert_eq!(live["metadata"]["managedFields"], json!(expected), "{manager}");
    }
}

#[test]
fn what_a_maker_wrote_in_several_ways_becomes_one_and_another_version_of_the_api_is_left_out() {
    let mut old = entry("helm", "Update", &json!({"f:data": {"f:gone": {}}}));
    old["apiVersion"] = "v0".into();
    let more = entry("helm", "Apply", &json!({"f:data": {"f:b": {}}}));
    let live = made_by_helm(config(""), &[entry("helm", "Update", &helms(&["a"])), more, old]);
    let entries = handed_over_entries(&live).unwrap();
    assert_eq!(entries, [entry("meshwright", "Apply", &helms(&["a", "b"]))]);
}

#[test]
fn where_nobody_left_a_charts_label_nobodys_fields_are_taken() {
    let live = made_by_helm(config(""), &[entry("kubectl-create", "Update", &json!({"f:data": {"f:mesh": {}}}))]);
    assert_eq!(hand_over(&live), None);
}

#[test]
fn who_made_it_is_no_difference_and_what_it_says_is() {
    let wanted = desired(config("accessLogFile: /dev/stdout\n"));
    let live = |mesh: &str, keys: &[&str]| made_by_helm(config(mesh), &[entry("helm", "Update", &helms(keys))]);
    assert_eq!(told(&wanted, &live("accessLogFile: /dev/stdout\n", &["mesh"])), [""; 0]);
    assert_eq!(told(&wanted, &live("{accessLogFile: /dev/stdout}", &["mesh"])), [""; 0], "the same in other words");
    assert_eq!(
        told(&wanted, &live("trustDomain: a\n", &["mesh"])),
        ["data.mesh.trustDomain", "data.mesh.accessLogFile"]
    );
}

#[test]
fn an_annotation_that_its_maker_gave_it_for_others_is_a_difference() {
    let service = |annotations: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "gw", "annotations": annotations}});
    let fields = json!({"f:metadata": {"f:labels": {"f:release": {}}, "f:annotations": {"f:cloud/lb": {}}}});
    let mut live = made_by_helm(service(json!({})), &[entry("helm", "Update", &fields)]);
    live["metadata"]["annotations"] = json!({"cloud/lb": "internal", "team": "edge"});
    assert_eq!(told(&desired(service(json!({}))), &live), ["metadata.annotations[\"cloud/lb\"]"]);
    assert_eq!(told(&desired(service(json!({"cloud/lb": "internal"}))), &live), [""; 0]);
}

#[test]
fn what_the_chart_tells_people_of_its_values_is_nobodys_concern() {
    let values = |text: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "values"}, "data": {"merged-values": text}});
    assert_eq!(told(&desired(values("a")), &made_by_helm(values("b"), &[])), [""; 0]);
}

#[test]
fn a_certificate_that_istioctl_wrote_is_left_where_it_is() {
    let hook = json!({"k:{\"name\":\"v\"}": {"f:name": {}, "f:clientConfig": {"f:caBundle": {}, "f:service": {}}}});
    let fields = json!({"f:webhooks": hook, "f:metadata": {"f:labels": {"f:helm.sh/chart": {}}}});
    let live = made_by_helm(config(""), &[entry("istio-operator", "Apply", &fields)]);
    let entries = handed_over_entries(&live).unwrap();
    let config = entries[0].pointer("/fieldsV1/f:webhooks").unwrap().to_string();
    assert!(config.contains("f:service") && !config.contains("caBundle"), "{config}");
}

#[test]
fn istioctls_labels_count_for_nothing_where_no_chart_has_them_and_for_much_where_one_has() {
    let with = |rev: Option<&str>| {
        let mut object = config("");
        object["metadata"]["labels"] = rev.map_or(json!({}), |rev| json!({"istio.io/rev": rev}));
        object
    };
    let labels = json!({"f:metadata": {"f:labels": {"f:helm.sh/chart": {}, "f:istio.io/rev": {}}}});
    let mut live = made_by_helm(config(""), &[entry("istio-operator", "Apply", &labels)]);
    live["metadata"]["labels"]["istio.io/rev"] = "default".into();
    assert_eq!(told(&desired(with(None)), &live), [""; 0]);
    assert_eq!(told(&desired(with(Some("canary"))), &live), ["metadata.labels[\"istio.io/rev\"]"]);
}
