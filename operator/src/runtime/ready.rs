//! Readiness: the process is ready once everything that it waits for has been released, until it stops.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// What [`Readiness::pending`] names once the process is stopping.
pub const SHUTTING_DOWN: &str = "shutting down";

/// The set of things that the process still waits for. Clones share the set.
#[derive(Clone, Debug)]
pub struct Readiness {
    stopping: CancellationToken,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    names: BTreeMap<u64, String>,
}

impl Readiness {
    /// A set that is empty, and so ready; it turns not ready for good when `stopping` is cancelled.
    #[must_use]
    pub fn new(stopping: CancellationToken) -> Self {
        Self { stopping, waiting: Arc::default() }
    }

    /// Makes the process not ready until the handle is released. Take all handles before serving `/readyz`.
    #[must_use]
    pub fn handle(&self, name: impl Into<String>) -> Handle {
        let mut waiting = lock(&self.waiting);
        let id = waiting.next;
        waiting.next += 1;
        waiting.names.insert(id, name.into());
        Handle { id, waiting: Arc::clone(&self.waiting) }
    }

    /// Whether every handle was released and the process is not stopping.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.stopping.is_cancelled() && lock(&self.waiting).names.is_empty()
    }

    /// The names still waited for, in the order in which they were taken; [`SHUTTING_DOWN`] comes last.
    #[must_use]
    pub fn pending(&self) -> Vec<String> {
        let mut names: Vec<String> = lock(&self.waiting).names.values().cloned().collect();
        if self.stopping.is_cancelled() {
            names.push(SHUTTING_DOWN.to_owned());
        }
        names
    }
}

/// One thing that readiness waits for. Dropping it without [`Handle::release`] keeps the process not ready: a task
/// that died before it was synced must not count as synced.
#[derive(Debug)]
pub struct Handle {
    id: u64,
    waiting: Arc<Mutex<Waiting>>,
}

impl Handle {
    /// What the handle stands for is there.
    pub fn release(self) {
        lock(&self.waiting).names.remove(&self.id);
    }
}

// Nothing can panic between lock and unlock, so a poisoned lock still guards a sound set.
fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_when_every_handle_is_released() {
        let readiness = Readiness::new(CancellationToken::new());
        let installations = readiness.handle("installations");
        let objects = readiness.handle("objects");
        assert_eq!(readiness.pending(), ["installations", "objects"]);
        installations.release();
        assert!(!readiness.is_ready());
        assert_eq!(readiness.pending(), ["objects"]);
        objects.release();
        assert!(readiness.is_ready());
        assert!(readiness.pending().is_empty());
    }

    #[test]
    fn handles_of_one_name_are_counted_one_by_one() {
        let readiness = Readiness::new(CancellationToken::new());
        let (first, second) = (readiness.handle("cache"), readiness.handle("cache"));
        first.release();
        assert_eq!(readiness.pending(), ["cache"]);
        second.release();
        assert!(readiness.is_ready());
    }

    #[test]
    fn a_handle_dropped_by_a_dead_task_keeps_the_process_not_ready() {
        let readiness = Readiness::new(CancellationToken::new());
        drop(readiness.handle("cache"));
        assert!(!readiness.is_ready());
    }

    #[test]
    fn a_stopping_process_is_not_ready() {
        let stopping = CancellationToken::new();
        let readiness = Readiness::new(stopping.clone());
        assert!(readiness.is_ready());
        stopping.cancel();
        assert!(!readiness.is_ready());
        assert_eq!(readiness.pending(), [SHUTTING_DOWN]);
    }
}
