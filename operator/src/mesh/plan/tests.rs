//! What becomes of objects, case by case.

use serde_json::{Value, json};

use super::*;
use crate::mesh::live::Live;

fn owner() -> Owner {
    Owner { installation: "mesh".into(), uid: "u-1".into(), release: semver::Version::new(1, 31, 2) }
}

fn desired(kind: &str, api_version: &str, name: &str) -> Arc<Desired> {
    let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "data": {"a": "1"}});
    Arc::new(Desired::admit(object, &Component::Istiod, &owner(), "istio-system").unwrap())
}

fn live_of(desired: &Desired, edit: impl FnOnce(&mut Value)) -> (ObjectKey, Live) {
    let mut object = desired.value();
    object["metadata"]["uid"] = "live".into();
    object["metadata"]["resourceVersion"] = "7".into();
    edit(&mut object);
    (desired.key.clone(), Live::of(desired.key.kind, &object, Some(desired), None))
}

fn make(desired: &[Arc<Desired>], live: Vec<(ObjectKey, Live)>) -> Plan<Prepared> {
    adopting(desired, live, Adoption::Refuse)
}

fn adopting(desired: &[Arc<Desired>], live: Vec<(ObjectKey, Live)>, adoption: Adoption) -> Plan<Prepared> {
    let existing = ["u-1".to_owned(), "u-2".to_owned()].into();
    plan(desired, &live.into_iter().collect(), &owner(), &existing, true, adoption)
}

#[test]
fn an_object_that_is_as_desired_is_left_alone() {
    let map = desired("ConfigMap", "v1", "istio");
    let live = live_of(&map, |_| ());
    assert!(make(&[map], vec![live]).is_settled());
}

#[test]
fn a_missing_object_is_created_and_an_edited_one_put_right() {
    let (a, b) = (desired("ConfigMap", "v1", "a"), desired("ConfigMap", "v1", "b"));
    let live = live_of(&b, |o| o["data"]["a"] = "2".into());
    let plan = make(&[a, b], vec![live]);
    assert_eq!(plan.steps[0].action, Action::Create);
    assert!(matches!(plan.steps[1].action, Action::Update(_)), "{:?}", plan.steps[1]);
}

#[test]
fn an_added_key_is_taken_out() {
    let map = desired("ConfigMap", "v1", "a");
    let live = live_of(&map, |o| o["data"]["b"] = "2".into());
    assert!(matches!(make(&[map], vec![live]).steps[0].action, Action::TakeOut(_)));
}

#[test]
fn an_unmarked_object_of_that_name_is_refused() {
    let map = desired("ConfigMap", "v1", "istio");
    let live = live_of(&map, |o| o["metadata"] = json!({"name": "istio"}));
    let plan = make(&[Arc::clone(&map)], vec![live]);
    assert_eq!(plan.refusals, [Refusal::Foreign { key: map.key.clone(), holder: None }]);
}

#[test]
fn what_is_nobodys_becomes_ours_only_where_the_spec_says_so_and_nothing_in_it_changes() {
    let map = desired("ConfigMap", "v1", "istio");
    let found = |text: &str| {
        live_of(&map, |o| {
            o["metadata"] = json!({"name": "istio", "namespace": "istio-system"});
            o["data"]["a"] = text.into();
        })
    };
    let all = [Arc::clone(&map)];
    let same = adopting(&all, vec![found("1")], Adoption::Adopt);
    assert_eq!((same.refusals, same.steps[0].action.clone()), (vec![], Action::Adopt(vec![])));
    let (key, leaving) = found("1");
    let leaving = vec![(key, Live { deleting: true, ..leaving })];
    assert!(matches!(adopting(&all, leaving, Adoption::Adopt).refusals.as_slice(), [Refusal::Foreign { .. }]));
    let other = adopting(&all, vec![found("2")], Adoption::Adopt);
    assert!(
        matches!(other.refusals.as_slice(), [Refusal::Differs { changes, .. }] if changes[0].path == "data.a"),
        "{:?}",
        other.refusals
    );
    let overwritten = adopting(&all, vec![found("2")], Adoption::Overwrite);
    assert_eq!(overwritten.refusals, []);
    assert!(matches!(&overwritten.steps[0].action, Action::Overwrite(changes) if changes[0].path == "data.a"));
    let held = live_of(&map, |o| o["metadata"]["annotations"]["meshwright.dev/installation-uid"] = "u-2".into());
    assert!(matches!(adopting(&all, vec![held], Adoption::Overwrite).refusals.as_slice(), [Refusal::Foreign { .. }]));
}

