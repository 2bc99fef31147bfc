//! Whether the controller still works, for the liveness probe: one that has stopped keeps its lease, since leader election
//! runs in a task of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The controller takes requests at once, even while it reconciles.
const MAX_WAIT: Duration = Duration::from_mins(2);
/// A reconcile takes seconds. With an API server that lets every request run into its deadline it takes long, but then
/// requests keep completing.
const MAX_RECONCILE: Duration = Duration::from_mins(30);

tokio::task_local! {
    /// The reconcile that runs in this task.
    static CURRENT: (ControllerProgress, u64);
}

/// Requests that wait for the controller, and its running reconciles. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct ControllerProgress(Arc<Mutex<ProgressState>>);

#[derive(Debug, Default)]
struct ProgressState {
    /// The controller has been started. A standby has none.
    started: bool,
    waiting_since: Option<Instant>,
    /// When each running reconcile has started, or completed its last request.
    running: BTreeMap<u64, Instant>,
    next: u64,
}

/// A running reconcile; it ends when this is dropped.
#[derive(Debug)]
pub struct RunningReconcile {
    id: u64,
    progress: ControllerProgress,
}

impl RunningReconcile {
    /// Runs a part of the reconcile, whose requests are its progress.
    pub async fn run<T>(&self, part: impl Future<Output = T>) -> T {
        CURRENT.scope((self.progress.clone(), self.id), part).await
    }
}

/// Records that a request has completed, with or without success. Those outside reconciles don't count.
pub(super) fn record_request() {
    let record = |(progress, id): &(ControllerProgress, u64)| progress.record_request_at(*id, Instant::now());
    CURRENT.try_with(record).unwrap_or_default();
}

impl Drop for RunningReconcile {
    fn drop(&mut self) {
        self.progress.lock().running.remove(&self.id);
    }
}

impl ControllerProgress {
    fn lock(&self) -> MutexGuard<'_, ProgressState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the controller has started; `waiting` requests exist already.
    pub fn start(&self, waiting: bool) {
        self.lock().started = true;
        self.take(waiting);
    }

    /// Records a request.
    pub fn request(&self) {
        self.request_at(Instant::now());
    }

    fn request_at(&self, now: Instant) {
        let mut state = self.lock();
        if state.started {
            state.waiting_since.get_or_insert(now);
        }
    }

    /// Records that the controller has taken a request; `more` wait.
    pub fn take(&self, more: bool) {
        self.lock().waiting_since = more.then(Instant::now);
    }

    /// Records the start of a reconcile.
    #[must_use]
    pub fn reconcile(&self) -> RunningReconcile {
        self.reconcile_at(Instant::now())
    }

    fn reconcile_at(&self, now: Instant) -> RunningReconcile {
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        state.running.insert(id, now);
        RunningReconcile { id, progress: self.clone() }
    }

    fn record_request_at(&self, id: u64, now: Instant) {
        if let Some(since) = self.lock().running.get_mut(&id) {
            *since = now;
        }
    }

    /// Whether the controller has stopped: it takes no requests, or a reconcile neither ends nor completes requests.
    #[must_use]
    pub fn is_stuck(&self, now: Instant) -> bool {
        let state = self.lock();
        let exceeds = |since: &Instant, limit: Duration| now.saturating_duration_since(*since) > limit;
        state.waiting_since.iter().any(|since| exceeds(since, MAX_WAIT))
            || state.running.values().any(|since| exceeds(since, MAX_RECONCILE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::requests::within_deadline;

    #[test]
    fn requests_must_be_taken_once_started() {
        let (progress, now) = (ControllerProgress::default(), Instant::now());
        let later = now + MAX_WAIT + Duration::from_secs(1);
        progress.request_at(now);
        assert!(!progress.is_stuck(later), "a standby takes none");
        progress.start(false);
        progress.request_at(now);
        progress.request_at(later);
        assert!(!progress.is_stuck(now + MAX_WAIT));
        assert!(progress.is_stuck(later), "the first one counts");
        progress.take(false);
        assert!(!progress.is_stuck(later));
    }

    #[test]
    fn reconciles_must_end() {
        let (progress, now) = (ControllerProgress::default(), Instant::now());
        let (first, second) = (progress.reconcile_at(now), progress.reconcile_at(now));
        let later = now + MAX_RECONCILE + Duration::from_secs(1);
        assert!(!progress.is_stuck(now + MAX_RECONCILE));
        drop(first);
        assert!(progress.is_stuck(later));
        drop(second);
        assert!(!progress.is_stuck(later));
    }

    #[tokio::test]
    async fn completed_requests_are_progress() {
        let (progress, now) = (ControllerProgress::default(), Instant::now());
        let started = now.checked_sub(MAX_RECONCILE + Duration::from_secs(1)).unwrap();
        let running = progress.reconcile_at(started);
        record_request();
        assert!(progress.is_stuck(now), "that request belongs to no reconcile");
        let failed = || async { Err::<(), _>(kube::Error::LinesCodecMaxLineLengthExceeded) };
        running.run(async { within_deadline(failed()).await.unwrap_err() }).await;
        assert!(!progress.is_stuck(now));
        let other = progress.reconcile_at(started);
        running.run(async { within_deadline(failed()).await.unwrap_err() }).await;
        assert!(progress.is_stuck(now), "each reconcile has to progress");
        drop(other);
        assert!(!progress.is_stuck(now));
    }
}
