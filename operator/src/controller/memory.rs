//! What is kept between reconciles for speed; losing it costs a render or a pause.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::ResourceExt as _;
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::Reason;

use super::accepted::Accepted;
use super::contest::Contest;
use crate::mesh::health::{Blocker, KeptRevision};
use crate::mesh::object::{Desired, ObjectKey};
use crate::mesh::plan::{Action, Applied, Plan, Prepared};
use crate::mesh::revision::ResolvedInputs;

/// Renders kept per installation: those of all records, while a mesh is on its way from some of them to another.
const RENDERS: usize = 6;
/// How often the mesh's certificate authority is read.
const CA_INTERVAL: Duration = Duration::from_mins(4);

/// Per installation: renders, and failures in a row.
#[derive(Default)]
pub struct Memory {
    renders: Mutex<HashMap<String, Vec<Arc<Accepted>>>>,
    failures: Mutex<HashMap<String, u32>>,
    told: Mutex<HashMap<String, Instant>>,
    replaced: Mutex<HashMap<String, HashSet<String>>>,
    contest: Mutex<Contest>,
    generations: Mutex<HashMap<String, i64>>,
    ca_read: Mutex<HashMap<String, Instant>>,
    unused: Mutex<HashMap<String, (String, Instant)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Single insertions and removals: nothing is half-done after a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    /// A render of an installation that was made from these inputs.
    #[must_use]
    pub fn render(&self, of: &MeshInstallation, inputs: &ResolvedInputs) -> Option<Arc<Accepted>> {
        let renders = lock(&self.renders);
        let mut kept = renders.get(&of.name_any())?.iter();
        kept.find(|kept| Some(&kept.validated.owner.uid) == of.uid().as_ref() && kept.inputs == *inputs).map(Arc::clone)
    }

    /// Keeps a render.
    pub fn keep_render(&self, of: &MeshInstallation, accepted: Arc<Accepted>) {
        let mut renders = lock(&self.renders);
        let kept = renders.entry(of.name_any()).or_default();
        kept.retain(|other| other.inputs != accepted.inputs);
        kept.insert(0, accepted);
        kept.truncate(RENDERS);
    }

    /// Drops the renders but this one: a mesh that isn't on its way needs no other.
    pub fn keep_only(&self, installation: &str, accepted: &Accepted) {
        if let Some(kept) = lock(&self.renders).get_mut(installation)
            && kept.len() > 1
        {
            kept.retain(|other| other.inputs == accepted.inputs);
        }
    }

    /// Counts a failure; answers how many there were in a row.
    pub fn count_failure(&self, installation: &str) -> u32 {
        let mut failures = lock(&self.failures);
        let count = failures.entry(installation.to_owned()).or_default();
        *count = count.saturating_add(1);
        *count
    }

    /// Forgets failures after a success.
    pub fn clear_failures(&self, installation: &str) {
        lock(&self.failures).remove(installation);
    }

    /// Notes that status was written now.
    pub fn told(&self, installation: &str) {
        lock(&self.told).insert(installation.to_owned(), Instant::now());
    }

    /// How much of `interval` is left since status was written last; `None` when it is over.
    #[must_use]
    pub fn rest(&self, installation: &str, interval: Duration) -> Option<Duration> {
        let since = lock(&self.told).get(installation)?.elapsed();
        interval.checked_sub(since).filter(|rest| !rest.is_zero())
    }

    /// Notes that a gateway's pods are being replaced; false when they have been already, to no avail.
    pub fn begin_replacement(&self, installation: &str, gateway: &str) -> bool {
        lock(&self.replaced).entry(installation.to_owned()).or_default().insert(gateway.to_owned())
    }

    /// Notes that a gateway came up well.
    pub fn forget_replacement(&self, installation: &str, gateway: &str) {
        if let Some(gateways) = lock(&self.replaced).get_mut(installation) {
            gateways.remove(gateway);
        }
    }

    /// Takes the objects out of a plan's work that others keep changing back; answers how long the first of them rests.
    pub fn hold_contested(&self, plan: &mut Plan<Prepared>) -> Option<Duration> {
        let (contest, now) = (lock(&self.contest), Instant::now());
        let mut shortest = None;
        for step in plan.steps.iter_mut().filter(|step| step.action != Action::Keep) {
            if let Some(wait) = contest.wait(&step.desired.key, now) {
                step.action = Action::Keep;
                shortest = Some(shortest.map_or(wait, |other: Duration| other.min(wait)));
            }
        }
        shortest
    }

    /// Notes objects that were written.
    pub fn note_writes(&self, plan: &Plan<Applied>) {
        let (mut contest, now) = (lock(&self.contest), Instant::now());
        let written = |key: &ObjectKey| plan.state.written.iter().any(|(written, _)| written == key);
        for Desired { key, hash, .. } in plan.steps.iter().map(|step| step.desired.as_ref()) {
            if written(key) {
                contest.note(key, hash, now);
            }
        }
    }

    /// What is in the way where others keep changing an object back.
    #[must_use]
    pub fn contested(&self, desired: &[Arc<Desired>]) -> Option<Blocker> {
        let (contest, now) = (lock(&self.contest), Instant::now());
        let found = desired.iter().find(|desired| contest.is_contested(&desired.key, now))?;
        let message = format!(
            "{} is changed by another as often as it is put right; from now on it is put right twice a minute: find out \
             who changes it from its metadata.managedFields",
            found.key
        );
        Some(Blocker { reason: Reason::Contested, message })
    }

    /// Whether this spec is seen for the first time.
    pub fn is_news(&self, installation: &MeshInstallation) -> bool {
        let generation = installation.metadata.generation.unwrap_or_default();
        lock(&self.generations).insert(installation.name_any(), generation) != Some(generation)
    }

    /// Whether the certificate authority should be read again; true once per interval.
    pub fn ca_is_due(&self, installation: &str) -> bool {
        let (mut read, now) = (lock(&self.ca_read), Instant::now());
        let due = read.get(installation).is_none_or(|last| now.duration_since(*last) >= CA_INTERVAL);
        if due {
            read.insert(installation.to_owned(), now);
        }
        due
    }

    /// How long nobody has used a control plane that is kept, as far as has been looked; `None` while somebody does, or it
    /// isn't known.
    pub fn unused_for(&self, installation: &str, kept: &KeptRevision) -> Option<Duration> {
        let mut unused = lock(&self.unused);
        if kept.pods != Some(0) {
            unused.remove(installation);
            return None;
        }
        let known =
            unused.get(installation).filter(|(revision, _)| *revision == kept.revision).map(|(_, since)| *since);
        let since = known.unwrap_or_else(Instant::now);
        unused.insert(installation.to_owned(), (kept.revision.clone(), since));
        Some(since.elapsed())
    }

    /// Forgets an installation.
    pub fn forget(&self, installation: &str) {
        lock(&self.renders).remove(installation);
        lock(&self.told).remove(installation);
        lock(&self.generations).remove(installation);
        lock(&self.ca_read).remove(installation);
        lock(&self.replaced).remove(installation);
        lock(&self.unused).remove(installation);
        self.clear_failures(installation);
    }
}
