use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::mesh::object::{Component, Owner, REPLACED_ANNOTATION};

fn desired() -> Arc<DesiredObject> {
    let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 31, 2) };
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio"}, "data": {"a": "1"}});
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
fn response_without_desired_fields_is_drift() {
    let desired = desired();
    let inventory = inventory(&desired);
    let response = |version: &str, replaced: bool| {
        let mut object = state(&desired, version, "1");
        object.as_object_mut().unwrap().remove("data");
        if replaced {
            object[REPLACED_ANNOTATION] = true.into();
        }
        object
    };
    inventory.applied(&desired, &response("8", false));
    assert_eq!(drift(&inventory, &desired), Drift::None, "the API server has normalized the object");
    inventory.applied(&desired, &response("9", true));
    assert!(matches!(drift(&inventory, &desired), Drift::Fields(_)), "the response is a stub");
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
    let record_absent = || inventory.record_absent(&desired.key, &inventory.version(&desired.key));
    assert!(!inventory.is_absent(&desired.key));
    record_absent();
    assert!(inventory.is_absent(&desired.key));
    inventory.invalidate(&desired.key);
    assert!(!inventory.is_absent(&desired.key));
    record_absent();
    inventory.read(&desired.key, &state(&desired, "7", "1"));
    assert!(!inventory.is_absent(&desired.key));
}

/// An object with our label.
fn labelled(of: &DesiredObject, uid: &str, version: &str) -> Value {
    let mut object = state(of, version, "1");
    object["metadata"]["uid"] = uid.into();
    object
}

fn cached(inventory: &Inventory, key: &ObjectKey) -> Option<(String, u64)> {
    inventory.version(key).0
}

#[test]
fn replaced_object_is_not_taken_for_old_one() {
    let desired = desired();
    let (key, inventory) = (&desired.key, inventory(&desired));
    let entry = |uid: &str, version: u64| Some((uid.to_owned(), version));
    let _ = inventory.observe(key.clone(), &labelled(&desired, "new", "9"));
    inventory.read(key, &labelled(&desired, "old", "8"));
    assert_eq!(cached(&inventory, key), entry("new", 9), "a response from before the replacement");
    assert_eq!(inventory.forget(key, &labelled(&desired, "old", "8")), None, "the deletion of the old object");
    inventory.evict(key, "old");
    assert_eq!(cached(&inventory, key), entry("new", 9));
    inventory.evict(key, "new");
    assert_eq!(cached(&inventory, key), None);
}

#[test]
fn late_response_does_not_revive_deleted_object() {
    let desired = desired();
    let (key, inventory) = (&desired.key, inventory(&desired));
    let _ = inventory.observe(key.clone(), &labelled(&desired, "a", "7"));
    let before = inventory.version(key);
    assert!(inventory.forget(key, &labelled(&desired, "a", "9")).is_some());
    inventory.read(key, &labelled(&desired, "a", "8"));
    inventory.applied(&desired, &labelled(&desired, "a", "8"));
    assert!(!inventory.knows(key));
    // Written after everything that the watch has reported so far.
    inventory.applied(&desired, &labelled(&desired, "b", "10"));
    inventory.record_absent(key, &before);
    assert!(inventory.knows(key) && !inventory.is_absent(key), "the read is older than the object");
    // A list is not in the order of versions.
    let other = ObjectKey { name: "other".into(), ..key.clone() };
    let _ = inventory.observe_listed(other, &labelled(&desired, "c", "30"));
    inventory.evict(key, "b");
    inventory.read(key, &labelled(&desired, "b", "20"));
    assert!(inventory.knows(key));
}

#[test]
fn unknown_versions_are_never_later() {
    let desired = desired();
    let (key, inventory) = (&desired.key, inventory(&desired));
    for version in ["opaque", "9"] {
        let _ = inventory.observe(key.clone(), &labelled(&desired, "a", version));
        let _ = inventory.observe(key.clone(), &state(&desired, "opaque", "edited"));
        assert!(matches!(drift(&inventory, &desired), Drift::Fields(_)), "the last event counts");
    }
    assert_eq!(inventory.forget(key, &labelled(&desired, "other", "opaque")), None);
    assert!(inventory.forget(key, &state(&desired, "opaque", "1")).is_some());
}

/// A step of a history of one object, as the API server executes it and as events and responses arrive.
#[derive(Clone, Copy, Debug)]
enum HistoryStep {
    /// Any client creates the object, or changes it.
    Write,
    Delete,
    /// The watch delivers the next event.
    Event,
    /// We send a request.
    Request(RequestKind),
    /// The response to one of our requests arrives.
    Response(usize),
}

