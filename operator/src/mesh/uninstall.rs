//! Uninstall order, derived from ownership metadata alone, so that neither an invalid spec nor a missing catalog blocks
//! a deletion.

use super::kind::Kind;
use super::object::{Component, ObjectKey, Stage};
use super::observed::{ObservedObject, ObservedObjects};

/// An object to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Kind, namespace and name.
    pub key: ObjectKey,
    /// Precondition of the deletion.
    pub uid: String,
    /// The other precondition: the version that was decided on. 0 allows any.
    pub resource_version: u64,
}

impl Removal {
    /// The removal of an object in its present state.
    #[must_use]
    pub fn of(key: &ObjectKey, live: &ObservedObject) -> Self {
        Self { key: key.clone(), uid: live.uid.clone(), resource_version: live.resource_version }
    }
}

/// The next action of an uninstall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Teardown {
    /// Delete these objects; later stages follow when they are gone.
    Delete(Vec<Removal>),
    /// Wait until these objects are gone.
    Wait(Vec<ObjectKey>),
    /// Only objects that stay are left: remove the ownership metadata from them.
    Release(Vec<ObjectKey>),
    /// No object is left.
    Done,
}

/// The next step of an uninstall. Objects are deleted stage by stage, and a stage must be gone before the next begins:
/// istiod needs its RBAC to release its leases, and no node may redirect traffic to a deleted proxy.
#[must_use]
pub fn next(live: &ObservedObjects, delete_crds: bool) -> Teardown {
    let is_deletable =
        |key: &ObjectKey| key.kind != Kind::Namespace && (key.kind != Kind::CustomResourceDefinition || delete_crds);
    let current_stage =
        live.iter().filter(|(key, _)| is_deletable(key)).map(|(key, live)| removal_turn(key, live)).max();
    let Some(current_stage) = current_stage else {
        return if live.is_empty() { Teardown::Done } else { Teardown::Release(live.keys().cloned().collect()) };
    };
    let in_stage: Vec<(&ObjectKey, &ObservedObject)> =
        live.iter().filter(|(key, live)| is_deletable(key) && removal_turn(key, live) == current_stage).collect();
    let open: Vec<Removal> =
        in_stage.iter().filter(|(_, live)| !live.deleting).map(|(key, live)| Removal::of(key, live)).collect();
    if open.is_empty() {
        Teardown::Wait(in_stage.into_iter().map(|(key, _)| key.clone()).collect())
    } else {
        Teardown::Delete(open)
    }
}

fn removal_turn(key: &ObjectKey, live: &ObservedObject) -> u8 {
    Stage::of(key.kind, live.ownership.component.as_ref().unwrap_or(&Component::Istiod)).removal_order()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::mesh::object::{DesiredObject, Owner};

    fn object(api_version: &str, kind: &str, component: &Component) -> (ObjectKey, ObservedObject) {
        named(api_version, kind, "x", component)
    }

    fn named(api_version: &str, kind: &str, name: &str, component: &Component) -> (ObjectKey, ObservedObject) {
        let owner = Owner { installation: "m".into(), uid: "u".into(), release: semver::Version::new(1, 31, 2) };
        let value = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "uid": "live"}});
        let desired = Arc::new(DesiredObject::from_rendered(value, component, &owner, "ns").unwrap());
        (desired.key.clone(), ObservedObject::of(desired.key.kind, &desired.value(), None, None))
    }

    fn all() -> ObservedObjects {
        [
            object("v1", "Namespace", &Component::Namespaces),
            object("apiextensions.k8s.io/v1", "CustomResourceDefinition", &Component::Base),
            object("rbac.authorization.k8s.io/v1", "ClusterRole", &Component::Istiod),
            object("apps/v1", "Deployment", &Component::Istiod),
            object("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", &Component::Istiod),
            object("apps/v1", "DaemonSet", &Component::Cni),
            named("apps/v1", "DaemonSet", "ztunnel", &Component::Ztunnel),
            object("v1", "Service", &Component::Gateway("g".into())),
        ]
        .into_iter()
        .collect()
    }

    /// Runs all steps; returns the deleted objects in order, and the kinds that stay.
    fn run(mut live: ObservedObjects, delete_crds: bool) -> (Vec<ObjectKey>, Vec<Kind>) {
        let mut order = Vec::new();
        loop {
            match next(&live, delete_crds) {
                Teardown::Delete(removals) => {
                    for removal in removals {
                        live.remove(&removal.key);
                        order.push(removal.key);
                    }
                }
                Teardown::Wait(_) => panic!("no object is being deleted"),
                Teardown::Release(keys) => return (order, keys.into_iter().map(|k| k.kind).collect()),
                Teardown::Done => return (order, vec![]),
            }
        }
    }

    #[test]
    fn deletes_gateways_first_and_rbac_last() {
        let (order, left) = run(all(), false);
        let order: Vec<(Kind, &str)> = order.iter().map(|key| (key.kind, key.name.as_str())).collect();
        let expected = [
            (Kind::Service, "x"),
            (Kind::MutatingWebhookConfiguration, "x"),
            (Kind::DaemonSet, "ztunnel"),
            (Kind::DaemonSet, "x"),
            (Kind::Deployment, "x"),
            (Kind::ClusterRole, "x"),
        ];
        assert_eq!(order, expected);
        assert_eq!(left, [Kind::Namespace, Kind::CustomResourceDefinition]);
    }

    #[test]
    fn deletes_crds_last_and_only_if_requested() {
        let (order, left) = run(all(), true);
        assert_eq!(order.last().map(|key| key.kind), Some(Kind::CustomResourceDefinition));
        assert_eq!(left, [Kind::Namespace]);
    }

    #[test]
    fn stage_waits_for_objects_being_deleted() {
        let (key, mut live) = object("apps/v1", "Deployment", &Component::Istiod);
        live.deleting = true;
        let mut rest = all();
        rest.retain(|key, _| key.kind == Kind::ClusterRole);
        rest.insert(key.clone(), live);
        assert_eq!(next(&rest, false), Teardown::Wait(vec![key]));
    }
}
