//! A cache of all live objects with our ownership labels, updated by watches and by the responses to our own writes.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use semver::Version;
use serde_json::Value;
use tokio::sync::Notify;

use crate::mesh::drift::fingerprint;
use crate::mesh::effective::effective;
use crate::mesh::kind::Kind;
use crate::mesh::object::{Component, DesiredObject, ObjectKey};
use crate::mesh::observed::{Drift, ObjectState, ObservedObject, ObservedObjects};
use crate::mesh::tags::Injector;

/// How long an object that a read did not find counts as absent, so that the reconciles of an installation do not read
/// it each time. If the object was created since, our create fails and ends the period.
const ABSENCE_TTL: Duration = Duration::from_secs(5);

/// The cache that watches fill and reconciles read. Clones share it.
#[derive(Clone, Default)]
pub struct Inventory {
    state: Arc<Mutex<InventoryState>>,
}

#[derive(Default)]
struct InventoryState {
    live: ObservedObjects,
    desired: HashMap<ObjectKey, Arc<DesiredObject>>,
    /// For each applied object the hash of the desired state, and the fingerprint of the API server's response.
    accepted: HashMap<ObjectKey, (String, String)>,
    /// Times at which reads found no object.
    absent: HashMap<ObjectKey, Instant>,
    watch_errors: BTreeMap<Kind, String>,
    synced: BTreeSet<Kind>,
    /// Notified when we write an object of a kind that not every API server serves.
    written: BTreeMap<Kind, Arc<Notify>>,
}

impl InventoryState {
    fn reduce(&self, key: &ObjectKey, object: &Value) -> ObservedObject {
        let desired = self.desired.get(key).map(Arc::as_ref);
        let accepted = match (self.accepted.get(key), desired) {
            (Some((hash, print)), Some(desired)) if *hash == desired.hash => Some(print.as_str()),
            _ => None,
        };
        ObservedObject::of(key.kind, object, desired, accepted)
    }

    /// Stores a response, unless a watch has observed a later state of that object, which is returned.
    fn merge(&mut self, key: ObjectKey, live: ObservedObject) -> Option<&mut ObservedObject> {
        self.absent.remove(&key);
        match self.live.entry(key) {
            Entry::Occupied(known) if known.get().is_later_than(&live) => Some(known.into_mut()),
            entry => {
                entry.insert_entry(live);
                None
            }
        }
    }
}

impl Inventory {
    fn lock(&self) -> MutexGuard<'_, InventoryState> {
        // Every change is a single insertion or removal, so a panic leaves the state consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores an object from a watch. Returns the installation to reconcile if a relevant part has changed.
    #[must_use]
    pub fn observe(&self, key: ObjectKey, object: &Value) -> Option<String> {
        let mut state = self.lock();
        let old = state.live.get(&key);
        // Each of our writes also arrives by the watch; skip these before the expensive comparison.
        if old.is_some_and(|old| old.is_at_least(object)) {
            return None;
        }
        let new = state.reduce(&key, object);
        // An installation whose label was removed from the object has to be reconciled, too.
        let installation =
            new.ownership.installation.clone().or_else(|| old.and_then(|old| old.ownership.installation.clone()));
        let matters = old.is_none_or(|old| {
            old.uid != new.uid
                || old.state != new.state
                || old.drift != new.drift
                || old.ownership != new.ownership
                || old.deleting != new.deleting
        });
        state.absent.remove(&key);
        state.live.insert(key, new);
        installation.filter(|_| matters)
    }

    /// Removes an object that was deleted or lost our label. Returns the installation to reconcile.
    #[must_use]
    pub fn forget(&self, key: &ObjectKey, last: &Value) -> Option<String> {
        let mut state = self.lock();
        let deleted = state.reduce(key, last);
        let known = state.live.get(key)?;
        // The watch may report the deletion after we have recreated the object.
        if known.uid != deleted.uid || known.is_later_than(&deleted) {
            return None;
        }
        state.live.remove(key).and_then(|live| live.ownership.installation)
    }

    /// Removes all objects of a kind that are not in the list of a restarted watch.
    #[must_use]
    pub fn retain(&self, kind: Kind, keys: &BTreeSet<ObjectKey>) -> Vec<String> {
        let mut state = self.lock();
        let mut affected = Vec::new();
        state.live.retain(|key, live| {
            let keep = key.kind != kind || keys.contains(key);
            if !keep {
                affected.extend(live.ownership.installation.clone());
            }
            keep
        });
        state.synced.insert(kind);
        state.watch_errors.remove(&kind);
        affected
    }

    /// Stores the response to our own apply: values that the API server defaulted or normalized are no drift.
    pub fn applied(&self, desired: &Arc<DesiredObject>, answer: &Value) {
        let mut state = self.lock();
        if !desired.key.kind.built_in() {
            state.written.entry(desired.key.kind).or_default().notify_one();
        }
        let print = fingerprint(&effective(desired.value(), answer), answer);
        state.accepted.insert(desired.key.clone(), (desired.hash.clone(), print));
        state.desired.insert(desired.key.clone(), Arc::clone(desired));
        let live = state.reduce(&desired.key, answer);
        if let Some(later) = state.merge(desired.key.clone(), live) {
            // It was compared with the previous desired state.
            later.drift = Drift::Unchecked;
        }
    }

