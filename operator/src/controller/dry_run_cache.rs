//! Results of dry runs, so that a spec that waits for something else is not sent again in each reconcile. Pure, and
//! bounded by the changed objects of each installation's current spec.

use std::collections::HashMap;
use std::time::Instant;

use super::backoff::backoff;
use crate::apply::DryRunResults;
use crate::mesh::dry_run::{DryRunRejection, DryRunRequest};
use crate::mesh::object::{DesiredObject, ObjectKey};

/// The latest result of each object, by installation.
#[derive(Debug, Default)]
pub struct DryRunCache(HashMap<String, CachedResults>);

#[derive(Debug, Default)]
struct CachedResults {
    /// Hashes of the desired objects that were not rejected. They count until the spec is accepted: a later rejection
    /// only fails the write.
    passed: HashMap<ObjectKey, String>,
    /// Rejected objects with their hashes. A user may change what rejects them, which no watch reports.
    rejected: HashMap<ObjectKey, (String, DryRunRejection)>,
    /// When rejected objects are sent again, and after how many attempts.
    retry: Option<(Instant, u32)>,
    /// Consecutive dry runs without results for all objects.
    incomplete: u32,
}

impl DryRunCache {
    /// Splits requests into those to send and the rejections that still count. Drops results for other objects.
    pub fn due(
        &mut self,
        installation: &str,
        requests: Vec<DryRunRequest>,
        now: Instant,
    ) -> (Vec<DryRunRequest>, Vec<DryRunRejection>) {
        let cached = self.0.entry(installation.to_owned()).or_default();
        let current: HashMap<&ObjectKey, &str> =
            requests.iter().map(|request| (&request.desired.key, request.desired.hash.as_str())).collect();
        let is_current = |key: &ObjectKey, hash: &str| current.get(key) == Some(&hash);
        cached.passed.retain(|key, hash| is_current(key, hash));
        let known = cached.rejected.len();
        cached.rejected.retain(|key, (hash, _)| is_current(key, hash));
        if cached.rejected.len() < known {
            cached.retry = None;
        }
        if cached.retry.is_none_or(|(at, _)| at <= now) {
            cached.rejected.clear();
        }
        let is_known = |key: &ObjectKey| cached.passed.contains_key(key) || cached.rejected.contains_key(key);
        let due = requests.into_iter().filter(|request| !is_known(&request.desired.key)).collect();
        (due, cached.rejected.values().map(|(_, rejection)| rejection.clone()).collect())
    }

    /// Stores the results of a dry run. Returns the number of consecutive dry runs that lacked results.
    pub fn store(&mut self, installation: &str, results: &DryRunResults, now: Instant) -> u32 {
        let cached = self.0.entry(installation.to_owned()).or_default();
        let entry = |desired: &DesiredObject| (desired.key.clone(), desired.hash.clone());
        let passed = results.accepted.iter().chain(&results.unsupported);
        cached.passed.extend(passed.map(|desired| entry(desired)));
        for (desired, rejection) in &results.rejected {
            let (key, hash) = entry(desired);
            cached.rejected.insert(key, (hash, rejection.clone()));
        }
        if let Some((_, first)) = results.rejected.first() {
            let attempts = cached.retry.map_or(1, |(_, attempts)| attempts.saturating_add(1));
            cached.retry = Some((now + backoff(first.class, attempts, installation), attempts));
        } else if cached.rejected.is_empty() {
            cached.retry = None;
        }
        cached.incomplete = if results.failure.is_some() { cached.incomplete.saturating_add(1) } else { 0 };
        cached.incomplete
    }

