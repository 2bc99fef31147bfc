//! Actions, pruning and conflicts, case by case.

use serde_json::{Value, json};

use super::*;
use crate::mesh::observed::ObservedObject;

fn owner() -> Owner {
    Owner { installation: "mesh".into(), uid: "u-1".into(), release: semver::Version::new(1, 31, 2) }
}

fn desired(kind: &str, api_version: &str, name: &str) -> Arc<DesiredObject> {
    let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "data": {"a": "1"}});
    Arc::new(DesiredObject::from_rendered(object, &Component::Istiod, &owner(), "istio-system").unwrap())
}

fn live_of(desired: &DesiredObject, edit: impl FnOnce(&mut Value)) -> (ObjectKey, ObservedObject) {
    let mut object = desired.value();
    object["metadata"]["uid"] = "live".into();
    object["metadata"]["resourceVersion"] = "7".into();
    edit(&mut object);
    (desired.key.clone(), ObservedObject::of(desired.key.kind, &object, Some(desired), None))
}

fn make(desired: &[Arc<DesiredObject>], live: Vec<(ObjectKey, ObservedObject)>) -> Plan<Prepared> {
    adopting(desired, live, Adoption::Refuse)
}

fn adopting(
    desired: &[Arc<DesiredObject>],
    live: Vec<(ObjectKey, ObservedObject)>,
    adoption: Adoption,
) -> Plan<Prepared> {
    let existing = ["u-1".to_owned(), "u-2".to_owned()].into();
    plan(desired, &live.into_iter().collect(), &owner(), &existing, true, adoption)
}

#[test]
fn leaves_matching_object_unchanged() {
    let map = desired("ConfigMap", "v1", "istio");
    let live = live_of(&map, |_| ());
    assert!(make(&[map], vec![live]).is_settled());
}

#[test]
fn creates_missing_and_updates_edited_objects() {
    let (a, b) = (desired("ConfigMap", "v1", "a"), desired("ConfigMap", "v1", "b"));
    let live = live_of(&b, |o| o["data"]["a"] = "2".into());
    let plan = make(&[a, b], vec![live]);
    assert_eq!(plan.steps[0].action, PlanAction::Create);
    assert!(matches!(plan.steps[1].action, PlanAction::Update(_)), "{:?}", plan.steps[1]);
}

#[test]
fn removes_added_key() {
    let map = desired("ConfigMap", "v1", "a");
    let live = live_of(&map, |o| o["data"]["b"] = "2".into());
    assert!(matches!(make(&[map], vec![live]).steps[0].action, PlanAction::RemoveExtras(_)));
}

#[test]
fn unmanaged_object_is_a_conflict() {
    let map = desired("ConfigMap", "v1", "istio");
    let live = live_of(&map, |o| o["metadata"] = json!({"name": "istio"}));
    let plan = make(&[Arc::clone(&map)], vec![live]);
    assert_eq!(plan.conflicts, [PlanConflict::Unmanaged { key: map.key.clone(), installation: None }]);
}

#[test]
fn adopts_only_as_the_adoption_policy_allows() {
    let map = desired("ConfigMap", "v1", "istio");
    let found = |text: &str| {
        live_of(&map, |o| {
            o["metadata"] = json!({"name": "istio", "namespace": "istio-system"});
            o["data"]["a"] = text.into();
        })
    };
    let all = [Arc::clone(&map)];
    let same = adopting(&all, vec![found("1")], Adoption::Adopt);
    assert_eq!((same.conflicts, same.steps[0].action.clone()), (vec![], PlanAction::Adopt(vec![])));
    let (key, terminating) = found("1");
    let terminating = vec![(key, ObservedObject { deleting: true, ..terminating })];
    assert!(matches!(
        adopting(&all, terminating, Adoption::Adopt).conflicts.as_slice(),
        [PlanConflict::Unmanaged { .. }]
    ));
    let other = adopting(&all, vec![found("2")], Adoption::Adopt);
    assert!(
        matches!(other.conflicts.as_slice(), [PlanConflict::Adoption { changes, .. }] if changes[0].path == "data.a"),
        "{:?}",
        other.conflicts
    );
    let overwritten = adopting(&all, vec![found("2")], Adoption::Overwrite);
    assert_eq!(overwritten.conflicts, []);
    assert!(matches!(&overwritten.steps[0].action, PlanAction::Overwrite(changes) if changes[0].path == "data.a"));
    let owned_by_other =
        live_of(&map, |o| o["metadata"]["annotations"]["meshwright.dev/installation-uid"] = "u-2".into());
    assert!(matches!(
        adopting(&all, vec![owned_by_other], Adoption::Overwrite).conflicts.as_slice(),
        [PlanConflict::Unmanaged { .. }]
    ));
}

