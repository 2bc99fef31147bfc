//! In-memory state between reconciles. Losing it costs a render or resets a delay, and nothing else.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::Reason;

use super::dry_run_cache::DryRunCache;
use super::resolved_revision::ResolvedRevision;
use super::unwritten_status::UnwrittenStatuses;
use super::write_throttle::WriteThrottle;
use crate::apply::DryRunResults;
use crate::mesh::dry_run::{DryRunRejection, DryRunRequest};
use crate::mesh::health::{Blocker, RetiringRevision};
use crate::mesh::object::{DesiredObject, ObjectKey};
use crate::mesh::plan::{Applied, Plan, PlanAction, Prepared};
use crate::mesh::revision::ResolvedInputs;
use crate::mesh::upgrade::RolloutStep;

/// Renders cached per installation: enough for all stored revisions during an upgrade.
const RENDERS: usize = 6;
/// Interval for reading the mesh's root certificate.
const CA_INTERVAL: Duration = Duration::from_mins(4);

/// Renders, failure counts and timestamps, each by installation.
#[derive(Default)]
pub struct ReconcileCache {
    /// Statuses that could not be written.
    pub unwritten: UnwrittenStatuses,
    renders: Mutex<HashMap<String, Vec<Arc<ResolvedRevision>>>>,
    failures: Mutex<HashMap<String, u32>>,
    status_written: Mutex<HashMap<String, Instant>>,
    replaced: Mutex<HashMap<String, HashSet<String>>>,
    throttle: Mutex<WriteThrottle>,
    generations: Mutex<HashMap<String, i64>>,
    ca_read: Mutex<HashMap<String, Instant>>,
    unused: Mutex<HashMap<String, (String, Instant)>>,
    listed_users: Mutex<HashMap<String, (RetiringRevision, Instant)>>,
    progress: Mutex<HashMap<String, StepProgress>>,
    istiod_seen: Mutex<HashMap<String, Instant>>,
    unready: Mutex<HashMap<String, BTreeMap<ObjectKey, Timestamp>>>,
    dry_runs: Mutex<DryRunCache>,
}