#[derive(Clone, Copy, Debug)]
enum RequestKind {
    Read,
    Apply,
    Refresh,
    Delete,
}

/// What the API server has: the object with its UID and version.
type StoredObject = Option<(String, u64)>;

struct SimulatedServer {
    desired: Arc<DesiredObject>,
    inventory: Inventory,
    version: u64,
    live: StoredObject,
    /// States that the watch has not reported yet; for a deletion the last state.
    events: std::collections::VecDeque<(bool, Value)>,
    responses: Vec<(RequestKind, StoredObject, CachedVersion)>,
}

impl SimulatedServer {
    fn object(&self, live: &(String, u64)) -> Value {
        labelled(&self.desired, &live.0, &live.1.to_string())
    }

    fn step(&mut self, step: HistoryStep) {
        match step {
            HistoryStep::Write => {
                self.version += 1;
                let uid = self.live.as_ref().map_or_else(|| format!("uid-{}", self.version), |(uid, _)| uid.clone());
                let live = (uid, self.version);
                self.events.push_back((true, self.object(&live)));
                self.live = Some(live);
            }
            HistoryStep::Delete => {
                if let Some((uid, _)) = self.live.take() {
                    self.version += 1;
                    self.events.push_back((false, self.object(&(uid, self.version))));
                }
            }
            HistoryStep::Event => {
                let key = self.desired.key.clone();
                match self.events.pop_front() {
                    Some((true, object)) => drop(self.inventory.observe(key, &object)),
                    Some((false, object)) => drop(self.inventory.forget(&key, &object)),
                    None => {}
                }
            }
            HistoryStep::Request(kind) => {
                let before = self.inventory.version(&self.desired.key);
                self.responses.push((kind, self.live.clone(), before));
            }
            HistoryStep::Response(n) if n < self.responses.len() => {
                let (kind, live, before) = self.responses.remove(n);
                self.respond(kind, live, &before);
            }
            HistoryStep::Response(_) => {}
        }
    }

    fn respond(&self, kind: RequestKind, live: StoredObject, before: &CachedVersion) {
        let (inventory, key) = (&self.inventory, &self.desired.key);
        match (kind, live) {
            (RequestKind::Read, Some(live)) => inventory.read(key, &self.object(&live)),
            (RequestKind::Apply, Some(live)) => inventory.applied(&self.desired, &self.object(&live)),
            (RequestKind::Refresh, Some(live)) => inventory.refresh(key, &self.object(&live)),
            (RequestKind::Read | RequestKind::Refresh, None) => inventory.record_absent(key, before),
            (RequestKind::Apply, None) => {}
            // The deletion of a UID that has been deleted or replaced.
            (RequestKind::Delete, live) => match &before.0 {
                Some((uid, _)) if live.as_ref().is_none_or(|(now, _)| now != uid) => inventory.evict(key, uid),
                _ => {}
            },
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<HistoryStep>> {
    let kind = prop_oneof![
        Just(RequestKind::Read),
        Just(RequestKind::Apply),
        Just(RequestKind::Refresh),
        Just(RequestKind::Delete)
    ];
    let step = prop_oneof![
        3 => Just(HistoryStep::Write),
        2 => Just(HistoryStep::Delete),
        4 => Just(HistoryStep::Event),
        4 => kind.prop_map(HistoryStep::Request),
        4 => (0_usize..4).prop_map(HistoryStep::Response),
    ];
    prop::collection::vec(step, 0..40)
}

proptest! {
    /// Events arrive in order and responses in any order; when all have arrived, the cache has what the server has.
    #[test]
    fn cache_ends_with_newest_state(steps in steps(), responses_last in any::<bool>()) {
        let desired = desired();
        let mut server = SimulatedServer {
            inventory: inventory(&desired),
            desired,
            version: 100,
            live: None,
            events: std::collections::VecDeque::new(),
            responses: Vec::new(),
        };
        for step in steps {
            server.step(step);
        }
        let rest = |server: &mut SimulatedServer, events: bool| {
            while events && !server.events.is_empty() {
                server.step(HistoryStep::Event);
            }
            while !events && !server.responses.is_empty() {
                server.step(HistoryStep::Response(0));
            }
        };
        rest(&mut server, responses_last);
        rest(&mut server, !responses_last);
        prop_assert_eq!(cached(&server.inventory, &server.desired.key), server.live);
    }
}
