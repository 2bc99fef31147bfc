//! The inventory: every live object that carries our mark, as the watches and our own writes last saw it.

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
use crate::mesh::live::{Drift, Facts, Live, LiveObjects};
use crate::mesh::object::{Component, Desired, ObjectKey};
use crate::mesh::tags::Injector;

/// An object that was read and wasn't there counts as absent for so long: an installation that takes a few turns need not
/// ask for each object at each turn. A create that meets one made meanwhile is refused, and ends it.
const ABSENT_FOR: Duration = Duration::from_secs(5);

/// Shared between the watches, which fill it, and reconciles, which read it. Cloning shares.
#[derive(Clone, Default)]
pub struct Inventory {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    live: LiveObjects,
    desired: HashMap<ObjectKey, Arc<Desired>>,
    /// What the server made of our last apply: hash of the desired state, and fingerprint of the answer.
    accepted: HashMap<ObjectKey, (String, String)>,
    /// When objects were read that weren't there.
    absent: HashMap<ObjectKey, Instant>,
    trouble: BTreeMap<Kind, String>,
    synced: BTreeSet<Kind>,
    /// Rung when we wrote an object of a kind that not every API server has.
    written: BTreeMap<Kind, Arc<Notify>>,
}

impl State {
    fn reduce(&self, key: &ObjectKey, object: &Value) -> Live {
        let desired = self.desired.get(key).map(Arc::as_ref);
        let accepted = match (self.accepted.get(key), desired) {
            (Some((hash, print)), Some(desired)) if *hash == desired.hash => Some(print.as_str()),
            _ => None,
        };
        Live::of(key.kind, object, desired, accepted)
    }

