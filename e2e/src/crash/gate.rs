//! Counts the operator's writes and blocks them at a limit.

use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Number of writes to admit, and how the operator is stopped after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WriteLimit {
    /// Number of admitted writes.
    pub(super) writes: usize,
    /// How the operator is stopped.
    pub(super) mode: StopMode,
}

/// How the operator is stopped at a limit. A real crash can do both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopMode {
    /// The write after the limit is not sent to the server.
    BeforeNextWrite,
    /// The server executes the last write, but its response is lost.
    ResponseLost,
}

/// A write that the server has executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CompletedWrite {
    /// Method and path, such as `PATCH /api/v1/namespaces/istio-system/configmaps/istio`.
    pub(super) request: String,
    /// Whether the object belongs to the mesh.
    pub(super) mesh_object: bool,
}

/// Writes since the gate was last set.
#[derive(Debug, Default)]
struct WriteCounts {
    limit: Option<WriteLimit>,
    sent: usize,
    pending: usize,
    stopped: bool,
    /// Number of killed operators, whose blocked writes are never sent.
    generation: usize,
    writes: Vec<CompletedWrite>,
    latest: Option<Instant>,
}

impl WriteCounts {
    /// Returns the number of the next write, or `None` if the limit is reached.
    fn admit(&mut self) -> Option<usize> {
        if self.limit.is_some_and(|limit| self.sent >= limit.writes) {
            self.stopped = true;
            return None;
        }
        self.sent += 1;
        self.pending += 1;
        self.latest = Some(Instant::now());
        Some(self.sent)
    }

    /// Records a response; returns whether to forward it to the operator.
    fn complete(&mut self, number: usize, write: Option<CompletedWrite>) -> bool {
        self.pending -= 1;
        self.latest = Some(Instant::now());
        self.writes.extend(write);
        let last = WriteLimit { writes: number, mode: StopMode::ResponseLost };
        self.stopped |= self.limit == Some(last);
        self.limit != Some(last)
    }
}

/// Admits writes up to a limit. Waiting callers are notified of every change.
#[derive(Debug, Default)]
pub(super) struct WriteGate(watch::Sender<WriteCounts>);

impl WriteGate {
    /// Resets the counts and sets a limit, if any.
    pub(super) fn set(&self, limit: Option<WriteLimit>) {
        self.0.send_modify(|counts| {
            // Pending writes still get their responses.
            let WriteCounts { pending, generation, latest, .. } = *counts;
            *counts = WriteCounts { limit, pending, generation, latest, ..WriteCounts::default() };
        });
    }

    /// Removes the limit without resetting the counts.
    pub(super) fn open(&self) {
        self.0.send_modify(|counts| counts.limit = None);
    }

    /// Discards the blocked writes of a killed operator and removes the limit for its successor.
    pub(super) fn discard_pending(&self) {
        self.0.send_modify(|counts| {
            counts.generation += 1;
            counts.limit = None;
        });
    }

    /// Whether the operator has reached the limit.
    pub(super) fn is_stopped(&self) -> bool {
        self.0.borrow().stopped
    }

    /// Executed writes since the gate was set.
    pub(super) fn writes(&self) -> Vec<CompletedWrite> {
        self.0.borrow().writes.clone()
    }

    /// Number of writes sent since the gate was set, including rejected ones.
    pub(super) fn sent(&self) -> usize {
        self.0.borrow().sent
    }

    /// Waits until the operator reaches the limit.
    pub(super) async fn wait_stopped(&self) {
        self.until(|counts| counts.stopped).await;
    }

    /// Waits until the server has responded to all sent writes.
    pub(super) async fn wait_completed(&self) {
        self.until(|counts| counts.pending == 0).await;
    }

    /// Waits until no write was sent for `time`.
    pub(super) async fn wait_quiet(&self, time: Duration) {
        loop {
            let since = self.0.borrow().latest.map_or(time, |latest| latest.elapsed());
            match time.checked_sub(since).filter(|rest| !rest.is_zero()) {
                // Only elapsed time shows that no write follows.
                Some(rest) => tokio::time::sleep(rest).await,
                None => return,
            }
        }
    }

    /// Waits until one more write may be sent; returns its number.
    pub(super) async fn admit(&self) -> usize {
        let mut changes = self.0.subscribe();
        let generation = changes.borrow().generation;
        loop {
            let mut number = None;
            self.0.send_modify(|counts| number = counts.admit());
            if let Some(number) = number {
                return number;
            }
            let opened = changes.wait_for(|counts| counts.limit.is_none() || counts.generation != generation).await;
            if !opened.is_ok_and(|counts| counts.generation == generation) {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Records the response to the write with this number; returns whether to forward it to the operator.
    pub(super) fn complete(&self, number: usize, write: Option<CompletedWrite>) -> bool {
        let mut forward = false;
        self.0.send_modify(|counts| forward = counts.complete(number, write));
        forward
    }

    async fn until(&self, condition: impl FnMut(&WriteCounts) -> bool) {
        // Fails only if the sender is dropped, but `self` owns it.
        let _ = self.0.subscribe().wait_for(condition).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(writes: usize, mode: StopMode) -> WriteCounts {
        WriteCounts { limit: Some(WriteLimit { writes, mode }), ..WriteCounts::default() }
    }

    fn write() -> CompletedWrite {
        CompletedWrite { request: "PATCH /a".to_owned(), mesh_object: true }
    }

    #[test]
    fn blocks_write_after_limit() {
        let mut counts = counts(1, StopMode::BeforeNextWrite);
        assert_eq!(counts.admit(), Some(1));
        assert!(counts.complete(1, Some(write())) && !counts.stopped);
        assert_eq!(counts.admit(), None);
        assert!(counts.stopped);
        counts.limit = None;
        assert_eq!((counts.admit(), counts.writes.len()), (Some(2), 1));
    }

    #[test]
    fn loses_response_of_last_concurrent_write() {
        let mut counts = counts(2, StopMode::ResponseLost);
        assert_eq!((counts.admit(), counts.admit(), counts.admit()), (Some(1), Some(2), None));
        assert!(!counts.complete(2, Some(write())) && counts.stopped);
        assert!(counts.complete(1, Some(write())));
        assert_eq!((counts.writes.len(), counts.pending), (2, 0));
    }

    #[test]
    fn rejected_writes_count_as_sent_only() {
        let mut counts = counts(5, StopMode::BeforeNextWrite);
        assert_eq!(counts.admit(), Some(1));
        assert!(counts.complete(1, None));
        assert_eq!((counts.sent, counts.writes.len()), (1, 0));
    }
}
