use semver::Version;
use serde_json::{Value, json};

use super::*;
use crate::mesh::object::Owner;

pub(super) fn placement() -> Placement {
    Placement { operator: "meshwright-system".into(), mesh: "istio-system".into() }
}

pub(super) fn object(value: Value, component: &Component) -> Desired {
    let owner = Owner { installation: "m".into(), uid: "u".into(), release: Version::new(1, 31, 2) };
    Desired::admit(value, component, &owner, "istio-system").unwrap()
}

pub(super) fn role(kind: &str, name: &str, namespace: Option<&str>, rules: &Value) -> Desired {
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

pub(super) fn istiod() -> Vec<Desired> {
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

fn rights(objects: &[Desired]) -> Rights {
    Rights::of(placement(), objects).unwrap()
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
fn what_a_chart_s_cluster_role_allows_is_held_in_the_cluster() {
    let manifests = rights(&istiod()).manifests();
    let cluster = role_named(&manifests, "ClusterRole", "meshwright");
    assert!(allows(cluster, "networking.istio.io", "virtualservices", "watch"));
    assert!(allows(cluster, "", "secrets", "list"));
    assert!(!allows(cluster, "networking.istio.io", "gateways", "create"));
}

#[test]
fn secrets_are_written_in_the_mesh_s_namespace_only() {
    let manifests = rights(&istiod()).manifests();
    let cluster = role_named(&manifests, "ClusterRole", "meshwright");
    let mesh = role_named(&manifests, "Role", "meshwright-mesh");
    for verb in ["create", "update", "delete"] {
        assert!(!allows(cluster, "", "secrets", verb));
        assert!(allows(mesh, "", "secrets", verb));
    }
    // Held in the cluster already.
    assert!(!allows(mesh, "", "secrets", "get"));
}

#[test]
fn a_gateway_s_role_may_be_in_any_namespace() {
    let only = [role("Role", "edge", Some("edge"), &json!([rule("", "secrets", &["list"])]))];
    let manifests = rights(&only).manifests();
    assert!(allows(role_named(&manifests, "ClusterRole", "meshwright"), "", "secrets", "list"));
}

#[test]
fn the_operator_alone_has_no_wildcard_and_reads_no_secret_but_one() {
    let manifests = rights(&[]).manifests();
    let text = serde_json::to_string(&manifests).unwrap();
    assert!(!text.contains("\"*\""), "{text}");
    assert!(!allows(role_named(&manifests, "Role", "meshwright-mesh"), "", "secrets", "get"));
    assert!(text.contains("istio-ca-secret"));
}

#[test]
fn neither_escalate_nor_bind_is_ever_asked_for() {
    let text = serde_json::to_string(&rights(&istiod()).manifests()).unwrap();
    assert!(!text.contains("escalate") && !text.contains("\"bind\"") && !text.contains("impersonate"));
}

#[test]
fn the_manifests_do_not_depend_on_order_or_repetition() {
    let once = istiod();
    let mut twice: Vec<Desired> = istiod().into_iter().rev().collect();
    twice.extend(istiod());
    assert_eq!(rights(&once).manifests(), rights(&twice).manifests());
}

#[test]
fn every_role_is_bound_to_the_operators_account_where_it_belongs() {
    let manifests = rights(&istiod()).manifests();
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
fn a_namespace_that_the_operator_shares_with_the_mesh_is_not_made_twice() {
    let both = Placement { operator: "istio-system".into(), mesh: "istio-system".into() };
    let manifests = Rights::of(both, &istiod()).unwrap().manifests();
    assert!(manifests.iter().all(|manifest| manifest["kind"] != "Namespace"));
}

#[test]
fn roles_whose_rights_cannot_be_known_are_refused_by_name() {
    let api_version = "rbac.authorization.k8s.io/v1";
    let refused = |object: Desired| Rights::of(placement(), &[object]).unwrap_err().to_string();
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
fn the_document_tells_of_each_right_who_needs_it() {
    let document = rights(&istiod()).document("made by hand");
    assert!(document.starts_with("<!-- made by hand -->\n"));
    for part in [
        "#### ClusterRole `istiod`",
        "#### Role of each gateway",
        "#### Role `istiod`",
        "| `*.networking.istio.io` | get, list, watch |",
        "`leases.coordination.k8s.io` (only meshwright-leader)",
        "Reading all Secrets is istiod's right",
        "may create pods in `istio-system`, which is a real right",
    ] {
        assert!(document.contains(part), "{part} in\n{document}");
    }
    for need in needs() {
        assert!(!need.why.is_empty() && !need.without.is_empty(), "{need:?}");
        assert!(document.contains(need.why) && document.contains(need.without), "{need:?}");
    }
}
