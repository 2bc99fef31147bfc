//! The way back: in which order an installation's objects go, from their marks alone, so that a broken spec or a
//! missing catalog never holds a deletion up.

use super::kind::Kind;
use super::live::{Live, LiveObjects};
use super::object::{Component, ObjectKey, Stage};

/// An object to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Which.
    pub key: ObjectKey,
    /// Only if it still is this very object.
    pub uid: String,
}

/// What is to be done with the objects that are left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Teardown {
    /// Delete these; what stands behind them comes later.
    Delete(Vec<Removal>),
    /// Wait until these are gone.
    Wait(Vec<ObjectKey>),
    /// Only these are left, which stay: take our marks off.
    Release(Vec<ObjectKey>),
    /// Nothing is left.
    Done,
}

/// The next step of an uninstall. Deletion goes one stage at a time, and a stage must be gone before the next: istiod
/// gives up its leases with the rights that it still has, and no node redirects traffic to a proxy that is gone.
#[must_use]
pub fn next(live: &LiveObjects, delete_definitions: bool) -> Teardown {
    let goes = |key: &ObjectKey| {
        key.kind != Kind::Namespace && (key.kind != Kind::CustomResourceDefinition || delete_definitions)
    };
    let last = live.iter().filter(|(key, _)| goes(key)).map(|(key, live)| turn(key, live)).max();
    let Some(last) = last else {
        return if live.is_empty() { Teardown::Done } else { Teardown::Release(live.keys().cloned().collect()) };
    };
    let due: Vec<(&ObjectKey, &Live)> =
        live.iter().filter(|(key, live)| goes(key) && turn(key, live) == last).collect();
    let open: Vec<Removal> = due
        .iter()
        .filter(|(_, live)| !live.deleting)
        .map(|(key, live)| Removal { key: (*key).clone(), uid: live.uid.clone() })
        .collect();
    if open.is_empty() {
        Teardown::Wait(due.into_iter().map(|(key, _)| key.clone()).collect())
    } else {
        Teardown::Delete(open)
    }
}

fn turn(key: &ObjectKey, live: &Live) -> u8 {
    Stage::of(key.kind, live.marks.component.as_ref().unwrap_or(&Component::Istiod)).removal_turn()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::mesh::object::{Desired, Owner};

    fn object(api_version: &str, kind: &str, component: &Component) -> (ObjectKey, Live) {
        named(api_version, kind, "x", component)
    }

    fn named(api_version: &str, kind: &str, name: &str, component: &Component) -> (ObjectKey, Live) {
        let owner = Owner { installation: "m".into(), uid: "u".into(), release: semver::Version::new(1, 31, 2) };
        let value = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "uid": "live"}});
        let desired = Arc::new(Desired::admit(value, component, &owner, "ns").unwrap());
        (desired.key.clone(), Live::of(desired.key.kind, &desired.value(), None, None))
    }

    fn all() -> LiveObjects {
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

    /// Follows the steps to the end; the kinds in the order in which they went.
    fn run(mut live: LiveObjects, definitions: bool) -> (Vec<ObjectKey>, Vec<Kind>) {
        let mut order = Vec::new();
        loop {
            match next(&live, definitions) {
                Teardown::Delete(removals) => {
                    for removal in removals {
                        live.remove(&removal.key);
                        order.push(removal.key);
                    }
                }
                Teardown::Wait(_) => panic!("nothing was being deleted"),
                Teardown::Release(keys) => return (order, keys.into_iter().map(|k| k.kind).collect()),
                Teardown::Done => return (order, vec![]),
            }
        }
    }

    #[test]
    fn gateways_go_first_then_webhooks_ztunnel_cni_the_control_plane_and_its_rights() {
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
    fn definitions_go_last_and_only_when_asked() {
        let (order, left) = run(all(), true);
        assert_eq!(order.last().map(|key| key.kind), Some(Kind::CustomResourceDefinition));
        assert_eq!(left, [Kind::Namespace]);
    }

    #[test]
    fn a_stage_waits_for_what_is_still_being_deleted() {
        let (key, mut live) = object("apps/v1", "Deployment", &Component::Istiod);
        live.deleting = true;
        let mut rest = all();
        rest.retain(|key, _| key.kind == Kind::ClusterRole);
        rest.insert(key.clone(), live);
        assert_eq!(next(&rest, false), Teardown::Wait(vec![key]));
    }
}
