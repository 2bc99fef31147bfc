//! What is kept between reconciles for speed; losing it costs a render or a pause.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::ResourceExt as _;
use meshwright_api::MeshInstallation;

use super::resolve::Accepted;
use crate::mesh::revision::ResolvedInputs;

/// Per installation: the last render, and failures in a row.
#[derive(Default)]
pub struct Memory {
    renders: Mutex<HashMap<String, Arc<Accepted>>>,
    failures: Mutex<HashMap<String, u32>>,
    told: Mutex<HashMap<String, Instant>>,
    replaced: Mutex<HashMap<String, HashSet<String>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Single insertions and removals: nothing is half-done after a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    /// The last render of an installation, if it was made from the same inputs.
    #[must_use]
    pub fn render(&self, of: &MeshInstallation, inputs: &ResolvedInputs) -> Option<Arc<Accepted>> {
        lock(&self.renders)
            .get(&of.name_any())
            .filter(|kept| Some(&kept.validated.owner.uid) == of.uid().as_ref() && kept.inputs == *inputs)
            .map(Arc::clone)
    }

    /// Keeps a render.
    pub fn keep_render(&self, of: &MeshInstallation, accepted: Arc<Accepted>) {
        lock(&self.renders).insert(of.name_any(), accepted);
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

    /// Forgets an installation.
    pub fn forget(&self, installation: &str) {
        lock(&self.renders).remove(installation);
        lock(&self.told).remove(installation);
        lock(&self.replaced).remove(installation);
        self.clear_failures(installation);
    }
}
