use semver::Version;
use serde_json::{Value, json};

use super::*;
use crate::mesh::object::Owner;

pub(super) fn install_namespaces() -> InstallNamespaces {
    InstallNamespaces { operator: "meshwright-system".into(), mesh: "istio-system".into() }
}

pub(super) fn object(value: Value, component: &Component) -> DesiredObject {
    let owner = Owner { installation: "m".into(), uid: "u".into(), release: Version::new(1, 31, 2) };
    DesiredObject::from_rendered(value, component, &owner, "istio-system").unwrap()
}

pub(super) fn role(kind: &str, name: &str, namespace: Option<&str>, rules: &Value) -> DesiredObject {
    let mut metadata = json!({"name": name});
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    let component = if kind == "Role" && namespace != Some("istio-system") {
        Component::Gateway(name.to_owned())
    } else {
        Component::Istiod
    };
    let api_version = "rbac.authorization.k8s.io/v1";
    object(json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "rules": rules}), &component)
}

pub(super) fn rule(group: &str, resource: &str, verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": [resource], "verbs": verbs})
}

pub(super) fn istiod() -> Vec<DesiredObject> {
    vec![
        role(
            "ClusterRole",
            "istiod",
            None,
            &json!([
                rule("networking.istio.io", "*", &["get", "list", "watch"]),
                rule("", "secrets", &["get", "watch", "list"]),
                rule("", "configmaps", &["create", "get", "list", "watch", "update"]),
            ]),
        ),
        role(
            "Role",
            "istiod",
            Some("istio-system"),
            &json!([
                rule("", "secrets", &["create", "get", "watch", "list", "update", "delete"]),
                rule("networking.istio.io", "gateways", &["create"]),
            ]),
        ),
        role("Role", "edge", Some("edge"), &json!([rule("", "secrets", &["get", "watch", "list"])])),
    ]
}

fn permissions(objects: &[DesiredObject]) -> OperatorPermissions {
    OperatorPermissions::of(install_namespaces(), objects).unwrap()
}

pub(super) fn role_named<'a>(manifests: &'a [Value], kind: &str, name: &str) -> &'a Value {
    manifests.iter().find(|m| m["kind"] == kind && m["metadata"]["name"] == name).unwrap()
}

/// Whether rules of a manifest allow something, read as RBAC reads them.
pub(super) fn allows(role: &Value, group: &str, resource: &str, verb: &str) -> bool {
    let has = |list: &Value, word: &str| list.as_array().is_some_and(|l| l.iter().any(|w| w == word || w == "*"));
    role["rules"].as_array().unwrap().iter().any(|rule| {
        has(&rule["apiGroups"], group)
            && has(&rule["resources"], resource)
            && has(&rule["verbs"], verb)
            && rule["resourceNames"].is_null()
    })
}

#[test]
fn includes_rules_of_chart_cluster_roles() {
    let manifests = permissions(&istiod()).manifests();
    let cluster = role_named(&manifests, "ClusterRole", "meshwright");
    assert!(allows(cluster, "networking.istio.io", "virtualservices", "watch"));
    assert!(allows(cluster, "", "secrets", "list"));
    assert!(!allows(cluster, "networking.istio.io", "gateways", "create"));
}

#[test]
fn changes_only_named_crds() {
    let crd = |name: &str| {
        let value = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": name}});
        object(value, &Component::Base)
    };
    let group = "apiextensions.k8s.io";
    let names = |objects: &[DesiredObject]| -> Vec<Value> {
        let manifests = permissions(objects).manifests();
        let cluster = role_named(&manifests, "ClusterRole", "meshwright");
        assert!(allows(cluster, group, "customresourcedefinitions", "create"));
        assert!(!allows(cluster, group, "customresourcedefinitions", "patch"), "only by name");
        let rules =
            cluster["rules"].as_array().unwrap().iter().filter(|rule| rule["verbs"] == json!(["delete", "patch"]));
        let crds = rules.filter(|rule| rule["apiGroups"] == json!([group]));
        crds.map(|rule| rule["resourceNames"].clone()).collect()
    };
    let known = names(&[crd("gateways.networking.istio.io")]);
    assert_eq!(known, [json!(CRDS)]);
    let further = names(&[crd("meshes.new.istio.io")]);
    assert!(further.len() == 2 && further.contains(&json!(["meshes.new.istio.io"])), "{further:?}");
}

#[test]
fn writes_secrets_only_in_mesh_namespace() {
    let manifests = permissions(&istiod()).manifests();
    let cluster = role_named(&manifests, "ClusterRole", "meshwright");
    let mesh = role_named(&manifests, "Role", "meshwright-mesh");
    for verb in ["create", "update", "delete"] {
        assert!(!allows(cluster, "", "secrets", verb));
        assert!(allows(mesh, "", "secrets", verb));
    }
    // Granted cluster-wide already.
    assert!(!allows(mesh, "", "secrets", "get"));
}