    /// Waits until we have written an object of this kind, so that the API server serves it.
    pub async fn next_write(&self, kind: Kind) {
        let written = Arc::clone(self.lock().written.entry(kind).or_default());
        written.notified().await;
    }

    /// Stores an object that was read, since no watch has observed it or only before its desired state was known.
    pub fn read(&self, key: &ObjectKey, object: &Value) {
        let mut state = self.lock();
        let live = state.reduce(key, object);
        let _later = state.merge(key.clone(), live);
    }

    /// Updates a known object from the response to its deletion, to the removal of our labels or to another read. An
    /// object that has been removed from the cache since is not added again.
    pub fn refresh(&self, key: &ObjectKey, object: &Value) {
        let mut state = self.lock();
        if state.live.contains_key(key) {
            let live = state.reduce(key, object);
            let _later = state.merge(key.clone(), live);
        }
    }

    /// Records that an object does not exist.
    pub fn record_absent(&self, key: &ObjectKey) {
        let mut state = self.lock();
        state.live.remove(key);
        state.absent.insert(key.clone(), Instant::now());
    }

    /// Whether a recent read found no object.
    #[must_use]
    pub fn is_absent(&self, key: &ObjectKey) -> bool {
        self.lock().absent.get(key).is_some_and(|since| since.elapsed() < ABSENCE_TTL)
    }

    /// Drops the record that an object is absent, after a failed write: it may exist.
    pub fn invalidate(&self, key: &ObjectKey) {
        self.lock().absent.remove(key);
    }

    /// Sets the desired objects of an installation. Objects that were compared with another desired state become
    /// unchecked.
    pub fn expect(&self, installation: &str, desired: &[Arc<DesiredObject>]) {
        let mut state = self.lock();
        let wanted: BTreeMap<&ObjectKey, &Arc<DesiredObject>> = desired.iter().map(|d| (&d.key, d)).collect();
        let outdated: Vec<ObjectKey> = state
            .desired
            .keys()
            .filter(|key| {
                !wanted.contains_key(key)
                    && state.desired.get(key).is_some_and(|desired| desired.installation == installation)
            })
            .cloned()
            .collect();
        for key in outdated {
            state.desired.remove(&key);
            state.accepted.remove(&key);
            state.absent.remove(&key);
        }
        for desired in desired {
            let known = state
                .desired
                .get(&desired.key)
                .is_some_and(|old| old.hash == desired.hash && old.installation == desired.installation);
            if !known {
                state.desired.insert(desired.key.clone(), Arc::clone(desired));
                if let Some(live) = state.live.get_mut(&desired.key) {
                    live.drift = Drift::Unchecked;
                }
            }
        }
    }

    /// Whether the object is known to exist.
    #[must_use]
    pub fn knows(&self, key: &ObjectKey) -> bool {
        self.lock().live.contains_key(key)
    }

    /// The live objects among `keys`, and all with the installation's label.
    #[must_use]
    pub fn snapshot(&self, installation: &str, keys: &[Arc<DesiredObject>]) -> ObservedObjects {
        let state = self.lock();
        let wanted: BTreeSet<&ObjectKey> = keys.iter().map(|d| &d.key).collect();
        state
            .live
            .iter()
            .filter(|(key, live)| wanted.contains(key) || live.ownership.installation.as_deref() == Some(installation))
            .map(|(key, live)| (key.clone(), live.clone()))
            .collect()
    }

    /// Namespaces and names of an installation's Deployments.
    #[must_use]
    pub fn workload_names(&self, installation: &str) -> Vec<(String, String)> {
        let state = self.lock();
        state
            .live
            .iter()
            .filter(|(key, live)| {
                key.kind == Kind::Deployment && live.ownership.installation.as_deref() == Some(installation)
            })
            .map(|(key, _)| (key.namespace.clone().unwrap_or_default(), key.name.clone()))
            .collect()
    }

    /// The release of an installation's active control plane.
    #[must_use]
    pub fn active_release(&self, installation: &str) -> Option<Version> {
        let state = self.lock();
        let serves =
            |live: &ObservedObject| matches!(&live.state, ObjectState::Workload(workload) if workload.available > 0);
        let istiod = state.live.values().find(|live| {
            live.ownership.installation.as_deref() == Some(installation)
                && live.ownership.component == Some(Component::Istiod)
                && serves(live)
        })?;
        istiod.ownership.release.clone()
    }

    /// Injection webhooks of all installations.
    #[must_use]
    pub fn injectors(&self) -> Vec<Injector> {
        self.lock().live.iter().filter_map(|(key, live)| Injector::of(key, live)).collect()
    }

