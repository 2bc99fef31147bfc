//! Objects that responses did not have as a whole, since they exceed limits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::warn;

/// Replaced objects that are remembered, so that each is logged and reported once.
const MAX_REMEMBERED: usize = 1000;
/// Time after which an object of a list no longer counts: a list doesn't show that an object was deleted.
const EXPIRY: Duration = Duration::from_hours(1);

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
    /// It was replaced by a stub. `is_reduced`: only since other objects of the list take much.
    Replaced { identity: ObjectIdentity, reason: String, is_reduced: bool },
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
    /// Those that still exceed limits, as far as responses show it, by UID.
    current: BTreeMap<String, LastSeen>,
}

#[derive(Debug)]
struct KnownObject {
    reason: String,
    is_reduced: bool,
    is_reported: bool,
}

/// When a response last had an object.
#[derive(Clone, Copy, Debug)]
struct LastSeen {
    at: Instant,
    /// Whether a watch shows its deletion.
    is_watched: bool,
}

impl ReplacedObjects {
    fn lock(&self) -> MutexGuard<'_, KnownObjects> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of objects that exceed limits by resource, also for resources that no longer have any.
    #[must_use]
    pub fn counts(&self) -> Vec<(String, usize)> {
        let mut known = self.lock();
        known.current.retain(|_, seen| seen.is_watched || seen.at.elapsed() <= EXPIRY);
        let mut counts: BTreeMap<&String, usize> = BTreeMap::new();
        for (resource, identity) in known.objects.keys() {
            *counts.entry(resource).or_default() += usize::from(known.current.contains_key(&identity.uid));
        }
        counts.into_iter().map(|(resource, count)| (resource.clone(), count)).collect()
    }

    /// The objects that were not returned before, without those that are too large only for a list of large objects.
    /// Waits until there is one.
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
        let unreported = known.objects.iter_mut().filter(|(_, object)| !object.is_reported && !object.is_reduced);
        let taken = unreported.map(|((resource, identity), object)| {
            object.is_reported = true;
            ReplacedObject { resource: resource.clone(), identity: identity.clone(), reason: object.reason.clone() }
        });
        taken.collect()
    }

    /// Records the objects of a response. `is_watched`: a watch follows that shows their deletion.
    pub(super) fn note(&self, resource: &str, seen: Vec<SeenObject>, is_watched: bool) {
        if seen.is_empty() {
            return;
        }
        let mut known = self.lock();
        for object in seen {
            match object {
                SeenObject::Fits { uid } => {
                    known.current.remove(&uid);
                }
                SeenObject::Replaced { identity, reason, is_reduced } => {
                    let object = KnownObject { reason, is_reduced, is_reported: false };
                    if known.add(resource, identity, object, is_watched) {
                        self.found.notify_one();
                    }
                }
            }
        }
    }
}

impl KnownObjects {
    /// Adds an object. Returns whether it is new, or known only from lists of large objects.
    fn add(&mut self, resource: &str, identity: ObjectIdentity, object: KnownObject, is_watched: bool) -> bool {
        let key = (resource.to_owned(), identity);
        let known = self.objects.get(&key);
        let is_known = known.is_some_and(|known| !known.is_reduced || object.is_reduced);
        if !is_known && self.objects.len() >= MAX_REMEMBERED {
            let Self { objects, current } = self;
            objects.retain(|(_, identity), _| current.contains_key(&identity.uid));
        }
        if !is_known && self.objects.len() >= MAX_REMEMBERED {
            return false;
        }
        let (_, ObjectIdentity { namespace, name, uid, .. }) = &key;
        let seen = self.current.entry(uid.clone()).or_insert(LastSeen { at: Instant::now(), is_watched });
        *seen = LastSeen { at: Instant::now(), is_watched: is_watched || seen.is_watched };
        if !is_known {
            let reason = object.reason.as_str();
            warn!(resource, namespace, name, reason, "reading an object without the fields that exceed limits");
            self.objects.insert(key, object);
        }
        !is_known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(name: usize) -> SeenObject {
        let identity = ObjectIdentity { name: name.to_string(), uid: name.to_string(), ..ObjectIdentity::default() };
        SeenObject::Replaced { identity, reason: "larger than 512 KiB".into(), is_reduced: false }
    }

    fn count(objects: &ReplacedObjects) -> usize {
        objects.counts().iter().map(|(_, count)| count).sum()
    }

    #[tokio::test]
    async fn reports_each_object_once() {
        let objects = ReplacedObjects::default();
        objects.note("configmaps", vec![replaced(1), replaced(1)], false);
        objects.note("pods", vec![replaced(2)], false);
        let names: Vec<_> = objects.next_unreported().await.into_iter().map(|object| object.identity.name).collect();
        assert_eq!(names, ["1", "2"]);
        objects.note("pods", vec![replaced(2), replaced(3)], false);
        assert_eq!(objects.next_unreported().await.len(), 1);
        assert_eq!(objects.take_unreported(), []);
    }

    #[test]
    fn reports_no_object_of_large_list() {
        let objects = ReplacedObjects::default();
        let SeenObject::Replaced { identity, reason, .. } = replaced(1) else { panic!("not replaced") };
        objects.note("pods", vec![SeenObject::Replaced { identity, reason, is_reduced: true }], false);
        assert_eq!((objects.take_unreported(), count(&objects)), (vec![], 1));
        objects.note("pods", vec![replaced(1)], false);
        assert_eq!(objects.take_unreported().len(), 1, "it is too large by itself");
    }

    #[tokio::test(start_paused = true)]
    async fn forgets_unseen_objects_of_lists() {
        let objects = ReplacedObjects::default();
        objects.note("pods", vec![replaced(1)], true);
        objects.note("services", vec![replaced(2), replaced(3)], false);
        tokio::time::advance(EXPIRY).await;
        objects.note("pods", vec![replaced(1)], false);
        objects.note("services", vec![replaced(3)], false);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(objects.counts(), [("pods".to_owned(), 1), ("services".to_owned(), 1)]);
        tokio::time::advance(EXPIRY).await;
        assert_eq!(objects.counts(), [("pods".to_owned(), 1), ("services".to_owned(), 0)]);
    }

    #[test]
    fn counts_objects_while_they_exceed_limits() {
        let objects = ReplacedObjects::default();
        objects.note("pods", vec![replaced(1), replaced(2)], false);
        assert_eq!(objects.counts(), [("pods".to_owned(), 2)]);
        objects.note("pods", vec![SeenObject::Fits { uid: "1".into() }, SeenObject::Fits { uid: "9".into() }], false);
        assert_eq!(objects.counts(), [("pods".to_owned(), 1)]);
        objects.note("pods", vec![SeenObject::Fits { uid: "2".into() }], false);
        assert_eq!(objects.counts(), [("pods".to_owned(), 0)], "the metric returns to 0");
    }

    #[test]
    fn remembers_limited_number() {
        let objects = ReplacedObjects::default();
        objects.note("pods", (0..3 * MAX_REMEMBERED).map(replaced).collect(), false);
        assert_eq!((count(&objects), objects.lock().objects.len()), (MAX_REMEMBERED, MAX_REMEMBERED));
        let gone = (0..MAX_REMEMBERED).map(|uid| SeenObject::Fits { uid: uid.to_string() });
        objects.note("pods", gone.collect(), false);
        objects.note("pods", vec![replaced(1)], false);
        assert_eq!(count(&objects), 1);
    }
}
