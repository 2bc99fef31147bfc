//! Marks and hashes.

use serde_json::json;

use super::*;

fn owner() -> Owner {
    Owner { installation: "mesh".into(), uid: "u-1".into(), release: semver::Version::new(1, 31, 2) }
}

#[test]
fn marks_go_on_the_object_and_never_into_its_pod_template() {
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "istiod"},
        "spec": {"template": {"metadata": {"labels": {"app": "istiod"}}}}});
    let desired = Desired::admit(deployment, &Component::Istiod, &owner(), "istio-system").unwrap();
    let value = desired.value();
    assert_eq!(value["metadata"]["labels"][INSTALLATION_LABEL], "mesh");
    assert_eq!(value["metadata"]["annotations"][UID_ANNOTATION], "u-1");
    assert_eq!(value["metadata"]["namespace"], "istio-system");
    assert_eq!(value["spec"]["template"]["metadata"], json!({"labels": {"app": "istiod"}}));
}

#[test]
fn the_hash_changes_with_the_content_and_only_then() {
    let make = |data: &str| {
        let map =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio"}, "data": {"mesh": data}});
        Desired::admit(map, &Component::Istiod, &owner(), "istio-system").unwrap().hash
    };
    assert_eq!(make("a"), make("a"));
    assert_ne!(make("a"), make("b"));
}

#[test]
fn what_an_earlier_operator_has_applied_is_known_by_its_hash() {
    // With another hash here, an operator that is replaced by this one sees all its objects written anew.
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio"}, "data": {"mesh": "a"}});
    let desired = Desired::admit(map, &Component::Istiod, &owner(), "istio-system").unwrap();
    assert_eq!(desired.hash, "450a8c18f6d0dde7");
}

#[test]
fn an_unknown_kind_is_named() {
    let gateway = json!({"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "g"}});
    let error = Desired::admit(gateway, &Component::Base, &owner(), "x").unwrap_err();
    assert!(error.to_string().contains("networking.istio.io/v1 Gateway \"g\""), "{error}");
}

#[test]
fn the_mutating_webhook_is_the_last_of_the_control_plane_and_gateway_pods_come_after_it() {
    let stage = |kind| Stage::of(kind, &Component::Istiod);
    let own = Kind::ALL.into_iter().filter(|kind| kind.built_in() && *kind != Kind::DaemonSet);
    assert!(own.map(stage).all(|stage| stage <= Stage::Injection));
    let gateway = Component::Gateway("ingress".into());
    assert!(Kind::ALL.into_iter().all(|kind| Stage::of(kind, &gateway) > Stage::Injection));
    assert!(Stage::of(Kind::Deployment, &gateway) > Stage::of(Kind::Service, &gateway));
}

#[test]
fn the_node_agent_comes_after_injection_then_the_node_proxy_then_gateways_and_the_webhooks_go_before_them() {
    let stages = [
        Stage::of(Kind::MutatingWebhookConfiguration, &Component::Istiod),
        Stage::of(Kind::DaemonSet, &Component::Cni),
        Stage::of(Kind::DaemonSet, &Component::Ztunnel),
        Stage::of(Kind::ServiceAccount, &Component::Gateway("g".into())),
    ];
    assert!(stages.is_sorted_by(|a, b| a < b));
    let back = [
        Stage::GatewayIdentity,
        Stage::Injection,
        Stage::Validation,
        Stage::Ztunnel,
        Stage::Cni,
        Stage::ControlPlane,
        Stage::Bindings,
        Stage::Identity,
    ];
    assert!(back.is_sorted_by(|a, b| a.removal_turn() > b.removal_turn()));
}

#[test]
fn add_ons_come_last_and_go_first_each_after_what_it_stands_on() {
    let add_on = Component::AddOn("prometheus".into());
    let stages = [
        Stage::GatewayWorkloads,
        Stage::of(Kind::ClusterRole, &add_on),
        Stage::of(Kind::ClusterRoleBinding, &add_on),
        Stage::of(Kind::Deployment, &add_on),
    ];
    assert!(stages.is_sorted_by(|a, b| a < b));
    assert!(stages.is_sorted_by(|a, b| a.removal_turn() < b.removal_turn()));
    assert!(Stage::of(Kind::ServiceAccount, &add_on).removal_turn() > Stage::Gateways.removal_turn());
}

#[test]
fn component_labels_round_trip() {
    use Component::{AddOn, Base, Cni, Gateway, Istiod, Namespaces, Tag, Ztunnel};
    for component in [Namespaces, Base, Istiod, Cni, Ztunnel, Tag("a".into()), Gateway("a".into()), AddOn("a".into())] {
        assert_eq!(Component::from_label(&component.to_string()), Some(component));
    }
}