#[test]
fn nobodys_pods_of_another_release_are_not_taken_over_whatever_the_spec_says() {
    let istiod = desired("Deployment", "apps/v1", "istiod");
    let found = |version: &str| {
        live_of(&istiod, |o| {
            o["metadata"] = json!({"name": "istiod", "labels": {"app.kubernetes.io/version": version}});
        })
    };
    for adoption in [Adoption::Adopt, Adoption::Overwrite] {
        let all = [Arc::clone(&istiod)];
        assert_eq!(adopting(&all, vec![found("1.31.2")], adoption).refusals, []);
        let refusals = adopting(&all, vec![found("1.30.9")], adoption).refusals;
        assert!(matches!(refusals.as_slice(), [Refusal::OtherRelease { .. }]), "{refusals:?}");
    }
}

#[test]
fn nobodys_workload_that_selects_other_pods_is_not_taken_over_whatever_the_spec_says() {
    for kind in ["Deployment", "DaemonSet"] {
        let selector = |istio: &str| json!({"matchLabels": {"app": "edge", "istio": istio}});
        let object = json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "edge"},
            "spec": {"minReadySeconds": 5, "selector": selector("edge")}});
        let edge =
            Arc::new(Desired::admit(object, &Component::Gateway("edge".into()), &owner(), "istio-system").unwrap());
        let refused = |selector: Value, adoption: Adoption| {
            let found = live_of(&edge, |o| {
                o["metadata"] = json!({"name": "edge"});
                o["spec"] = json!({"minReadySeconds": 9, "selector": selector});
            });
            adopting(&[Arc::clone(&edge)], vec![found], adoption).refusals
        };
        assert_eq!(refused(selector("edge"), Adoption::Overwrite), []);
        for adoption in [Adoption::Adopt, Adoption::Overwrite] {
            let refusals = refused(selector("foo"), adoption);
            let [Refusal::Selects { changes, .. }] = refusals.as_slice() else { panic!("{refusals:?}") };
            let told: Vec<_> = changes.iter().map(|c| (c.path.as_str(), c.old.clone(), c.new.clone())).collect();
            assert_eq!(told, [("spec.selector.matchLabels.istio", Some(json!("foo")), Some(json!("edge")))]);
            let more = json!({"matchLabels": {"app": "edge", "istio": "edge", "team": "a"}});
            let refusals = refused(more, adoption);
            assert!(matches!(refusals.as_slice(), [Refusal::Selects { .. }]), "{refusals:?}");
        }
    }
}

#[test]
fn a_mark_of_a_living_installation_is_refused_and_one_of_a_dead_is_taken_over() {
    let map = desired("ConfigMap", "v1", "istio");
    let with_uid = |uid: &str| {
        live_of(&map, |o| {
            o["metadata"]["labels"]["meshwright.dev/installation"] = "other".into();
            o["metadata"]["annotations"]["meshwright.dev/installation-uid"] = uid.into();
        })
    };
    assert_eq!(make(&[Arc::clone(&map)], vec![with_uid("u-2")]).refusals.len(), 1);
    let plan = make(&[Arc::clone(&map)], vec![with_uid("gone")]);
    assert_eq!(plan.refusals, []);
    assert!(matches!(plan.steps[0].action, Action::Update(_)));
}

#[test]
fn what_is_ours_and_no_longer_desired_is_pruned_but_never_what_is_shared_or_anothers() {
    let ours = live_of(&desired("ConfigMap", "v1", "old"), |_| ());
    let crd = live_of(&desired("CustomResourceDefinition", "apiextensions.k8s.io/v1", "x.istio.io"), |_| ());
    let stale = live_of(&desired("ConfigMap", "v1", "theirs"), |o| {
        o["metadata"]["annotations"]["meshwright.dev/installation-uid"] = "u-2".into();
    });
    let plan = make(&[], vec![ours.clone(), crd, stale]);
    assert_eq!(plan.prune, [Removal { key: ours.0, uid: "live".into() }]);
}

#[test]
fn what_is_on_its_way_out_holds_the_rest_back() {
    let gateway = |api_version: &str, kind: &str| {
        let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "edge"}});
        Desired::admit(object, &Component::Gateway("edge".into()), &owner(), "istio-system").unwrap()
    };
    let (service, pods) = (gateway("v1", "Service"), gateway("apps/v1", "Deployment"));
    let all = vec![live_of(&service, |_| ()), live_of(&pods, |_| ())];
    assert_eq!(make(&[], all).prune.iter().map(|r| &r.key).collect::<Vec<_>>(), [&service.key]);
    let ending = live_of(&service, |o| o["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into());
    let plan = make(&[], vec![ending, live_of(&pods, |_| ())]);
    assert_eq!((plan.prune.len(), plan.leaving.clone()), (0, vec![service.key]));
    assert!(!plan.is_settled());
    assert_eq!(make(&[], vec![live_of(&pods, |_| ())]).prune[0].key, pods.key);
}

#[test]
fn a_service_that_holds_a_node_port_which_another_is_to_have_goes_first() {
    let service = |name: &str, port: i32| {
        let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"ports": [{"name": "http2", "port": 80, "nodePort": port}]}});
        Arc::new(Desired::admit(object, &Component::Gateway(name.into()), &owner(), "edge").unwrap())
    };
    let (renamed, other) = (service("old", 30401), service("gone", 30409));
    let plan = make(&[service("new", 30401)], vec![live_of(&renamed, |_| ()), live_of(&other, |_| ())]);
    assert_eq!(plan.make_way, [Removal { key: renamed.key.clone(), uid: "live".into() }]);
    assert_eq!(plan.prune, [Removal { key: other.key.clone(), uid: "live".into() }]);
}