#[test]
fn adoption_creates_nothing_beside_adopted_workload() {
    let object = |kind: &str, api_version: &str, name: &str, component: &str| {
        let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}});
        let component = Component::Gateway(component.into());
        Arc::new(DesiredObject::from_rendered(object, &component, &owner(), "istio-system").unwrap())
    };
    let (pods, service) = (object("Deployment", "apps/v1", "edge", "edge"), object("Service", "v1", "edge", "edge"));
    let new = [object("Deployment", "apps/v1", "new", "new"), object("Service", "v1", "new", "new")];
    let found = || live_of(&pods, |o| o["metadata"] = json!({"name": "edge", "namespace": "istio-system"}));
    let all = [&[Arc::clone(&pods), Arc::clone(&service)][..], &new].concat();
    let conflicts = |adoption: Adoption| adopting(&all, vec![found()], adoption).conflicts;
    assert_eq!(conflicts(Adoption::Adopt), [PlanConflict::Creation(service.key.clone())], "new gateways are created");
    assert_eq!(conflicts(Adoption::Overwrite), []);
    let owned = live_of(&pods, |_| ());
    assert_eq!(adopting(&all, vec![owned], Adoption::Adopt).conflicts, [], "after the adoption");
}

#[test]
fn never_adopts_workload_of_another_release() {
    let istiod = desired("Deployment", "apps/v1", "istiod");
    let found = |version: &str| {
        live_of(&istiod, |o| {
            o["metadata"] = json!({"name": "istiod", "labels": {"app.kubernetes.io/version": version}});
        })
    };
    for adoption in [Adoption::Adopt, Adoption::Overwrite] {
        let all = [Arc::clone(&istiod)];
        assert_eq!(adopting(&all, vec![found("1.31.2")], adoption).conflicts, []);
        let conflicts = adopting(&all, vec![found("1.30.9")], adoption).conflicts;
        assert!(matches!(conflicts.as_slice(), [PlanConflict::Release { .. }]), "{conflicts:?}");
    }
}

#[test]
fn never_adopts_workload_with_another_selector() {
    for kind in ["Deployment", "DaemonSet"] {
        let selector = |istio: &str| json!({"matchLabels": {"app": "edge", "istio": istio}});
        let object = json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "edge"},
            "spec": {"minReadySeconds": 5, "selector": selector("edge")}});
        let edge = Arc::new(
            DesiredObject::from_rendered(object, &Component::Gateway("edge".into()), &owner(), "istio-system").unwrap(),
        );
        let refused = |selector: Value, adoption: Adoption| {
            let found = live_of(&edge, |o| {
                o["metadata"] = json!({"name": "edge"});
                o["spec"] = json!({"minReadySeconds": 9, "selector": selector});
            });
            adopting(&[Arc::clone(&edge)], vec![found], adoption).conflicts
        };
        assert_eq!(refused(selector("edge"), Adoption::Overwrite), []);
        for adoption in [Adoption::Adopt, Adoption::Overwrite] {
            let conflicts = refused(selector("foo"), adoption);
            let [PlanConflict::Selector { changes, .. }] = conflicts.as_slice() else { panic!("{conflicts:?}") };
            let selector_changes: Vec<_> =
                changes.iter().map(|c| (c.path.as_str(), c.old.clone(), c.new.clone())).collect();
            assert_eq!(
                selector_changes,
                [("spec.selector.matchLabels.istio", Some(json!("foo")), Some(json!("edge")))]
            );
            let more = json!({"matchLabels": {"app": "edge", "istio": "edge", "team": "a"}});
            let conflicts = refused(more, adoption);
            assert!(matches!(conflicts.as_slice(), [PlanConflict::Selector { .. }]), "{conflicts:?}");
        }
    }
}

#[test]
fn takes_over_objects_of_deleted_installations_only() {
    let map = desired("ConfigMap", "v1", "istio");
    let with_uid = |uid: &str| {
        live_of(&map, |o| {
            o["metadata"]["labels"]["meshwright.dev/installation"] = "other".into();
            o["metadata"]["annotations"]["meshwright.dev/installation-uid"] = uid.into();
        })
    };
    assert_eq!(make(&[Arc::clone(&map)], vec![with_uid("u-2")]).conflicts.len(), 1);
    let plan = make(&[Arc::clone(&map)], vec![with_uid("gone")]);
    assert_eq!(plan.conflicts, []);
    assert!(matches!(plan.steps[0].action, PlanAction::Update(_)));
}

#[test]
fn prunes_own_objects_that_are_not_desired() {
    let unwanted = live_of(&desired("ConfigMap", "v1", "old"), |_| ());
    let crd = live_of(&desired("CustomResourceDefinition", "apiextensions.k8s.io/v1", "x.istio.io"), |_| ());
    let stale = live_of(&desired("ConfigMap", "v1", "foreign"), |o| {
        o["metadata"]["annotations"]["meshwright.dev/installation-uid"] = "u-2".into();
    });
    let plan = make(&[], vec![unwanted.clone(), crd, stale]);
    assert_eq!(plan.prune, [Removal::of(&unwanted.0, &unwanted.1)]);
}