/// Progress of an upgrade step.
struct StepProgress {
    /// The revision and the step.
    step: (String, RolloutStep),
    /// The most pods that were ready at a time, so that a pod that crashes repeatedly is no progress.
    most_ready: i32,
    /// When that number was reached, unless it was the first.
    progressed_at: Option<Time>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every critical section is a single insertion or removal, so a panic leaves the maps consistent.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ReconcileCache {
    /// The cached render of these inputs.
    #[must_use]
    pub fn render(&self, of: &MeshInstallation, inputs: &ResolvedInputs) -> Option<Arc<ResolvedRevision>> {
        let renders = lock(&self.renders);
        let mut cached = renders.get(&of.name_any())?.iter();
        cached
            .find(|render| Some(&render.validated.owner.uid) == of.uid().as_ref() && render.inputs == *inputs)
            .map(Arc::clone)
    }

    /// Caches a render.
    pub fn store_render(&self, of: &MeshInstallation, accepted: Arc<ResolvedRevision>) {
        let mut renders = lock(&self.renders);
        let cached = renders.entry(of.name_any()).or_default();
        cached.retain(|other| other.inputs != accepted.inputs);
        cached.insert(0, accepted);
        cached.truncate(RENDERS);
    }

    /// Drops all renders but this one: without an upgrade in progress no other is needed.
    pub fn retain_render(&self, installation: &str, accepted: &ResolvedRevision) {
        if let Some(cached) = lock(&self.renders).get_mut(installation)
            && cached.len() > 1
        {
            cached.retain(|other| other.inputs == accepted.inputs);
        }
    }

    /// Counts a failure and returns the number of consecutive failures.
    pub fn count_failure(&self, installation: &str) -> u32 {
        let mut failures = lock(&self.failures);
        let count = failures.entry(installation.to_owned()).or_default();
        *count = count.saturating_add(1);
        *count
    }

    /// The number of consecutive failures.
    #[must_use]
    pub fn failures(&self, installation: &str) -> u32 {
        lock(&self.failures).get(installation).copied().unwrap_or_default()
    }

    /// Resets the failure count after a success.
    pub fn clear_failures(&self, installation: &str) {
        lock(&self.failures).remove(installation);
    }

    /// Records that status was written now.
    pub fn record_status_write(&self, installation: &str) {
        lock(&self.status_written).insert(installation.to_owned(), Instant::now());
    }

    /// The remainder of `interval` since the last status write; `None` when it is over.
    #[must_use]
    pub fn until_next_status(&self, installation: &str, interval: Duration) -> Option<Duration> {
        let since = lock(&self.status_written).get(installation)?.elapsed();
        interval.checked_sub(since).filter(|rest| !rest.is_zero())
    }

    /// Records that a gateway's pods are being replaced; false if that was tried before without success.
    pub fn begin_replacement(&self, installation: &str, gateway: &str) -> bool {
        lock(&self.replaced).entry(installation.to_owned()).or_default().insert(gateway.to_owned())
    }

    /// Records that a gateway's pods are ready.
    pub fn forget_replacement(&self, installation: &str, gateway: &str) {
        if let Some(gateways) = lock(&self.replaced).get_mut(installation) {
            gateways.remove(gateway);
        }
    }

    /// Skips objects of the plan whose write budget is exhausted; returns the shortest wait among them.
    pub fn throttle_conflicts(&self, plan: &mut Plan<Prepared>) -> Option<Duration> {
        let (throttle, now) = (lock(&self.throttle), Instant::now());
        let mut shortest = None;
        for step in plan.steps.iter_mut().filter(|step| step.action != PlanAction::Unchanged) {
            if let Some(wait) = throttle.retry_after(&step.desired.key, now) {
                step.action = PlanAction::Unchanged;
                shortest = Some(shortest.map_or(wait, |other: Duration| other.min(wait)));
            }
        }
        shortest
    }

    /// Counts the plan's writes against the budgets of their objects.
    pub fn record_writes(&self, plan: &Plan<Applied>) {
        let (mut throttle, now) = (lock(&self.throttle), Instant::now());
        let written = |key: &ObjectKey| plan.state.written.iter().any(|(written, _)| written == key);
        for DesiredObject { key, hash, .. } in plan.steps.iter().map(|step| step.desired.as_ref()) {
            if written(key) {
                throttle.record(key, hash, now);
            }
        }
    }

    /// The blocker for an object that another field manager keeps changing.
    #[must_use]
    pub fn drift_loop(&self, desired: &[Arc<DesiredObject>]) -> Option<Blocker> {
        let (throttle, now) = (lock(&self.throttle), Instant::now());
        let found = desired.iter().find(|desired| throttle.is_conflicting(&desired.key, now))?;
        let message = format!(
            "another field manager keeps reverting {}. The operator now writes it at most twice a minute; identify the \
             other client in the object's metadata.managedFields",
            found.key
        );
        Some(Blocker { reason: Reason::DriftLoop, message })
    }

    /// Whether this generation of the spec is reconciled for the first time.
    pub fn is_new_generation(&self, installation: &MeshInstallation) -> bool {
        let generation = installation.metadata.generation.unwrap_or_default();
        lock(&self.generations).insert(installation.name_any(), generation) != Some(generation)
    }

    /// Whether the root certificate is due to be read; true once per interval.
    pub fn ca_is_due(&self, installation: &str) -> bool {
        let (mut read, now) = (lock(&self.ca_read), Instant::now());
        let due = read.get(installation).is_none_or(|last| now.duration_since(*last) >= CA_INTERVAL);
        if due {
            read.insert(installation.to_owned(), now);
        }
        due
    }

    /// How long a retained control plane has had no pods, as far as observed; `None` while it has some or their number
    /// is unknown.
    pub fn unused_for(&self, installation: &str, retained: &RetiringRevision) -> Option<Duration> {
        let mut unused = lock(&self.unused);
        if retained.pods != Some(0) {
            unused.remove(installation);
            return None;
        }
        let known =
            unused.get(installation).filter(|(revision, _)| *revision == retained.revision).map(|(_, since)| *since);
        let since = known.unwrap_or_else(Instant::now);
        unused.insert(installation.to_owned(), (retained.revision.clone(), since));
        Some(since.elapsed())
    }

    /// A retained control plane with the number of its pods that was stored within this interval.
    #[must_use]
    pub fn listed_users(&self, installation: &str, revision: &str, interval: Duration) -> Option<RetiringRevision> {
        let listed = lock(&self.listed_users);
        let (retained, at) = listed.get(installation)?;
        (retained.revision == revision && at.elapsed() < interval).then(|| retained.clone())
    }

    /// Stores how many pods of a retained control plane were listed, or that they can't be listed.
    pub fn store_listed_users(&self, installation: &str, retained: RetiringRevision) {
        lock(&self.listed_users).insert(installation.to_owned(), (retained, Instant::now()));
    }

    /// Since when each of these workloads, which are all that are unready, has been observed as such.
    pub fn unready_since<'k>(
        &self,
        installation: &str,
        unready: impl Iterator<Item = &'k ObjectKey>,
        now: Timestamp,
    ) -> BTreeMap<ObjectKey, Timestamp> {
        let mut all = lock(&self.unready);
        let known = all.remove(installation).unwrap_or_default();
        let current: BTreeMap<ObjectKey, Timestamp> =
            unready.map(|key| (key.clone(), known.get(key).copied().unwrap_or(now))).collect();
        if !current.is_empty() {
            all.insert(installation.to_owned(), current.clone());
        }
        current
    }