    /// Keeps an answer of the server, unless a watch has seen a later state of that object: that one is returned.
    fn take_in(&mut self, key: ObjectKey, live: Live) -> Option<&mut Live> {
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
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here is left half-done by a panic: each change is one insertion or removal.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in an object as a watch saw it. Returns the installation to reconcile, if anything that matters changed.
    #[must_use]
    pub fn observe(&self, key: ObjectKey, object: &Value) -> Option<String> {
        let mut state = self.lock();
        let old = state.live.get(&key);
        // First, since judging takes the desired object: every write of ours comes back by a watch.
        if old.is_some_and(|old| old.is_at_least(object)) {
            return None;
        }
        let new = state.reduce(&key, object);
        // The old mark counts too: whoever lost an object must hear of it.
        let installation =
            new.marks.installation.clone().or_else(|| old.and_then(|old| old.marks.installation.clone()));
        let matters = old.is_none_or(|old| {
            old.uid != new.uid
                || old.facts != new.facts
                || old.drift != new.drift
                || old.marks != new.marks
                || old.deleting != new.deleting
        });
        state.absent.remove(&key);
        state.live.insert(key, new);
        installation.filter(|_| matters)
    }

    /// Takes in that an object is gone, or no longer carries our mark. Returns the installation to reconcile.
    #[must_use]
    pub fn forget(&self, key: &ObjectKey, last: &Value) -> Option<String> {
        let mut state = self.lock();
        let gone = state.reduce(key, last);
        let known = state.live.get(key)?;
        // A watch may tell of an end after we have brought the object back already.
        if known.uid != gone.uid || known.is_later_than(&gone) {
            return None;
        }
        state.live.remove(key).and_then(|live| live.marks.installation)
    }

    /// Takes in the whole list of a kind after a watch began anew: what is not in it is gone.
    #[must_use]
    pub fn retain(&self, kind: Kind, keys: &BTreeSet<ObjectKey>) -> Vec<String> {
        let mut state = self.lock();
        let mut lost = Vec::new();
        state.live.retain(|key, live| {
            let keep = key.kind != kind || keys.contains(key);
            if !keep {
                lost.extend(live.marks.installation.clone());
            }
            keep
        });
        state.synced.insert(kind);
        state.trouble.remove(&kind);
        lost
    }

    /// Takes in an object as the server answered to our own apply: whatever it made of our words is no drift.
    pub fn applied(&self, desired: &Arc<Desired>, answer: &Value) {
        let mut state = self.lock();
        if !desired.key.kind.built_in() {
            state.written.entry(desired.key.kind).or_default().notify_one();
        }
        let print = fingerprint(&effective(desired.value(), answer), answer);
        state.accepted.insert(desired.key.clone(), (desired.hash.clone(), print));
        state.desired.insert(desired.key.clone(), Arc::clone(desired));
        let live = state.reduce(&desired.key, answer);
        if let Some(later) = state.take_in(desired.key.clone(), live) {
            // It was judged by what was desired before.
            later.drift = Drift::Unchecked;
        }
    }

    /// Ends when we have written an object of this kind: the API server has it by now.
    pub async fn next_write(&self, kind: Kind) {
        let written = Arc::clone(self.lock().written.entry(kind).or_default());
        written.notified().await;
    }

    /// Takes in an object that was read because the watches don't know it, or knew it before its desired state.
    pub fn read(&self, key: &ObjectKey, object: &Value) {
        let mut state = self.lock();
        let live = state.reduce(key, object);
        let _later = state.take_in(key.clone(), live);
    }

    /// Takes in an object that is known as the server answered to its deletion, when our marks were taken off it, or when it
    /// was read again. One that is gone by now stays so.
    pub fn seen_again(&self, key: &ObjectKey, object: &Value) {
        let mut state = self.lock();
        if state.live.contains_key(key) {
            let live = state.reduce(key, object);
            let _later = state.take_in(key.clone(), live);
        }
    }

    /// Takes in that an object which no watch tells of is not there.
    pub fn vanished(&self, key: &ObjectKey) {
        let mut state = self.lock();
        state.live.remove(key);
        state.absent.insert(key.clone(), Instant::now());
    }

    /// Whether the object was looked for a moment ago and wasn't there.
    #[must_use]
    pub fn is_absent(&self, key: &ObjectKey) -> bool {
        self.lock().absent.get(key).is_some_and(|since| since.elapsed() < ABSENT_FOR)
    }

    /// Takes in that a write of this object failed: it may be there after all.
    pub fn doubt(&self, key: &ObjectKey) {
        self.lock().absent.remove(key);
    }

    /// Sets what is desired of an installation. What was judged against another desired state is unchecked again.
    pub fn expect(&self, installation: &str, desired: &[Arc<Desired>]) {
        let mut state = self.lock();
        let wanted: BTreeMap<&ObjectKey, &Arc<Desired>> = desired.iter().map(|d| (&d.key, d)).collect();
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

    /// Whether the object is known to be there.
    #[must_use]
    pub fn knows(&self, key: &ObjectKey) -> bool {
        self.lock().live.contains_key(key)
    }

    /// The live objects among `keys`, and all that carry the installation's mark.
    #[must_use]
    pub fn snapshot(&self, installation: &str, keys: &[Arc<Desired>]) -> LiveObjects {
        let state = self.lock();
        let wanted: BTreeSet<&ObjectKey> = keys.iter().map(|d| &d.key).collect();
        state
            .live
            .iter()
            .filter(|(key, live)| wanted.contains(key) || live.marks.installation.as_deref() == Some(installation))
            .map(|(key, live)| (key.clone(), live.clone()))
            .collect()
    }

    /// Namespace and name of each Deployment of an installation.
    #[must_use]
    pub fn workload_names(&self, installation: &str) -> Vec<(String, String)> {
        let state = self.lock();
        state
            .live
            .iter()
            .filter(|(key, live)| {
                key.kind == Kind::Deployment && live.marks.installation.as_deref() == Some(installation)
            })
            .map(|(key, _)| (key.namespace.clone().unwrap_or_default(), key.name.clone()))
            .collect()
    }

    /// The release of the control plane that serves in an installation.
    #[must_use]
    pub fn serving_release(&self, installation: &str) -> Option<Version> {
        let state = self.lock();
        let serves = |live: &Live| matches!(&live.facts, Facts::Workload(workload) if workload.available > 0);
        let istiod = state.live.values().find(|live| {
            live.marks.installation.as_deref() == Some(installation)
                && live.marks.component == Some(Component::Istiod)
                && serves(live)
        })?;
        istiod.marks.release.clone()
    }

    /// The injection webhooks of all installations.
    #[must_use]
    pub fn injectors(&self) -> Vec<Injector> {
        self.lock().live.iter().filter_map(|(key, live)| Injector::of(key, live)).collect()
    }

    /// Names of the installations that have any object.
    #[must_use]
    pub fn installations(&self) -> BTreeSet<String> {
        self.lock().live.values().filter_map(|live| live.marks.installation.clone()).collect()
    }

    /// Notes that a kind can't be watched, and why. What is known of it counts no longer once the server `refused` to go
    /// on with a watch; answers whether it did count until now.
    #[must_use]
    pub fn note_trouble(&self, kind: Kind, error: &str, refused: bool) -> bool {
        let mut state = self.lock();
        state.trouble.insert(kind, error.to_owned());
        refused && state.synced.remove(&kind)
    }

    /// The kinds that were never listed yet or can't be watched, with the last error.
    #[must_use]
    pub fn unsynced(&self) -> Vec<(Kind, Option<String>)> {
        let state = self.lock();
        Kind::ALL
            .into_iter()
            .filter(|kind| !state.synced.contains(kind))
            .map(|kind| (kind, state.trouble.get(&kind).cloned()))
            .collect()
    }

    /// How many live objects of each kind are known.
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

    fn desired() -> Arc<Desired> {
        let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 31, 2) };
        let object =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio"}, "data": {"a": "1"}});
        Arc::new(Desired::admit(object, &Component::Istiod, &owner, "istio-system").unwrap())
    }

