//! A cache of all live objects with our ownership labels, updated by watches and by the responses to our own requests.
//!
//! Events and responses arrive in any order. Resource versions decide which is later, also across objects of one name:
//! those of a kind form one sequence. A response without a version (404) counts only if the cache has not changed since
//! the request.

mod owned;

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
use crate::mesh::observed::{Drift, ObjectState, ObservedObject, ObservedObjects, resource_version};
use crate::mesh::owned_objects::OwnedObjects;
use crate::mesh::tags::Injector;

/// How long an object that a read did not find counts as absent, so that the reconciles of an installation do not read
/// it each time. If the object was created since, our create fails and ends the period.
const ABSENCE_TTL: Duration = Duration::from_secs(15);

/// The state of an object that the cache had when a request was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedVersion(Option<(String, u64)>);

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
    /// The latest version of each kind that a watch has reported.
    latest: BTreeMap<Kind, u64>,
    /// Times at which reads found no object.
    absent: HashMap<ObjectKey, Instant>,
    /// The objects of each installation that has been reconciled.
    owned: HashMap<String, OwnedObjects>,
    /// When an event of a look-alike last triggered a reconcile of an installation.
    lookalike_events: HashMap<String, Instant>,
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

    /// Stores a response, unless the cache has a later state of that object, which is returned, or a watch has reported
    /// since that the object was deleted or lost our label.
    fn merge(&mut self, key: ObjectKey, live: ObservedObject) -> Option<&mut ObservedObject> {
        let latest = self.latest.get(&key.kind).copied().unwrap_or_default();
        let is_outlived = live.is_watched() && live.resource_version != 0 && live.resource_version <= latest;
        match self.live.entry(key) {
            Entry::Occupied(known) if known.get().is_later_than(&live) => Some(known.into_mut()),
            Entry::Vacant(_) if is_outlived => None,
            entry => {
                self.absent.remove(entry.key());
                entry.insert_entry(live);
                None
            }
        }
    }

    fn version(&self, key: &ObjectKey) -> CachedVersion {
        CachedVersion(self.live.get(key).map(|live| (live.uid.clone(), live.resource_version)))
    }

    fn note_event(&mut self, kind: Kind, version: u64) {
        let latest = self.latest.entry(kind).or_default();
        *latest = version.max(*latest);
    }
}

impl Inventory {
    fn lock(&self) -> MutexGuard<'_, InventoryState> {
        // Every change is a single insertion or removal, so a panic leaves the state consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores an object that a watch has reported as changed. Returns the installation to reconcile if a relevant part
    /// has changed.
    #[must_use]
    pub fn observe(&self, key: ObjectKey, object: &Value) -> Option<String> {
        self.lock().note_event(key.kind, resource_version(object));
        self.observe_listed(key, object)
    }

    /// As [`Self::observe`], for an object of a watch's list, which is not in the order of versions.
    #[must_use]
    pub fn observe_listed(&self, key: ObjectKey, object: &Value) -> Option<String> {
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
        let installation = installation.filter(|_| matters).filter(|name| state.is_trigger(name, &key, &new.ownership));
        state.absent.remove(&key);
        state.live.insert(key, new);
        installation
    }

    /// Removes an object that was deleted or lost our label. Returns the installation to reconcile.
    #[must_use]
    pub fn forget(&self, key: &ObjectKey, last: &Value) -> Option<String> {
        let mut state = self.lock();
        state.note_event(key.kind, resource_version(last));
        let known = state.live.get(key)?;
        // The watch may report the deletion after the object was recreated.
        if known.outlives(last) {
            return None;
        }
        let removed = state.live.remove(key)?;
        let installation = removed.ownership.installation.clone();
        installation.filter(|name| state.is_trigger(name, key, &removed.ownership))
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

    /// The state of an object that the cache has now.
    #[must_use]
    pub fn version(&self, key: &ObjectKey) -> CachedVersion {
        self.lock().version(key)
    }

    /// Records that an object does not exist, unless the cache has got another state of it since the request.
    pub fn record_absent(&self, key: &ObjectKey, before: &CachedVersion) {
        let mut state = self.lock();
        if state.version(key) == *before {
            state.live.remove(key);
            state.absent.insert(key.clone(), Instant::now());
        }
    }

    /// Removes an object that a request found to be gone. One that has replaced it stays.
    pub fn evict(&self, key: &ObjectKey, uid: &str) {
        let mut state = self.lock();
        if state.live.get(key).is_some_and(|live| live.uid == uid) {
            state.live.remove(key);
        }
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

    /// The live objects among `keys`, and all that are the installation's own.
    #[must_use]
    pub fn snapshot(&self, installation: &str, keys: &[Arc<DesiredObject>]) -> ObservedObjects {
        let state = self.lock();
        let wanted: BTreeSet<&ObjectKey> = keys.iter().map(|d| &d.key).collect();
        state
            .live
            .iter()
            .filter(|(key, live)| wanted.contains(key) || state.owns(installation, key, live))
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
            .filter(|(key, live)| key.kind == Kind::Deployment && state.owns(installation, key, live))
            .map(|(key, _)| (key.namespace.clone().unwrap_or_default(), key.name.clone()))
            .collect()
    }

    /// The release of an installation's active control plane.
    #[must_use]
    pub fn active_release(&self, installation: &str) -> Option<Version> {
        let state = self.lock();
        let serves =
            |live: &ObservedObject| matches!(&live.state, ObjectState::Workload(workload) if workload.available > 0);
        let (_, istiod) = state.live.iter().find(|(key, live)| {
            live.ownership.component == Some(Component::Istiod) && serves(live) && state.owns(installation, key, live)
        })?;
        istiod.ownership.release.clone()
    }

    /// Injection webhooks of all installations.
    #[must_use]
    pub fn injectors(&self) -> Vec<Injector> {
        let state = self.lock();
        let own = |(key, live): (&ObjectKey, &ObservedObject)| {
            Injector::of(key, live).filter(|injector| state.owns(&injector.installation, key, live))
        };
        state.live.iter().filter_map(own).collect()
    }

    /// Names of installations that have any object.
    #[must_use]
    pub fn installations(&self) -> BTreeSet<String> {
        self.lock().live.values().filter_map(|live| live.ownership.installation.clone()).collect()
    }

    /// Records why a kind can't be watched.
    pub fn record_watch_error(&self, kind: Kind, error: &str) {
        self.lock().watch_errors.insert(kind, error.to_owned());
    }

    /// Counts a kind as unsynced until its next complete list; returns whether it was synced before.
    #[must_use]
    pub fn lose_sync(&self, kind: Kind, error: &str) -> bool {
        let mut state = self.lock();
        state.watch_errors.insert(kind, error.to_owned());
        state.synced.remove(&kind)
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
mod tests;