    /// How long no istiod pod of an installation has been ready, as far as observed: each reconcile calls this, and the
    /// first one of a process observes nothing before.
    pub fn istiod_away_for(&self, installation: &str, is_ready: bool) -> Duration {
        let (mut seen, now) = (lock(&self.istiod_seen), Instant::now());
        if is_ready {
            seen.insert(installation.to_owned(), now);
        }
        now.duration_since(*seen.entry(installation.to_owned()).or_insert(now))
    }

    /// When a step last had more ready pods than ever before; `None` if it has not been seen to make progress.
    pub fn step_progress(
        &self,
        installation: &str,
        (revision, step): (&str, &RolloutStep),
        ready: i32,
        now: &Time,
    ) -> Option<Time> {
        let mut progress = lock(&self.progress);
        let step = (revision.to_owned(), step.clone());
        let known = progress
            .entry(installation.to_owned())
            .and_modify(|known| {
                if known.step == step && ready > known.most_ready {
                    (known.most_ready, known.progressed_at) = (ready, Some(now.clone()));
                } else if known.step != step {
                    *known = StepProgress { step: step.clone(), most_ready: ready, progressed_at: None };
                }
            })
            .or_insert_with(|| StepProgress { step: step.clone(), most_ready: ready, progressed_at: None });
        known.progressed_at.clone()
    }

    /// Splits the requests of a dry run into those to send and the rejections that still count.
    pub fn due_dry_runs(
        &self,
        installation: &str,
        requests: Vec<DryRunRequest>,
    ) -> (Vec<DryRunRequest>, Vec<DryRunRejection>) {
        lock(&self.dry_runs).due(installation, requests, Instant::now())
    }

    /// Stores the results of a dry run. Returns the number of consecutive dry runs that lacked results.
    pub fn store_dry_run(&self, installation: &str, results: &DryRunResults) -> u32 {
        lock(&self.dry_runs).store(installation, results, Instant::now())
    }

    /// Drops the results of dry runs, once the revision is accepted.
    pub fn forget_dry_runs(&self, installation: &str) {
        lock(&self.dry_runs).forget(installation);
    }

    /// Drops the state of a deleted installation.
    pub fn forget(&self, installation: &str) {
        lock(&self.renders).remove(installation);
        lock(&self.status_written).remove(installation);
        lock(&self.generations).remove(installation);
        lock(&self.ca_read).remove(installation);
        lock(&self.replaced).remove(installation);
        lock(&self.unused).remove(installation);
        lock(&self.listed_users).remove(installation);
        lock(&self.progress).remove(installation);
        lock(&self.istiod_seen).remove(installation);
        lock(&self.unready).remove(installation);
        self.forget_dry_runs(installation);
        self.unwritten.clear(installation);
        self.clear_failures(installation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_users_count_for_an_interval() {
        let cache = ReconcileCache::default();
        let (old, minute) = (RetiringRevision { revision: "1-31-0".into(), pods: Some(2) }, Duration::from_mins(1));
        assert_eq!(cache.listed_users("mesh", "1-31-0", minute), None);
        cache.store_listed_users("mesh", old.clone());
        assert_eq!(cache.listed_users("mesh", "1-31-0", minute), Some(old));
        assert_eq!(cache.listed_users("mesh", "1-31-0", Duration::ZERO), None);
        assert_eq!(cache.listed_users("mesh", "1-32-0", minute), None, "another revision");
        assert_eq!(cache.listed_users("other", "1-31-0", minute), None);
        cache.forget("mesh");
        assert_eq!(cache.listed_users("mesh", "1-31-0", minute), None);
    }
}
