//! Objects that responses did not have as a whole, since they exceed limits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tracing::warn;

/// Replaced objects that are remembered, so that each is logged and reported once.
const MAX_REMEMBERED: usize = 1000;

/// Identity of an object in a response.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectIdentity {
    /// `apiVersion`; empty if the response has none.
    pub api_version: String,
    /// `kind`; empty if the response has none.
    pub kind: String,
    /// `metadata.namespace`; empty for cluster-scoped objects.
    pub namespace: String,
    /// `metadata.name`, which a stub always has.
    pub name: String,
    /// `metadata.uid`, which a stub always has.
    pub uid: String,
}

/// An object that was in a response.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SeenObject {
    /// It was replaced by a stub.
    Replaced { identity: ObjectIdentity, reason: String },
    /// It was kept, or it is deleted.
    Fits { uid: String },
}

/// An object that was replaced by a stub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplacedObject {
    /// The resource in the request's path, such as `configmaps`.
    pub resource: String,
    /// Identity of the object.
    pub identity: ObjectIdentity,
    /// Which limit it exceeds, such as `larger than 512 KiB`.
    pub reason: String,
}

/// The objects that were replaced so far. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct ReplacedObjects {
    known: Arc<Mutex<KnownObjects>>,
    found: Arc<Notify>,
}

#[derive(Debug, Default)]
struct KnownObjects {
    objects: BTreeMap<(String, ObjectIdentity), KnownObject>,
    /// UIDs of those that still exceed limits, as far as responses show it.
    current: BTreeSet<String>,
}

#[derive(Debug)]
struct KnownObject {
    reason: String,
    is_reported: bool,
}

impl ReplacedObjects {
    fn lock(&self) -> MutexGuard<'_, KnownObjects> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of objects that exceed limits by resource, also for resources that no longer have any.
    #[must_use]
    pub fn counts(&self) -> Vec<(String, usize)> {
        let known = self.lock();
        let mut counts: BTreeMap<&String, usize> = BTreeMap::new();
        for (resource, identity) in known.objects.keys() {
            *counts.entry(resource).or_default() += usize::from(known.current.contains(&identity.uid));
        }
        counts.into_iter().map(|(resource, count)| (resource.clone(), count)).collect()
    }

    /// The objects that were not returned before. Waits until there is one.
    pub async fn next_unreported(&self) -> Vec<ReplacedObject> {
        loop {
            let unreported = self.take_unreported();
            if !unreported.is_empty() {
                return unreported;
            }
            self.found.notified().await;
        }
    }

    fn take_unreported(&self) -> Vec<ReplacedObject> {
        let mut known = self.lock();
        let unreported = known.objects.iter_mut().filter(|(_, object)| !object.is_reported);
        let taken = unreported.map(|((resource, identity), object)| {
            object.is_reported = true;
            ReplacedObject { resource: resource.clone(), identity: identity.clone(), reason: object.reason.clone() }
        });
        taken.collect()
    }

    /// Records the objects of a response.
    pub(super) fn note(&self, resource: &str, seen: Vec<SeenObject>) {
        let mut known = self.lock();
        for object in seen {
            match object {
                SeenObject::Fits { uid } => {
                    known.current.remove(&uid);
                }
                SeenObject::Replaced { identity, reason } => {
                    if known.add(resource, identity, reason) {
                        self.found.notify_one();
                    }
                }
            }
        }
    }
}

impl KnownObjects {
    /// Adds an object. Returns whether it is new.
    fn add(&mut self, resource: &str, identity: ObjectIdentity, reason: String) -> bool {
        let key = (resource.to_owned(), identity);
        let is_known = self.objects.contains_key(&key);
        if !is_known && self.objects.len() >= MAX_REMEMBERED {
            let Self { objects, current } = self;
            objects.retain(|(_, identity), _| current.contains(&identity.uid));
        }
        if !is_known && self.objects.len() >= MAX_REMEMBERED {
            return false;
        }
        let (_, ObjectIdentity { namespace, name, uid, .. }) = &key;
        self.current.insert(uid.clone());
        if !is_known {
            warn!(resource, namespace, name, reason, "reading an object without the fields that exceed limits");
            self.objects.insert(key, KnownObject { reason, is_reported: false });
        }
        !is_known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(name: usize) -> SeenObject {
        let identity = ObjectIdentity { name: name.to_string(), uid: name.to_string(), ..ObjectIdentity::default() };
        SeenObject::Replaced { identity, reason: "larger than 512 KiB".into() }
    }

    fn count(objects: &ReplacedObjects) -> usize {
        objects.counts().iter().map(|(_, count)| count).sum()
    }

    #[tokio::test]
    async fn reports_each_object_once() {
        let objects = ReplacedObjects::default();
        objects.note("configmaps", vec![replaced(1), replaced(1)]);
        objects.note("pods", vec![replaced(2)]);
        let names: Vec<_> = objects.next_unreported().await.into_iter().map(|object| object.identity.name).collect();
        assert_eq!(names, ["1", "2"]);
        objects.note("pods", vec![replaced(2), replaced(3)]);
        assert_eq!(objects.next_unreported().await.len(), 1);
        assert_eq!(objects.take_unreported(), []);
    }

    #[test]
    fn counts_objects_while_they_exceed_limits() {
        let objects = ReplacedObjects::default();
        objects.note("pods", vec![replaced(1), replaced(2)]);
        assert_eq!(objects.counts(), [("pods".to_owned(), 2)]);
        objects.note("pods", vec![SeenObject::Fits { uid: "1".into() }, SeenObject::Fits { uid: "9".into() }]);
        assert_eq!(objects.counts(), [("pods".to_owned(), 1)]);
        objects.note("pods", vec![SeenObject::Fits { uid: "2".into() }]);
        assert_eq!(objects.counts(), [("pods".to_owned(), 0)], "the metric returns to 0");
    }

    #[test]
    fn remembers_limited_number() {
        let objects = ReplacedObjects::default();
        objects.note("pods", (0..3 * MAX_REMEMBERED).map(replaced).collect());
        assert_eq!((count(&objects), objects.lock().objects.len()), (MAX_REMEMBERED, MAX_REMEMBERED));
        let gone = (0..MAX_REMEMBERED).map(|uid| SeenObject::Fits { uid: uid.to_string() });
        objects.note("pods", gone.collect());
        objects.note("pods", vec![replaced(1)]);
        assert_eq!(count(&objects), 1);
    }
}