    fn state(of: &Desired, version: &str, data: &str) -> Value {
        let mut object = of.value();
        object["metadata"]["uid"] = "live".into();
        object["metadata"]["resourceVersion"] = version.into();
        object["data"]["a"] = data.into();
        object
    }

    fn drift(inventory: &Inventory, desired: &Arc<Desired>) -> Drift {
        inventory.snapshot("mesh", std::slice::from_ref(desired))[&desired.key].drift.clone()
    }

    fn inventory(desired: &Arc<Desired>) -> Inventory {
        let inventory = Inventory::default();
        inventory.expect("mesh", std::slice::from_ref(desired));
        inventory
    }

    #[test]
    fn an_edit_that_a_watch_saw_outlives_an_older_read() {
        let desired = desired();
        let inventory = inventory(&desired);
        assert!(inventory.observe(desired.key.clone(), &state(&desired, "9", "edited")).is_some());
        inventory.read(&desired.key, &state(&desired, "8", "1"));
        assert!(matches!(drift(&inventory, &desired), Drift::Fields(_)));
    }

    #[test]
    fn an_edit_that_a_watch_saw_before_the_answer_to_our_write_is_checked_again() {
        let desired = desired();
        let inventory = inventory(&desired);
        assert!(inventory.observe(desired.key.clone(), &state(&desired, "9", "edited")).is_some());
        inventory.applied(&desired, &state(&desired, "8", "1"));
        assert_eq!(drift(&inventory, &desired), Drift::Unchecked);
    }

    #[test]
    fn an_old_event_tells_nothing_new_and_ends_nothing() {
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
    fn what_leaves_is_known_to_from_the_answer_and_never_comes_back() {
        let desired = desired();
        let inventory = inventory(&desired);
        let mut ending = state(&desired, "8", "1");
        ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        inventory.read(&desired.key, &state(&desired, "7", "1"));
        inventory.seen_again(&desired.key, &ending);
        assert!(inventory.snapshot("mesh", &[])[&desired.key].deleting);
        let mut released = state(&desired, "8", "1");
        released["metadata"]["labels"] = json!({});
        inventory.seen_again(&desired.key, &released);
        assert!(inventory.snapshot("mesh", &[]).is_empty(), "it is nobody's any more");
        let _installation = inventory.forget(&desired.key, &state(&desired, "9", "1"));
        inventory.seen_again(&desired.key, &ending);
        assert!(!inventory.knows(&desired.key), "the watch has told of its end before we read the answer");
    }

    #[test]
    fn what_was_not_there_is_not_looked_for_again_until_a_write_of_it_fails() {
        let desired = desired();
        let inventory = inventory(&desired);
        assert!(!inventory.is_absent(&desired.key));
        inventory.vanished(&desired.key);
        assert!(inventory.is_absent(&desired.key));
        inventory.doubt(&desired.key);
        assert!(!inventory.is_absent(&desired.key));
        inventory.vanished(&desired.key);
        inventory.read(&desired.key, &state(&desired, "7", "1"));
        assert!(!inventory.is_absent(&desired.key));
    }
}