#[test]
fn the_node_proxy_goes_before_the_node_agent_and_their_rights_only_after_their_pods() {
    let of = |kind, api_version, name: &str, component: &Component| {
        let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}});
        live_of(&Desired::admit(object, component, &owner(), "istio-system").unwrap(), |_| ())
    };
    let mut left = vec![
        of("ServiceAccount", "v1", "istio-cni", &Component::Cni),
        of("DaemonSet", "apps/v1", "istio-cni-node", &Component::Cni),
        of("ServiceAccount", "v1", "ztunnel", &Component::Ztunnel),
        of("DaemonSet", "apps/v1", "ztunnel", &Component::Ztunnel),
    ];
    let mut order: Vec<String> = Vec::new();
    while !left.is_empty() {
        let plan = make(&[], left.clone());
        let pods = left.iter().filter(|(key, _)| key.kind == Kind::DaemonSet).count();
        assert_eq!(plan.agents_leaving.len(), pods);
        order.extend(plan.prune.iter().map(|removal| format!("{} {}", removal.key.kind, removal.key.name)));
        left.retain(|(key, _)| plan.prune.iter().all(|removal| removal.key != *key));
    }
    let expected =
        ["DaemonSet ztunnel", "DaemonSet istio-cni-node", "ServiceAccount istio-cni", "ServiceAccount ztunnel"];
    assert_eq!(order, expected);
}

#[test]
fn a_definition_of_a_newer_release_is_never_taken_back() {
    let crd = desired("CustomResourceDefinition", "apiextensions.k8s.io/v1", "x.istio.io");
    let live = live_of(&crd, |o| o["metadata"]["annotations"] = json!({"meshwright.dev/release": "1.32.0"}));
    assert_eq!(make(&[crd], vec![live]).steps[0].action, Action::Keep);
}

#[test]
fn nobodys_definition_is_taken_over_where_it_is_not_newer_and_left_alone_where_it_is() {
    let schema = |fields: &[&str]| -> Value {
        let properties: serde_json::Map<String, Value> =
            fields.iter().map(|field| ((*field).to_owned(), json!({"type": "string"}))).collect();
        let schema = json!({"openAPIV3Schema": {"type": "object", "properties": properties}});
        json!({"versions": [{"name": "v1", "served": true, "schema": schema}]})
    };
    let object = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "x.istio.io"}, "spec": schema(&["a"])});
    let crd = Arc::new(Desired::admit(object, &Component::Base, &owner(), "istio-system").unwrap());
    let found = |labels: &Value, fields: &[&str]| {
        live_of(&crd, |o| {
            o["metadata"] = json!({"name": "x.istio.io", "labels": labels});
            o["spec"] = schema(fields);
        })
    };
    let of = |version: &str| json!({"app.kubernetes.io/version": version});
    for adoption in [Adoption::Refuse, Adoption::Adopt, Adoption::Overwrite] {
        let kept = |labels: &Value, fields: &[&str]| {
            let plan = adopting(&[Arc::clone(&crd)], vec![found(labels, fields)], adoption);
            assert_eq!(plan.refusals, [], "definitions are shared");
            plan.steps[0].action == Action::Keep
        };
        assert!(kept(&of("1.32.0"), &["a", "b"]) && !kept(&of("1.31.2"), &["a"]) && !kept(&of("1.30.0"), &[]));
        // Those that kubectl made of Istio's file don't say of which release they are.
        let undated = json!({"chart": "istio", "release": "istio"});
        assert!(kept(&undated, &["a", "b"]) && !kept(&undated, &["a"]) && !kept(&undated, &["b"]));
    }
}

#[test]
fn a_terminating_namespace_is_refused_by_name() {
    let namespace = desired("Namespace", "v1", "istio-system");
    let live = live_of(&namespace, |o| o["status"] = json!({"phase": "Terminating"}));
    assert_eq!(make(&[namespace], vec![live]).refusals, [Refusal::Terminating("istio-system".into())]);
}
