//! Which of the cached objects belong to an installation, and which only look like that.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{Inventory, InventoryState};
use crate::mesh::object::ObjectKey;
use crate::mesh::observed::ObservedObject;
use crate::mesh::owned_objects::OwnedObjects;
use crate::mesh::ownership::OwnershipMeta;

/// Events of look-alikes trigger a reconcile at most this often. A later reconcile reports those that were missed.
const LOOKALIKE_INTERVAL: Duration = Duration::from_secs(10);

impl InventoryState {
    /// Whether an object has the installation's label and is its own. Before the first reconcile of an installation,
    /// the label decides.
    pub(super) fn owns(&self, installation: &str, key: &ObjectKey, live: &ObservedObject) -> bool {
        live.ownership.installation.as_deref() == Some(installation)
            && self.owned.get(installation).is_none_or(|owned| owned.contains(key, &live.ownership))
    }

    /// Whether a change of the object triggers a reconcile. Any user may change look-alikes as often as they like.
    pub(super) fn is_trigger(&mut self, installation: &str, key: &ObjectKey, ownership: &OwnershipMeta) -> bool {
        if self.owned.get(installation).is_none_or(|owned| owned.contains(key, ownership)) {
            return true;
        }
        let now = Instant::now();
        let last = self.lookalike_events.get(installation);
        let is_due = last.is_none_or(|last| now.duration_since(*last) >= LOOKALIKE_INTERVAL);
        if is_due {
            self.lookalike_events.insert(installation.to_owned(), now);
        }
        is_due
    }
}

impl Inventory {
    /// Sets which objects are an installation's own.
    pub fn own(&self, installation: &str, owned: OwnedObjects) {
        self.lock().owned.insert(installation.to_owned(), owned);
    }

    /// Adds the objects of a rendered revision to an installation's own.
    pub fn add_rendered(&self, installation: &str, keys: BTreeSet<ObjectKey>) {
        if let Some(owned) = self.lock().owned.get_mut(installation) {
            owned.add_rendered(keys);
        }
    }

    /// Which objects are an installation's own.
    #[must_use]
    pub fn owned(&self, installation: &str) -> OwnedObjects {
        self.lock().owned.get(installation).cloned().unwrap_or_default()
    }

    /// Drops the state of a deleted installation.
    pub fn disown(&self, installation: &str) {
        let mut state = self.lock();
        state.owned.remove(installation);
        state.lookalike_events.remove(installation);
    }

    /// Objects that have the installation's label but are not its own.
    #[must_use]
    pub fn lookalikes(&self, installation: &str) -> Vec<ObjectKey> {
        let state = self.lock();
        let labelled = state.live.iter().filter(|(_, live)| {
            // Nothing has to be done about one that is being deleted.
            live.ownership.installation.as_deref() == Some(installation) && !live.deleting
        });
        labelled.filter(|(key, live)| !state.owns(installation, key, live)).map(|(key, _)| key.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use meshwright_api::MeshInstallation;
    use serde_json::{Value, json};

    use super::*;
    use crate::mesh::kind::Kind;

    fn installation() -> MeshInstallation {
        let object = json!({"apiVersion": "meshwright.dev/v1alpha1", "kind": "MeshInstallation",
            "metadata": {"name": "mesh", "uid": "u"}, "spec": {"version": "1.31.2"}});
        serde_json::from_value(object).unwrap()
    }

    fn key(kind: Kind, namespace: &str) -> ObjectKey {
        ObjectKey { kind, namespace: Some(namespace.into()), name: "istio".into() }
    }

    fn object(version: &str, data: &str) -> Value {
        json!({"metadata": {
            "name": "istio", "uid": "live", "resourceVersion": version,
            "labels": {"meshwright.dev/installation": "mesh", "meshwright.dev/component": "istiod"},
            "annotations": {"meshwright.dev/installation-uid": "u"},
        }, "data": {"a": data}})
    }

    /// An inventory in which only the objects in istio-system are the installation's own.
    fn inventory(kind: Kind) -> Inventory {
        let inventory = Inventory::default();
        let mut owned = OwnedObjects::of(&installation(), &[]);
        owned.add_rendered([key(kind, "istio-system")].into());
        inventory.own("mesh", owned);
        inventory
    }

    #[test]
    fn lookalike_is_reported_and_not_in_snapshots() {
        let inventory = inventory(Kind::Deployment);
        let (own, copy) = (key(Kind::Deployment, "istio-system"), key(Kind::Deployment, "tenant"));
        for key in [&own, &copy] {
            assert!(inventory.observe(key.clone(), &object("1", "")).is_some());
        }
        assert_eq!(inventory.snapshot("mesh", &[]).into_keys().collect::<Vec<_>>(), [own]);
        assert_eq!(inventory.workload_names("mesh"), [("istio-system".to_owned(), "istio".to_owned())]);
        assert_eq!(inventory.lookalikes("mesh"), std::slice::from_ref(&copy));
        assert_eq!(inventory.lookalikes("other"), []);
        inventory.disown("mesh");
        assert_eq!(inventory.owned("mesh"), OwnedObjects::default());
    }

    #[test]
    fn changes_of_lookalike_do_not_trigger_each_time() {
        let inventory = inventory(Kind::ConfigMap);
        let (own, copy) = (key(Kind::ConfigMap, "istio-system"), key(Kind::ConfigMap, "tenant"));
        for (version, is_trigger) in [("1", true), ("2", false), ("3", false)] {
            let changed = object(version, version);
            assert_eq!(inventory.observe(copy.clone(), &changed).is_some(), is_trigger, "{version}");
            assert!(inventory.observe(own.clone(), &changed).is_some(), "{version}");
        }
        assert_eq!(inventory.forget(&copy, &object("4", "")), None);
        assert_eq!(inventory.forget(&own, &object("4", "")).as_deref(), Some("mesh"));
    }
}
