//! Which labels of a namespace block which component, and the remedies.

use serde_json::json;

use super::*;
use crate::mesh::object::Owner;
use crate::mesh::revisions::Revision;

fn owner() -> Owner {
    Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 31, 2) }
}

fn object(component: &Component, value: Value) -> Arc<DesiredObject> {
    Arc::new(DesiredObject::from_rendered(value, component, &owner(), "istio-system").unwrap())
}

fn workload(kind: &str, name: &str, image: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": "ingress"},
        "spec": {"template": {"spec": {"containers": [{"name": "istio-proxy", "image": image}]}}}})
}

fn mesh_config(text: &str) -> Arc<DesiredObject> {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio"}, "data": {"mesh": text}});
    object(&Component::Istiod, map)
}

/// Rules of a mesh with gateway `edge` in namespace `ingress`.
fn rules(validated: &ValidatedSpec, selectors: &Value) -> NamespaceRules {
    let gateway = object(&Component::Gateway("edge".into()), workload("Deployment", "edge", "auto"));
    let mesh = mesh_config(&json!({"discoverySelectors": selectors}).to_string());
    NamespaceRules::of(validated, &[gateway, mesh])
}

fn labels(of: &[(&str, &str)]) -> Labels {
    of.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// The messages about namespace `ingress` with these labels.
fn messages(rules: &NamespaceRules, of: &[(&str, &str)]) -> Vec<String> {
    let labels = labels(of);
    let found = rules.obstacles(|namespace| (namespace == "ingress").then_some(&labels));
    found.iter().map(NamespaceObstacle::message).collect()
}

#[test]
fn names_label_that_excludes_gateway_from_injection() {
    let mesh = rules(&ValidatedSpec::empty(owner()), &json!([]));
    assert_eq!(
        messages(&mesh, &[("istio-injection", "disabled")]),
        [
            "gateway edge: Namespace ingress is labelled istio-injection=disabled, which excludes its pods from injection by \
          this mesh; remove the label: kubectl label namespace ingress istio-injection-"
        ]
    );
    assert!(messages(&mesh, &[("istio.io/rev", "other")])[0].contains("labelled istio.io/rev=other"));
    for fine in [&[][..], &[("istio-injection", "enabled")], &[("istio.io/rev", "default")], &[("a", "b")]] {
        assert_eq!(messages(&mesh, fine), [""; 0], "{fine:?}");
    }
}

#[test]
fn tag_of_revision_injects_too() {
    let mut validated = ValidatedSpec { revision: Revision::Named("canary".into()), ..ValidatedSpec::empty(owner()) };
    let enabled = [("istio-injection", "enabled")];
    assert!(messages(&rules(&validated, &json!([])), &enabled)[0].contains("istio-injection=enabled"));
    validated.tags = ["default".to_owned(), "prod".to_owned()].into();
    let mesh = rules(&validated, &json!([]));
    for fine in [enabled, [("istio.io/rev", "prod")], [("istio.io/rev", "canary")]] {
        assert_eq!(messages(&mesh, &fine), [""; 0], "{fine:?}");
    }
    assert_eq!(messages(&mesh, &[("istio-injection", "disabled")]).len(), 1);
}

#[test]
fn pods_with_own_image_need_no_injection() {
    let gateway = object(&Component::Gateway("edge".into()), workload("Deployment", "edge", "hub/proxyv2:1"));
    let mesh = NamespaceRules::of(&ValidatedSpec::empty(owner()), &[gateway]);
    assert_eq!(messages(&mesh, &[("istio-injection", "disabled")]), [""; 0]);
}

/// Expressions, labels of the namespace, and the label to change.
type Case<'c> = (Value, &'c [(&'c str, &'c str)], Option<&'c str>);

#[test]
fn names_label_that_discovery_selectors_require() {
    let fix = |selectors: Value, of: &[(&str, &str)]| {
        let found = messages(&rules(&ValidatedSpec::empty(owner()), &selectors), of);
        found.first().map(|message| message.rsplit("; ").next().unwrap().to_owned())
    };
    let by_label = json!([{"matchLabels": {"mesh": "on"}}]);
    let command = "label it: kubectl label namespace ingress mesh=on --overwrite";
    assert_eq!(fix(by_label.clone(), &[]).as_deref(), Some(command));
    assert_eq!(fix(by_label.clone(), &[("mesh", "off")]).as_deref(), Some(command));
    assert_eq!(fix(by_label, &[("mesh", "on")]), None);
    let expression = |operator: &str, values: Value| {
        let mut expression = json!({"key": "mesh", "operator": operator});
        if !values.is_null() {
            expression["values"] = values;
        }
        json!([{"matchExpressions": [expression]}])
    };
    let cases: [Case<'_>; 11] = [
        (expression("In", json!(["a", "b"])), &[][..], Some("mesh=a")),
        (expression("In", json!(["a", "b"])), &[("mesh", "b")], None),
        (expression("NotIn", json!(["a"])), &[("mesh", "a")], Some("mesh-")),
        (expression("NotIn", json!(["a"])), &[], None),
        (expression("Exists", Value::Null), &[], Some("mesh=true")),
        (expression("Exists", Value::Null), &[("mesh", "")], None),
        (expression("DoesNotExist", Value::Null), &[("mesh", "")], Some("mesh-")),
        (expression("DoesNotExist", Value::Null), &[], None),
        (json!([]), &[], None),
        (json!([{}]), &[], None),
        // istiod ignores all selectors if one is invalid.
        (expression("Near", json!(["a"])), &[], None),
    ];
    for (selectors, of, change) in cases {
        let expected = change.map(|change| format!("label it: kubectl label namespace ingress {change} --overwrite"));
        assert_eq!(fix(selectors.clone(), of), expected, "{selectors} {of:?}");
    }
}

#[test]
fn suggests_selector_with_fewest_changes() {
    let selectors = json!([
        {"matchLabels": {"a": "1", "b": "2"}},
        {"matchLabels": {"c": "3"}},
        {"matchLabels": {NAME_LABEL: "shop"}},
    ]);
    let mesh = rules(&ValidatedSpec::empty(owner()), &selectors);
    assert!(messages(&mesh, &[])[0].contains("namespace ingress c=3 --overwrite"));
    assert!(messages(&mesh, &[("a", "1"), ("b", "2")]).is_empty());
    let by_name = rules(&ValidatedSpec::empty(owner()), &json!([{"matchLabels": {NAME_LABEL: "shop"}}]));
    let message = messages(&by_name, &[(NAME_LABEL, "ingress")]).remove(0);
    assert!(
        message.ends_with(
            "add {matchLabels: {kubernetes.io/metadata.name: ingress}} to spec.meshConfig.discoverySelectors"
        )
    );
}

#[test]
fn undiscovered_components_are_named() {
    let ztunnel = object(&Component::Ztunnel, workload("DaemonSet", "ztunnel", "hub/ztunnel:1"));
    let mesh = mesh_config("discovery_selectors: [{matchLabels: {mesh: \"on\"}}]");
    let mesh = NamespaceRules::of(&ValidatedSpec::empty(owner()), &[ztunnel, mesh]);
    let none = Labels::new();
    let found = mesh.obstacles(|_| Some(&none));
    let components: Vec<String> = found.iter().map(|obstacle| obstacle.component.to_string()).collect();
    assert_eq!(components, ["istiod", "ztunnel"]);
    assert_eq!(mesh.obstacles(|_| None), [], "labels are unknown");
}