#[test]
fn waits_for_terminating_objects_before_pruning_more() {
    let gateway = |api_version: &str, kind: &str| {
        let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "edge"}});
        DesiredObject::from_rendered(object, &Component::Gateway("edge".into()), &owner(), "istio-system").unwrap()
    };
    let (service, pods) = (gateway("v1", "Service"), gateway("apps/v1", "Deployment"));
    let all = vec![live_of(&service, |_| ()), live_of(&pods, |_| ())];
    assert_eq!(make(&[], all).prune.iter().map(|r| &r.key).collect::<Vec<_>>(), [&service.key]);
    let service_terminating = live_of(&service, |o| o["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into());
    let plan = make(&[], vec![service_terminating, live_of(&pods, |_| ())]);
    assert_eq!((plan.prune.len(), plan.terminating.clone()), (0, vec![service.key]));
    assert!(!plan.is_settled());
    assert_eq!(make(&[], vec![live_of(&pods, |_| ())]).prune[0].key, pods.key);
}

#[test]
fn deletes_service_with_needed_node_port_first() {
    let service = |name: &str, port: i32| {
        let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"ports": [{"name": "http2", "port": 80, "nodePort": port}]}});
        Arc::new(DesiredObject::from_rendered(object, &Component::Gateway(name.into()), &owner(), "edge").unwrap())
    };
    let (renamed, other) = (service("old", 30401), service("gone", 30409));
    let plan = make(&[service("new", 30401)], vec![live_of(&renamed, |_| ()), live_of(&other, |_| ())]);
    let removal = |desired: &DesiredObject| Removal::of(&desired.key, &live_of(desired, |_| ()).1);
    assert_eq!(plan.delete_first, [removal(&renamed)]);
    assert_eq!(plan.prune, [removal(&other)]);
}

#[test]
fn removes_ztunnel_then_cni_then_service_accounts() {
    let of = |kind, api_version, name: &str, component: &Component| {
        let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}});
        live_of(&DesiredObject::from_rendered(object, component, &owner(), "istio-system").unwrap(), |_| ())
    };
    let mut remaining = vec![
        of("ServiceAccount", "v1", "istio-cni", &Component::Cni),
        of("DaemonSet", "apps/v1", "istio-cni-node", &Component::Cni),
        of("ServiceAccount", "v1", "ztunnel", &Component::Ztunnel),
        of("DaemonSet", "apps/v1", "ztunnel", &Component::Ztunnel),
    ];
    let mut order: Vec<String> = Vec::new();
    while !remaining.is_empty() {
        let plan = make(&[], remaining.clone());
        let pods = remaining.iter().filter(|(key, _)| key.kind == Kind::DaemonSet).count();
        assert_eq!(plan.daemon_sets_terminating.len(), pods);
        order.extend(plan.prune.iter().map(|removal| format!("{} {}", removal.key.kind, removal.key.name)));
        remaining.retain(|(key, _)| plan.prune.iter().all(|removal| removal.key != *key));
    }
    let expected =
        ["DaemonSet ztunnel", "DaemonSet istio-cni-node", "ServiceAccount istio-cni", "ServiceAccount ztunnel"];
    assert_eq!(order, expected);
}

#[test]
fn never_downgrades_crd() {
    let crd = desired("CustomResourceDefinition", "apiextensions.k8s.io/v1", "x.istio.io");
    let live = live_of(&crd, |o| o["metadata"]["annotations"] = json!({"meshwright.dev/release": "1.32.0"}));
    assert_eq!(make(&[crd], vec![live]).steps[0].action, PlanAction::Unchanged);
}

#[test]
fn adopts_unmanaged_crd_unless_newer() {
    let schema = |fields: &[&str]| -> Value {
        let properties: serde_json::Map<String, Value> =
            fields.iter().map(|field| ((*field).to_owned(), json!({"type": "string"}))).collect();
        let schema = json!({"openAPIV3Schema": {"type": "object", "properties": properties}});
        json!({"versions": [{"name": "v1", "served": true, "schema": schema}]})
    };
    let object = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "x.istio.io"}, "spec": schema(&["a"])});
    let crd = Arc::new(DesiredObject::from_rendered(object, &Component::Base, &owner(), "istio-system").unwrap());
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
            assert_eq!(plan.conflicts, [], "CRDs are shared");
            plan.steps[0].action == PlanAction::Unchanged
        };
        assert!(kept(&of("1.32.0"), &["a", "b"]) && !kept(&of("1.31.2"), &["a"]) && !kept(&of("1.30.0"), &[]));
        // CRDs that kubectl created from Istio's file have no release label.
        let unlabelled = json!({"chart": "istio", "release": "istio"});
        assert!(kept(&unlabelled, &["a", "b"]) && !kept(&unlabelled, &["a"]) && !kept(&unlabelled, &["b"]));
    }
}

#[test]
fn terminating_namespace_is_a_conflict() {
    let namespace = desired("Namespace", "v1", "istio-system");
    let live = live_of(&namespace, |o| o["status"] = json!({"phase": "Terminating"}));
    assert_eq!(make(&[namespace], vec![live]).conflicts, [PlanConflict::NamespaceTerminating("istio-system".into())]);
}
