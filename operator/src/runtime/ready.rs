//! Readiness: the process is ready when all readiness handles are released, until it shuts down.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// The name in [`Readiness::pending`] while the process is shutting down.
pub const SHUTTING_DOWN: &str = "shutting down";

/// The handles that the process waits for. Clones share them.
#[derive(Clone, Debug)]
pub struct Readiness {
    stopping: CancellationToken,
    pending_handles: Arc<Mutex<PendingHandles>>,
}

#[derive(Debug, Default)]
struct PendingHandles {
    next: u64,
    names: BTreeMap<u64, String>,
}

impl Readiness {
    /// Returns a readiness without handles. It permanently becomes not ready when `stopping` is cancelled.
    #[must_use]
    pub fn new(stopping: CancellationToken) -> Self {
        Self { stopping, pending_handles: Arc::default() }
    }

    /// Makes the process not ready until the handle is released. Create all handles before serving `/readyz`.
    #[must_use]
    pub fn handle(&self, name: impl Into<String>) -> ReadinessHandle {
        let mut pending_handles = lock(&self.pending_handles);
        let id = pending_handles.next;
        pending_handles.next += 1;
        pending_handles.names.insert(id, name.into());
        ReadinessHandle { id, pending_handles: Arc::clone(&self.pending_handles) }
    }

    /// Returns whether all handles are released and the process is not shutting down.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.stopping.is_cancelled() && lock(&self.pending_handles).names.is_empty()
    }

    /// Returns the names of unreleased handles in the order of their creation, and [`SHUTTING_DOWN`] last.
    #[must_use]
    pub fn pending(&self) -> Vec<String> {
        let mut names: Vec<String> = lock(&self.pending_handles).names.values().cloned().collect();
        if self.stopping.is_cancelled() {
            names.push(SHUTTING_DOWN.to_owned());
        }
        names
    }
}

/// A dependency of readiness. Dropping it without [`ReadinessHandle::release`] keeps the process not ready, because a
/// task that failed before it was synced must not count as synced.
#[derive(Debug)]
pub struct ReadinessHandle {
    id: u64,
    pending_handles: Arc<Mutex<PendingHandles>>,
}

impl ReadinessHandle {
    /// Reports the dependency as ready.
    pub fn release(self) {
        lock(&self.pending_handles).names.remove(&self.id);
    }
}

// No code panics while it holds the lock, so the data of a poisoned lock is consistent.
fn lock(pending_handles: &Mutex<PendingHandles>) -> MutexGuard<'_, PendingHandles> {
    pending_handles.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_all_handles_are_released() {
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
    fn handles_with_equal_names_are_independent() {
        let readiness = Readiness::new(CancellationToken::new());
        let (first, second) = (readiness.handle("cache"), readiness.handle("cache"));
        first.release();
        assert_eq!(readiness.pending(), ["cache"]);
        second.release();
        assert!(readiness.is_ready());
    }

    #[test]
    fn dropped_handle_keeps_process_not_ready() {
        let readiness = Readiness::new(CancellationToken::new());
        drop(readiness.handle("cache"));
        assert!(!readiness.is_ready());
    }

    #[test]
    fn not_ready_while_shutting_down() {
        let stopping = CancellationToken::new();
        let readiness = Readiness::new(stopping.clone());
        assert!(readiness.is_ready());
        stopping.cancel();
        assert!(!readiness.is_ready());
        assert_eq!(readiness.pending(), [SHUTTING_DOWN]);
    }
}
