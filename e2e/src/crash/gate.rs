//! Counts the operator's writes, and stops it at one of them.

use std::time::{Duration, Instant};

use tokio::sync::watch;

/// A number of writes, and what becomes of the last of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit {
    /// How many are let through.
    pub(super) writes: usize,
    /// What stops the operator.
    pub(super) stop: Stop,
}

/// What stops the operator at a limit. Both happen in life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// One write more is asked for, and doesn't reach the server.
    NextUnsent,
    /// The last write is carried out, and its answer is lost.
    LastUnanswered,
}

/// A write that the server has carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    /// Such as `PATCH /api/v1/namespaces/istio-system/configmaps/istio`.
    pub(super) request: String,
    /// Whether it was about an object of the mesh.
    pub(super) of_mesh: bool,
}

/// What has passed since the gate was last set. Pure.
#[derive(Debug, Default)]
struct Tally {
    limit: Option<Limit>,
    sent: usize,
    unanswered: usize,
    stopped: bool,
    /// How many operators were buried: what they have asked for isn't sent any more.
    buried: usize,
    writes: Vec<Write>,
    latest: Option<Instant>,
}

impl Tally {
    /// The number of a write that may be sent; `None`: it may not.
    fn enter(&mut self) -> Option<usize> {
        if self.limit.is_some_and(|limit| self.sent >= limit.writes) {
            self.stopped = true;
            return None;
        }
        self.sent += 1;
        self.unanswered += 1;
        self.latest = Some(Instant::now());
        Some(self.sent)
    }

    /// Notes an answer; false when it is to be lost.
    fn answer(&mut self, number: usize, write: Option<Write>) -> bool {
        self.unanswered -= 1;
        self.latest = Some(Instant::now());
        self.writes.extend(write);
        let last = Limit { writes: number, stop: Stop::LastUnanswered };
        self.stopped |= self.limit == Some(last);
        self.limit != Some(last)
    }
}

/// Lets writes through, as many as it is set to. Whoever waits sees each change.
#[derive(Debug, Default)]
pub(super) struct Gate(watch::Sender<Tally>);

impl Gate {
    /// From now on: counts anew, and stops at a limit, if any.
    pub(super) fn set(&self, limit: Option<Limit>) {
        self.0.send_modify(|tally| {
            // What is under way is answered all the same.
            let Tally { unanswered, buried, latest, .. } = *tally;
            *tally = Tally { limit, unanswered, buried, latest, ..Tally::default() };
        });
    }

    /// Lets everything through, and goes on counting.
    pub(super) fn open(&self) {
        self.0.send_modify(|tally| tally.limit = None);
    }

    /// Drops what a dead operator has asked for, and lets everything through that its successor asks for.
    pub(super) fn bury(&self) {
        self.0.send_modify(|tally| {
            tally.buried += 1;
            tally.limit = None;
        });
    }

    /// Whether the operator has come to the limit.
    pub(super) fn is_stopped(&self) -> bool {
        self.0.borrow().stopped
    }

    /// What has been written since the gate was set.
    pub(super) fn writes(&self) -> Vec<Write> {
        self.0.borrow().writes.clone()
    }

    /// How many were sent since the gate was set, whatever the server said to them.
    pub(super) fn sent(&self) -> usize {
        self.0.borrow().sent
    }

    /// Waits until the operator has come to the limit.
    pub(super) async fn stopped(&self) {
        self.until(|tally| tally.stopped).await;
    }

    /// Waits until the server has answered all that was sent.
    pub(super) async fn all_answered(&self) {
        self.until(|tally| tally.unanswered == 0).await;
    }

    /// Waits until nothing was written for a while.
    pub(super) async fn quiet(&self, time: Duration) {
        loop {
            let since = self.0.borrow().latest.map_or(time, |latest| latest.elapsed());
            match time.checked_sub(since).filter(|rest| !rest.is_zero()) {
                // Quiet is the absence of writes: only time shows it.
                Some(rest) => tokio::time::sleep(rest).await,
                None => return,
            }
        }
    }

    /// Waits until one more may be sent; answers with its number.
    pub(super) async fn pass(&self) -> usize {
        let mut changes = self.0.subscribe();
        let asked = changes.borrow().buried;
        loop {
            let mut number = None;
            self.0.send_modify(|tally| number = tally.enter());
            if let Some(number) = number {
                return number;
            }
            let opened = changes.wait_for(|tally| tally.limit.is_none() || tally.buried != asked).await;
            if !opened.is_ok_and(|tally| tally.buried == asked) {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Notes an answer to the write of that number; false when it is to be lost.
    pub(super) fn answered(&self, number: usize, write: Option<Write>) -> bool {
        let mut passes_on = false;
        self.0.send_modify(|tally| passes_on = tally.answer(number, write));
        passes_on
    }

    async fn until(&self, holds: impl FnMut(&Tally) -> bool) {
        // The sender is ours, so it is there.
        let _ = self.0.subscribe().wait_for(holds).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(writes: usize, stop: Stop) -> Tally {
        Tally { limit: Some(Limit { writes, stop }), ..Tally::default() }
    }

    fn write() -> Write {
        Write { request: "PATCH /a".to_owned(), of_mesh: true }
    }

    #[test]
    fn the_write_after_the_last_is_not_sent() {
        let mut tally = tally(1, Stop::NextUnsent);
        assert_eq!(tally.enter(), Some(1));
        assert!(tally.answer(1, Some(write())) && !tally.stopped);
        assert_eq!(tally.enter(), None);
        assert!(tally.stopped);
        tally.limit = None;
        assert_eq!((tally.enter(), tally.writes.len()), (Some(2), 1));
    }

    #[test]
    fn of_writes_at_a_time_the_last_ones_answer_is_lost() {
        let mut tally = tally(2, Stop::LastUnanswered);
        assert_eq!((tally.enter(), tally.enter(), tally.enter()), (Some(1), Some(2), None));
        assert!(!tally.answer(2, Some(write())) && tally.stopped);
        assert!(tally.answer(1, Some(write())));
        assert_eq!((tally.writes.len(), tally.unanswered), (2, 0));
    }

    #[test]
    fn refused_writes_count_on_the_way_and_not_among_what_was_written() {
        let mut tally = tally(5, Stop::NextUnsent);
        assert_eq!(tally.enter(), Some(1));
        assert!(tally.answer(1, None));
        assert_eq!((tally.sent, tally.writes.len()), (1, 0));
    }
}
