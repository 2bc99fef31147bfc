//! Requeue requests: watches and background tasks add installations, the controller takes them. Each name is queued
//! once, so that a replica that is not the leader accumulates no backlog.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::Stream;
use futures::stream::unfold;
use tokio::sync::Notify;

use crate::runtime::progress::ControllerProgress;

/// A set of installations to reconcile. Clones share it.
#[derive(Clone, Default)]
pub struct Changes {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    names: Mutex<BTreeSet<String>>,
    wake: Notify,
    progress: ControllerProgress,
}

impl Changes {
    /// Requests a reconcile of an installation.
    pub fn note(&self, installation: String) {
        let mut names = self.names();
        names.insert(installation);
        // While the names are locked, so that the controller can't take this one before it is recorded.
        self.shared.progress.request();
        drop(names);
        self.shared.wake.notify_one();
    }

    fn names(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.shared.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<String> {
        let mut names = self.names();
        let name = names.pop_first();
        self.shared.progress.take(!names.is_empty());
        name
    }

    /// Whether the controller takes these requests and completes its reconciles.
    #[must_use]
    pub fn progress(&self) -> &ControllerProgress {
        &self.shared.progress
    }

    /// An endless stream of names, for a single consumer.
    pub fn stream(self) -> impl Stream<Item = String> {
        self.shared.progress.start(!self.names().is_empty());
        unfold(self, |changes| async {
            loop {
                if let Some(name) = changes.take() {
                    return Some((name, changes));
                }
                changes.shared.wake.notified().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _};

    use super::*;

    #[test]
    fn duplicates_are_merged_and_later_requests_are_kept() {
        let changes = Changes::default();
        for name in ["b", "a", "b"] {
            changes.note(name.to_owned());
        }
        let mut names = Box::pin(changes.clone().stream());
        assert_eq!(names.next().now_or_never().flatten().as_deref(), Some("a"));
        assert_eq!(names.next().now_or_never().flatten().as_deref(), Some("b"));
        assert_eq!(names.next().now_or_never(), None);
        changes.note("b".to_owned());
        assert_eq!(names.next().now_or_never().flatten().as_deref(), Some("b"));
    }
}