    /// Drops the results of an installation.
    pub fn forget(&mut self, installation: &str) {
        self.0.remove(installation);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use semver::Version;
    use serde_json::json;

    use super::*;
    use crate::apply::ErrorClass;
    use crate::mesh::object::{Component, Owner};

    const NAME: &str = "mesh";

    fn object(name: &str, data: &str) -> Arc<DesiredObject> {
        let owner = Owner { installation: NAME.into(), uid: "u".into(), release: Version::new(1, 32, 0) };
        let object =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": data}});
        Arc::new(DesiredObject::from_rendered(object, &Component::Istiod, &owner, "istio-system").unwrap())
    }

    fn requests(objects: &[&Arc<DesiredObject>]) -> Vec<DryRunRequest> {
        objects.iter().map(|desired| DryRunRequest { desired: Arc::clone(desired), exists: false }).collect()
    }

    fn rejected(desired: &Arc<DesiredObject>) -> (Arc<DesiredObject>, DryRunRejection) {
        let key = desired.key.clone();
        (Arc::clone(desired), DryRunRejection { message: format!("{key}"), key, class: ErrorClass::Invalid })
    }

    /// The names of the objects to send, and the number of rejections that still count.
    fn due(cache: &mut DryRunCache, objects: &[&Arc<DesiredObject>], now: Instant) -> (Vec<String>, usize) {
        let (due, rejections) = cache.due(NAME, requests(objects), now);
        (due.into_iter().map(|request| request.desired.key.name.clone()).collect(), rejections.len())
    }

    #[test]
    fn sends_accepted_objects_once() {
        let (mut cache, now) = (DryRunCache::default(), Instant::now());
        let (a, b) = (object("a", "1"), object("b", "1"));
        assert_eq!(due(&mut cache, &[&a, &b], now), (vec!["a".into(), "b".into()], 0));
        let results =
            DryRunResults { accepted: vec![a.clone()], unsupported: vec![b.clone()], ..DryRunResults::default() };
        assert_eq!(cache.store(NAME, &results, now), 0);
        let later = now + Duration::from_mins(10);
        assert_eq!(due(&mut cache, &[&a, &b], later), (vec![], 0));
        let changed = object("a", "2");
        assert_eq!(due(&mut cache, &[&changed, &b], later), (vec!["a".into()], 0));
        assert_eq!(due(&mut cache, &[&a, &b], later), (vec!["a".into()], 0), "only the current spec is cached");
        cache.forget(NAME);
        assert_eq!(due(&mut cache, &[&a, &b], later).0.len(), 2);
    }

    #[test]
    fn sends_rejected_objects_again_with_backoff() {
        let (mut cache, mut now) = (DryRunCache::default(), Instant::now());
        let (a, b) = (object("a", "1"), object("b", "1"));
        let results =
            DryRunResults { accepted: vec![b.clone()], rejected: vec![rejected(&a)], ..DryRunResults::default() };
        let mut pauses = Vec::new();
        for _ in 0..8 {
            assert_eq!(due(&mut cache, &[&a, &b], now).1, 0);
            cache.store(NAME, &results, now);
            assert_eq!(due(&mut cache, &[&a, &b], now), (vec![], 1));
            let start = now;
            while due(&mut cache, &[&a], now).1 == 1 {
                now += Duration::from_millis(100);
            }
            pauses.push(now - start);
        }
        assert!(pauses[0] <= Duration::from_millis(1100) && pauses[7] > Duration::from_secs(7), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= Duration::from_millis(15_100)), "{pauses:?}");
    }

    #[test]
    fn sends_corrected_object_at_once() {
        let (mut cache, now) = (DryRunCache::default(), Instant::now());
        let wrong = object("a", "1");
        let results = DryRunResults { rejected: vec![rejected(&wrong)], ..DryRunResults::default() };
        cache.store(NAME, &results, now);
        assert_eq!(due(&mut cache, &[&object("a", "2")], now), (vec!["a".into()], 0));
        assert_eq!(due(&mut cache, &[&wrong], now), (vec!["a".into()], 0));
    }

    #[test]
    fn counts_incomplete_dry_runs() {
        let (mut cache, now) = (DryRunCache::default(), Instant::now());
        let (a, b) = (object("a", "1"), object("b", "1"));
        let failed =
            DryRunResults { accepted: vec![a.clone()], failure: Some("timeout".into()), ..DryRunResults::default() };
        assert_eq!([cache.store(NAME, &failed, now), cache.store(NAME, &failed, now)], [1, 2]);
        assert_eq!(due(&mut cache, &[&a, &b], now), (vec!["b".into()], 0), "objects without a result are sent again");
        assert_eq!(cache.store(NAME, &DryRunResults::default(), now), 0);
    }
}
