//! Ownership metadata, hashes and stages.

use serde_json::json;

use super::*;

fn owner() -> Owner {
    Owner { installation: "mesh".into(), uid: "u-1".into(), release: semver::Version::new(1, 31, 2) }
}

#[test]
fn sets_ownership_metadata_outside_pod_template() {
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "istiod"},
        "spec": {"template": {"metadata": {"labels": {"app": "istiod"}}}}});
    let desired = DesiredObject::from_rendered(deployment, &Component::Istiod, &owner(), "istio-system").unwrap();
    let value = desired.value();
    assert_eq!(value["metadata"]["labels"][INSTALLATION_LABEL], "mesh");
    assert_eq!(value["metadata"]["annotations"][UID_ANNOTATION], "u-1");
    assert_eq!(value["metadata"]["namespace"], "istio-system");
    assert_eq!(value["spec"]["template"]["metadata"], json!({"labels": {"app": "istiod"}}));
}

#[test]
fn hash_changes_only_with_content() {
    let make = |data: &str| {
        let map =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio"}, "data": {"mesh": data}});
        DesiredObject::from_rendered(map, &Component::Istiod, &owner(), "istio-system").unwrap().hash
    };
    assert_eq!(make("a"), make("a"));
    assert_ne!(make("a"), make("b"));
}

#[test]
fn hash_is_stable_across_operator_versions() {
    // If this hash changes, an operator upgrade rewrites all objects.
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio"}, "data": {"mesh": "a"}});
    let desired = DesiredObject::from_rendered(map, &Component::Istiod, &owner(), "istio-system").unwrap();
    assert_eq!(desired.hash, "450a8c18f6d0dde7");
}

#[test]
fn error_names_unknown_kind() {
    let gateway = json!({"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "g"}});
    let error = DesiredObject::from_rendered(gateway, &Component::Base, &owner(), "x").unwrap_err();
    assert!(error.to_string().contains("networking.istio.io/v1 Gateway \"g\""), "{error}");
}

#[test]
fn applies_injection_webhook_last_but_before_gateways() {
    let stage = |kind| Stage::of(kind, &Component::Istiod);
    let own = Kind::ALL.into_iter().filter(|kind| kind.built_in() && *kind != Kind::DaemonSet);
    assert!(own.map(stage).all(|stage| stage <= Stage::Injection));
    let gateway = Component::Gateway("ingress".into());
    assert!(Kind::ALL.into_iter().all(|kind| Stage::of(kind, &gateway) > Stage::Injection));
    assert!(Stage::of(Kind::Deployment, &gateway) > Stage::of(Kind::Service, &gateway));
}

#[test]
fn orders_cni_and_ztunnel_between_injection_and_gateways() {
    let stages = [
        Stage::of(Kind::MutatingWebhookConfiguration, &Component::Istiod),
        Stage::of(Kind::DaemonSet, &Component::Cni),
        Stage::of(Kind::DaemonSet, &Component::Ztunnel),
        Stage::of(Kind::ServiceAccount, &Component::Gateway("g".into())),
    ];
    assert!(stages.is_sorted_by(|a, b| a < b));
    let removal = [
        Stage::GatewayRoles,
        Stage::Injection,
        Stage::Validation,
        Stage::Ztunnel,
        Stage::Cni,
        Stage::ControlPlane,
        Stage::Bindings,
        Stage::Roles,
    ];
    assert!(removal.is_sorted_by(|a, b| a.removal_order() > b.removal_order()));
}

#[test]
fn applies_add_ons_last_and_removes_them_first() {
    let add_on = Component::AddOn("prometheus".into());
    let stages = [
        Stage::GatewayWorkloads,
        Stage::of(Kind::ClusterRole, &add_on),
        Stage::of(Kind::ClusterRoleBinding, &add_on),
        Stage::of(Kind::Deployment, &add_on),
    ];
    assert!(stages.is_sorted_by(|a, b| a < b));
    assert!(stages.is_sorted_by(|a, b| a.removal_order() < b.removal_order()));
    assert!(Stage::of(Kind::ServiceAccount, &add_on).removal_order() > Stage::Gateways.removal_order());
}

#[test]
fn component_labels_round_trip() {
    use Component::{AddOn, Base, Cni, Gateway, Istiod, Namespaces, Tag, Ztunnel};
    for component in [Namespaces, Base, Istiod, Cni, Ztunnel, Tag("a".into()), Gateway("a".into()), AddOn("a".into())] {
        assert_eq!(Component::from_label(&component.to_string()), Some(component));
    }
}
