//! Which writes of a plan are sent, and the message for rejections.

use meshwright_api::Adoption;
use meshwright_api::conditions::Reason;
use serde_json::json;

use super::*;
use crate::mesh::object::Owner;
use crate::mesh::observed::ObservedObject;
use crate::mesh::plan::plan;

fn owner() -> Owner {
    Owner { installation: "mesh".into(), uid: "u-1".into(), release: Version::new(1, 31, 2) }
}

fn of_component(component: &Component, object: &Value) -> Arc<DesiredObject> {
    Arc::new(DesiredObject::from_rendered(object.clone(), component, &owner(), "istio-system").unwrap())
}

fn object(api_version: &str, kind: &str, name: &str) -> Arc<DesiredObject> {
    let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "data": {"a": "1"}});
    of_component(&Component::Istiod, &object)
}

fn live(desired: &DesiredObject, edit: impl FnOnce(&mut Value)) -> (ObjectKey, ObservedObject) {
    let mut object = desired.value();
    object["metadata"]["uid"] = "live".into();
    edit(&mut object);
    (desired.key.clone(), ObservedObject::of(desired.key.kind, &object, Some(desired), None))
}

fn select(
    desired: &[Arc<DesiredObject>],
    live: Vec<(ObjectKey, ObservedObject)>,
    adoption: Adoption,
) -> DryRunSelection {
    let live = live.into_iter().collect();
    let prepared = plan(desired, &live, &owner(), &["u-1".to_owned()].into(), true, adoption);
    DryRunSelection::of(&prepared, &live)
}

fn names(selection: &DryRunSelection) -> Vec<(&str, bool)> {
    selection.requests.iter().map(|request| (request.desired.key.name.as_str(), request.exists)).collect()
}

fn not_checked(selection: &DryRunSelection) -> Vec<(String, usize)> {
    selection.not_checked.iter().map(|(key, objects)| (key.to_string(), *objects)).collect()
}

#[test]
fn sends_changed_objects_but_not_drift() {
    let all = ["changed", "drifted", "new"].map(|name| object("v1", "ConfigMap", name));
    let older = live(&all[0], |object| object["metadata"]["annotations"]["meshwright.dev/desired-hash"] = "0".into());
    let drifted = live(&all[1], |object| object["data"]["a"] = "2".into());
    let found = select(&all, vec![older, drifted], Adoption::Refuse);
    assert_eq!(names(&found), [("changed", true), ("new", false)]);
    assert!(found.not_checked.is_empty());
}

#[test]
fn omits_add_ons_and_adopted_objects() {
    let map = object("v1", "ConfigMap", "adopted");
    let unmanaged = live(&map, |object| object["metadata"] = json!({"name": "adopted", "uid": "live"}));
    let add_on = of_component(
        &Component::AddOn("prometheus".into()),
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "prometheus"}}),
    );
    let found = select(&[map, add_on], vec![unmanaged], Adoption::Adopt);
    assert_eq!(found, DryRunSelection::default());
}

#[test]
fn waits_for_new_namespaces() {
    let namespace = object("v1", "Namespace", "istio-system");
    let desired = [object("v1", "ConfigMap", "istio"), object("v1", "Service", "istiod"), namespace.clone()];
    let found = select(&desired, vec![], Adoption::Refuse);
    assert_eq!(names(&found), [("istio-system", false)]);
    assert_eq!(not_checked(&found), [("Namespace istio-system".to_owned(), 2)]);
    let present = select(&desired, vec![live(&namespace, |_| ())], Adoption::Refuse);
    assert_eq!(names(&present), [("istio", false), ("istiod", false)]);
    // A namespace that a peer or an administrator creates is not part of the plan.
    assert_eq!(names(&select(&desired[..1], vec![], Adoption::Refuse)), [("istio", false)]);
}

#[test]
fn waits_for_deletion_of_namespaces() {
    let namespace = object("v1", "Namespace", "istio-system");
    let terminating = live(&namespace, |object| object["status"]["phase"] = "Terminating".into());
    let found = select(&[object("v1", "ConfigMap", "istio"), namespace], vec![terminating], Adoption::Refuse);
    assert_eq!((names(&found), not_checked(&found).len()), (vec![], 1));
}

#[test]
fn waits_for_crds_to_be_established() {
    let crd =
        object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "network-attachment-definitions.k8s.cni.cncf.io");
    let custom = object("k8s.cni.cncf.io/v1", "NetworkAttachmentDefinition", "istio-cni");
    let found = select(&[crd.clone(), custom.clone()], vec![live(&crd, |_| ())], Adoption::Refuse);
    assert_eq!((names(&found), not_checked(&found).len()), (vec![], 1));
    let established = live(&crd, |object| {
        object["status"]["conditions"] = json!([{"type": "Established", "status": "True"}]);
    });
    assert_eq!(names(&select(&[crd, custom.clone()], vec![established], Adoption::Refuse)), [("istio-cni", false)]);
    assert_eq!(names(&select(&[custom], vec![], Adoption::Refuse)), [("istio-cni", false)]);
}

#[test]
fn waits_for_roles_of_bindings() {
    let binding = |kind: &str, role: &str| {
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": "istiod"});
        let object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
            "metadata": {"name": format!("{kind}-of-istiod")}, "roleRef": role});
        of_component(&Component::Istiod, &object)
    };
    let role = object("rbac.authorization.k8s.io/v1", "ClusterRole", "istiod");
    let all = [
        role.clone(),
        binding("ClusterRoleBinding", "ClusterRole"),
        binding("RoleBinding", "ClusterRole"),
        binding("RoleBinding", "Role"),
    ];
    let found = select(&all[..3], vec![], Adoption::Refuse);
    assert_eq!((names(&found), not_checked(&found)), (vec![("istiod", false)], vec![("ClusterRole istiod".into(), 2)]));
    let present = select(&all[..2], vec![live(&role, |_| ())], Adoption::Refuse);
    assert_eq!(names(&present), [("ClusterRoleBinding-of-istiod", false)]);
    assert_eq!(names(&select(&all[3..], vec![], Adoption::Refuse)), [("RoleBinding-of-istiod", false)]);
}

#[test]
fn message_quotes_first_rejections() {
    let rejection = |n: usize, class| DryRunRejection {
        key: object("v1", "ConfigMap", &format!("m{n}")).key.clone(),
        class,
        message: format!("applying m{n} failed"),
    };
    let version = Version::new(1, 31, 2);
    assert_eq!(blocker(&version, &[]), None);
    let one = blocker(&version, &[rejection(1, ErrorClass::Forbidden)]).unwrap();
    let expected = "a dry run of 1.31.2 was rejected. Nothing was written: applying m1 failed";
    assert_eq!((one.reason, one.message.as_str()), (Reason::Forbidden, expected));
    let five: Vec<_> = (1..=5).map(|n| rejection(n, ErrorClass::Invalid)).collect();
    let many = blocker(&version, &five).unwrap();
    assert_eq!(many.reason, Reason::ObjectRejected);
    assert!(many.message.ends_with("applying m3 failed (and 2 more)"), "{}", many.message);
}