    /// Names of installations that have any object.
    #[must_use]
    pub fn installations(&self) -> BTreeSet<String> {
        self.lock().live.values().filter_map(|live| live.ownership.installation.clone()).collect()
    }

    /// Records why a kind can't be watched. Its objects count as unsynced if the API server `denied` to continue the
    /// watch; returns whether they were synced before.
    #[must_use]
    pub fn record_watch_error(&self, kind: Kind, error: &str, denied: bool) -> bool {
        let mut state = self.lock();
        state.watch_errors.insert(kind, error.to_owned());
        denied && state.synced.remove(&kind)
    }

    /// Kinds that are not listed yet or can't be watched, with the last error.
    #[must_use]
    pub fn unsynced(&self) -> Vec<(Kind, Option<String>)> {
        let state = self.lock();
        Kind::ALL
            .into_iter()
            .filter(|kind| !state.synced.contains(kind))
            .map(|kind| (kind, state.watch_errors.get(&kind).cloned()))
            .collect()
    }

    /// Number of live objects by kind.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Kind, usize> {
        let mut counts: BTreeMap<Kind, usize> = Kind::ALL.into_iter().map(|kind| (kind, 0)).collect();
        for key in self.lock().live.keys() {
            *counts.entry(key.kind).or_default() += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mesh::object::{Component, Owner};

    fn desired() -> Arc<DesiredObject> {
        let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 31, 2) };
        let object =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio"}, "data": {"a": "1"}});
        Arc::new(DesiredObject::from_rendered(object, &Component::Istiod, &owner, "istio-system").unwrap())
    }

    fn state(of: &DesiredObject, version: &str, data: &str) -> Value {
        let mut object = of.value();
        object["metadata"]["uid"] = "live".into();
        object["metadata"]["resourceVersion"] = version.into();
        object["data"]["a"] = data.into();
        object
    }

    fn drift(inventory: &Inventory, desired: &Arc<DesiredObject>) -> Drift {
        inventory.snapshot("mesh", std::slice::from_ref(desired))[&desired.key].drift.clone()
    }

    fn inventory(desired: &Arc<DesiredObject>) -> Inventory {
        let inventory = Inventory::default();
        inventory.expect("mesh", std::slice::from_ref(desired));
        inventory
    }

    #[test]
    fn older_read_does_not_replace_watched_edit() {
        let desired = desired();
        let inventory = inventory(&desired);
        assert!(inventory.observe(desired.key.clone(), &state(&desired, "9", "edited")).is_some());
        inventory.read(&desired.key, &state(&desired, "8", "1"));
        assert!(matches!(drift(&inventory, &desired), Drift::Fields(_)));
    }

    #[test]
    fn edit_during_our_write_is_checked_again() {
        let desired = desired();
        let inventory = inventory(&desired);
        assert!(inventory.observe(desired.key.clone(), &state(&desired, "9", "edited")).is_some());
        inventory.applied(&desired, &state(&desired, "8", "1"));
        assert_eq!(drift(&inventory, &desired), Drift::Unchecked);
    }

    #[test]
    fn outdated_watch_events_are_ignored() {
        let desired = desired();
        let inventory = inventory(&desired);
        inventory.read(&desired.key, &state(&desired, "8", "1"));
        assert_eq!(inventory.observe(desired.key.clone(), &state(&desired, "7", "edited")), None);
        assert_eq!(inventory.forget(&desired.key, &state(&desired, "7", "1")), None);
        assert_eq!(drift(&inventory, &desired), Drift::None);
        assert_eq!(inventory.forget(&desired.key, &state(&desired, "9", "1")).as_deref(), Some("mesh"));
        assert!(!inventory.knows(&desired.key));
    }

    #[test]
    fn deletion_response_is_recorded_and_final() {
        let desired = desired();
        let inventory = inventory(&desired);
        let mut terminating = state(&desired, "8", "1");
        terminating["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        inventory.read(&desired.key, &state(&desired, "7", "1"));
        inventory.refresh(&desired.key, &terminating);
        assert!(inventory.snapshot("mesh", &[])[&desired.key].deleting);
        let mut released = state(&desired, "8", "1");
        released["metadata"]["labels"] = json!({});
        inventory.refresh(&desired.key, &released);
        assert!(inventory.snapshot("mesh", &[]).is_empty(), "no installation owns it");
        let _installation = inventory.forget(&desired.key, &state(&desired, "9", "1"));
        inventory.refresh(&desired.key, &terminating);
        assert!(!inventory.knows(&desired.key), "the watch reported the deletion before the response");
    }

    #[test]
    fn absence_ends_when_write_fails() {
        let desired = desired();
        let inventory = inventory(&desired);
        assert!(!inventory.is_absent(&desired.key));
        inventory.record_absent(&desired.key);
        assert!(inventory.is_absent(&desired.key));
        inventory.invalidate(&desired.key);
        assert!(!inventory.is_absent(&desired.key));
        inventory.record_absent(&desired.key);
        inventory.read(&desired.key, &state(&desired, "7", "1"));
        assert!(!inventory.is_absent(&desired.key));
    }
}
