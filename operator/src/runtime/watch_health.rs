//! Decides when a watch that keeps failing starts over with a new list. PURE.
//!
//! kube repeats a failed start of a watch from the last version that it has seen, without a limit. The cache gets older
//! in the meantime, and the next watch may have to report all that has happened since.

use std::time::{Duration, Instant};

use kube_runtime::watcher;

/// Consecutive failures after which the cache counts as outdated.
const MAX_FAILURES: u32 = 5;
/// Failures with more time between them are not consecutive. kube waits for up to a minute between attempts.
const RESET: Duration = Duration::from_mins(2);
/// Delay of a new list for each further failure.
const DELAY: Duration = Duration::from_secs(10);
const MAX_DELAY: Duration = Duration::from_secs(30);
/// The connection may have failed with data that arrived later, such as the first part of a large event.
const DATA_AGE: Duration = Duration::from_secs(1);

/// Consecutive failures of a watch.
#[derive(Clone, Copy, Debug, Default)]
pub struct WatchHealth {
    failures: u32,
    last: Option<Instant>,
}

impl WatchHealth {
    /// Records an event of the watch. A completed list is none: the start of the watch may fail after each one.
    pub const fn recover(&mut self) {
        self.failures = 0;
    }

    /// Records an error of a watch that last delivered data, such as a bookmark, at `last_data`. Returns the delay of a
    /// new list, if the watch has failed too often.
    pub fn note_error(&mut self, error: &watcher::Error, last_data: Option<Instant>, now: Instant) -> Option<Duration> {
        let has_delivered = last_data.is_some_and(|data| {
            self.last.is_some_and(|failure| data > failure) && now.saturating_duration_since(data) >= DATA_AGE
        });
        if has_delivered && is_connection_error(error) {
            self.recover();
        }
        self.fail(now)
    }

    /// Records a failure. Returns the delay of a new list, if the watch has failed too often.
    fn fail(&mut self, now: Instant) -> Option<Duration> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) > RESET) {
            self.failures = 0;
        }
        self.last = Some(now);
        self.failures = self.failures.saturating_add(1);
        let further = self.failures.checked_sub(MAX_FAILURES)?;
        Some(DELAY.saturating_mul(further).min(MAX_DELAY))
    }
}

/// Whether the error ends a request, rather than being part of the data.
const fn is_connection_error(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchFailed(kube::Error::ReadEvents(_)) | watcher::Error::WatchStartFailed(_))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// The delays after failures at these seconds.
    fn delays(health: &mut WatchHealth, start: Instant, at: &[u64]) -> Vec<Option<u64>> {
        let fail = |seconds: &u64| health.fail(start + Duration::from_secs(*seconds)).map(|delay| delay.as_secs());
        at.iter().map(fail).collect()
    }

    #[test]
    fn lists_again_after_consecutive_failures() {
        let (mut health, start) = (WatchHealth::default(), Instant::now());
        let expected = [None, None, None, None, Some(0), Some(10), Some(20), Some(30), Some(30)];
        assert_eq!(delays(&mut health, start, &[0, 1, 3, 7, 15, 16, 27, 48, 79]), expected);
        health.recover();
        assert_eq!(delays(&mut health, start, &[80]), [None], "an event ends the failures");
    }

    #[test]
    fn resumed_watch_is_not_listed_again() {
        let start = Instant::now();
        let relists = |error: &watcher::Error, data: &dyn Fn(u64) -> u64| {
            let mut health = WatchHealth::default();
            let after = |seconds: u64| start + Duration::from_secs(seconds);
            (1..20).any(|n| health.note_error(error, Some(after(data(n * 60))), after(n * 60)).is_some())
        };
        let reset = watcher::Error::WatchFailed(kube::Error::ReadEvents(io::ErrorKind::ConnectionReset.into()));
        assert!(!relists(&reset, &|now| now - 20), "data since the last failure");
        assert!(relists(&reset, &|_| 0), "no data since the first failure");
        assert!(relists(&reset, &|now| now), "the data may be incomplete");
        assert!(relists(&watcher::Error::NoResourceVersion, &|now| now - 20), "the error is part of the data");
    }

    #[test]
    fn rare_failures_are_not_consecutive() {
        let (mut health, start) = (WatchHealth::default(), Instant::now());
        let rare: Vec<u64> = (0..20).map(|n| n * 121).collect();
        assert_eq!(delays(&mut health, start, &rare), vec![None; 20]);
        let frequent: Vec<u64> = (1..=5).map(|n| 19 * 121 + n * 120).collect();
        assert_eq!(delays(&mut health, start, &frequent)[3], Some(0), "with the last of the rare ones");
    }
}