#[test]
fn gateway_rules_are_cluster_wide() {
    let only = [role("Role", "edge", Some("edge"), &json!([rule("", "secrets", &["list"])]))];
    let manifests = permissions(&only).manifests();
    assert!(allows(role_named(&manifests, "ClusterRole", "meshwright"), "", "secrets", "list"));
}

#[test]
fn operator_itself_has_no_wildcard() {
    let manifests = permissions(&[]).manifests();
    let text = serde_json::to_string(&manifests).unwrap();
    assert!(!text.contains("\"*\""), "{text}");
    assert!(!allows(role_named(&manifests, "Role", "meshwright-mesh"), "", "secrets", "get"));
    assert!(text.contains("istio-ca-secret"));
}

#[test]
fn never_needs_escalate_or_bind() {
    let text = serde_json::to_string(&permissions(&istiod()).manifests()).unwrap();
    assert!(!text.contains("escalate") && !text.contains("\"bind\"") && !text.contains("impersonate"));
}

#[test]
fn manifests_are_deterministic() {
    let once = istiod();
    let mut twice: Vec<DesiredObject> = istiod().into_iter().rev().collect();
    twice.extend(istiod());
    assert_eq!(permissions(&once).manifests(), permissions(&twice).manifests());
}

#[test]
fn binds_each_role_to_operator() {
    let manifests = permissions(&istiod()).manifests();
    assert_eq!(manifests[0]["kind"], "Namespace");
    for (kind, name, namespace) in [
        ("ClusterRoleBinding", "meshwright", Value::Null),
        ("RoleBinding", "meshwright", json!("meshwright-system")),
        ("RoleBinding", "meshwright-mesh", json!("istio-system")),
    ] {
        let binding = role_named(&manifests, kind, name);
        assert_eq!(binding["metadata"]["namespace"], namespace);
        assert_eq!(binding["roleRef"]["name"], name);
        assert_eq!(
            binding["subjects"],
            json!([{"kind": "ServiceAccount", "name": "meshwright", "namespace": "meshwright-system"}])
        );
    }
    assert!(allows(role_named(&manifests, "Role", "meshwright"), "apps", "controllerrevisions", "create"));
}

#[test]
fn shared_namespace_is_created_once() {
    let both = InstallNamespaces { operator: "istio-system".into(), mesh: "istio-system".into() };
    let manifests = OperatorPermissions::of(both, &istiod()).unwrap().manifests();
    assert!(manifests.iter().all(|manifest| manifest["kind"] != "Namespace"));
}

#[test]
fn refuses_roles_with_unknown_permissions() {
    let api_version = "rbac.authorization.k8s.io/v1";
    let refused =
        |object: DesiredObject| OperatorPermissions::of(install_namespaces(), &[object]).unwrap_err().to_string();
    let mut aggregated = json!({"apiVersion": api_version, "kind": "ClusterRole", "metadata": {"name": "x"}});
    aggregated["aggregationRule"] = json!({"clusterRoleSelectors": []});
    assert!(refused(object(aggregated, &Component::Istiod)).contains("ClusterRole x aggregates"));
    let binding = json!({
        "apiVersion": api_version, "kind": "ClusterRoleBinding", "metadata": {"name": "x"},
        "roleRef": {"apiGroup": RBAC_API, "kind": "ClusterRole", "name": "cluster-admin"}, "subjects": [],
    });
    assert!(refused(object(binding, &Component::Istiod)).contains("ClusterRole cluster-admin"));
    assert!(refused(role("ClusterRole", "x", None, &json!([{"verbs": "get"}]))).contains("the rules of ClusterRole x"));
}

#[test]
fn document_lists_purpose_of_each_permission() {
    let document = permissions(&istiod()).document("generated by a test");
    assert!(document.starts_with("<!-- generated by a test -->\n"));
    for part in [
        "#### ClusterRole `istiod`",
        "#### Role of each gateway",
        "#### Role `istiod`",
        "| `*.networking.istio.io` | get, list, watch |",
        "`leases.coordination.k8s.io` (only meshwright-leader)",
        "istiod reads all Secrets",
        "create pods in `istio-system`",
    ] {
        assert!(document.contains(part), "{part} in\n{document}");
    }
    for permission in own_permissions() {
        assert!(!permission.purpose.is_empty() && !permission.without.is_empty(), "{permission:?}");
        assert!(document.contains(permission.purpose) && document.contains(permission.without), "{permission:?}");
    }
}
