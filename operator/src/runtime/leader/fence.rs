//! Fencing: a process sends writes only while it holds the lease.
//!
//! A write is refused if the lease was not renewed within the renew deadline, and one that is in progress then is
//! aborted. Another candidate takes over only after the lease duration, so that each request has ended by then. The
//! clock counts the time in which the system was suspended: a process that resumes doesn't know yet that it has lost
//! the lease.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use thiserror::Error;
use tokio::time::sleep;
use tower::BoxError;

use super::{LEASE_NAME, Timing};

/// Tokio's timers stop while the system is suspended, so that the deadline of a write in progress is checked this often.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Time since the system was started, including the time in which it was suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BootTime(Duration);

impl BootTime {
    pub(super) fn now() -> Self {
        #[cfg(target_os = "linux")]
        let clock = ClockId::Boottime;
        // The clock of other systems that is closest; the operator runs on Linux.
        #[cfg(not(target_os = "linux"))]
        let clock = ClockId::Monotonic;
        Self(Duration::try_from(clock_gettime(clock)).unwrap_or_default())
    }
}

/// This process doesn't hold the lease.
#[derive(Debug, Error)]
#[error("the write was not sent or was aborted, because this process does not hold the lease {LEASE_NAME}")]
pub struct LeaseNotHeldError;

/// Lets writes pass while the lease is held. Clones share the state.
#[derive(Clone, Debug)]
pub struct LeaseFence {
    /// Start of the last renewal; `None` if this process is not the leader.
    renewed: Arc<Mutex<Option<BootTime>>>,
    limit: Duration,
}

impl LeaseFence {
    /// A fence that refuses writes until the lease is acquired.
    pub(super) fn new(timing: Timing) -> Self {
        Self { renewed: Arc::default(), limit: timing.renew_deadline }
    }

    /// A fence that lets writes pass.
    #[cfg(test)]
    pub(crate) fn open() -> Self {
        let fence = Self::new(Timing::of_lease(60));
        fence.renewed_at(BootTime::now());
        fence
    }

    fn lock(&self) -> MutexGuard<'_, Option<BootTime>> {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a renewal that started at this time.
    pub(super) fn renewed_at(&self, started: BootTime) {
        *self.lock() = Some(started);
    }

    /// Refuses all writes from now on.
    pub(in crate::runtime) fn close(&self) {
        *self.lock() = None;
    }

    /// Runs a write unless the lease is not held, and aborts it when the lease may be lost. Each step checks that first,
    /// since waiting for a connection may have taken long.
    pub async fn guard<T>(&self, write: impl Future<Output = Result<T, BoxError>>) -> Result<T, BoxError> {
        let mut write = pin!(write);
        let mut lost = pin!(self.lost());
        poll_fn(|context| {
            if let Err(lost) = self.time_left(BootTime::now()) {
                return Poll::Ready(Err(lost.into()));
            }
            if let Poll::Ready(result) = write.as_mut().poll(context) {
                return Poll::Ready(result);
            }
            lost.as_mut().poll(context).map(|lost| Err(lost.into()))
        })
        .await
    }

    /// Returns when the lease is not held any more.
    async fn lost(&self) -> LeaseNotHeldError {
        loop {
            match self.time_left(BootTime::now()) {
                Ok(left) => sleep(left.min(CHECK_INTERVAL)).await,
                Err(lost) => return lost,
            }
        }
    }

    /// How long writes may take without another renewal.
    fn time_left(&self, now: BootTime) -> Result<Duration, LeaseNotHeldError> {
        let renewed = self.lock().ok_or(LeaseNotHeldError)?;
        let since = now.0.saturating_sub(renewed.0);
        self.limit.checked_sub(since).filter(|left| !left.is_zero()).ok_or(LeaseNotHeldError)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const fn at(seconds: u64) -> BootTime {
        BootTime(Duration::from_secs(seconds))
    }

    #[test]
    fn refuses_writes_without_recent_renewal() {
        let fence = LeaseFence::new(Timing::of_lease(15));
        assert!(fence.time_left(at(100)).is_err(), "a standby");
        fence.renewed_at(at(100));
        assert_eq!(fence.time_left(at(103)).ok(), Some(Duration::from_secs(7)));
        assert!(fence.time_left(at(110)).is_err(), "a suspended leader");
        fence.renewed_at(at(108));
        assert_eq!(fence.time_left(at(110)).ok(), Some(Duration::from_secs(8)));
        fence.close();
        assert!(fence.time_left(at(110)).is_err(), "a stopped leader");
    }

    #[test]
    fn boot_time_advances() {
        let before = BootTime::now();
        assert!(before > at(0) && BootTime::now() >= before);
    }

    #[tokio::test(start_paused = true)]
    async fn aborts_write_when_lease_is_lost() {
        let fence = LeaseFence::open();
        assert!(fence.guard(ready(Ok::<_, BoxError>(()))).await.is_ok());
        let closing = fence.clone();
        tokio::spawn(async move {
            sleep(Duration::from_secs(5)).await;
            closing.close();
        });
        let error = fence.guard(pending::<Result<(), BoxError>>()).await.unwrap_err();
        assert!(error.is::<LeaseNotHeldError>(), "{error}");
    }
}
