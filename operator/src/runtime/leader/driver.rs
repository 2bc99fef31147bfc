//! The loop that acquires and renews the lease.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::fence::{BootTime, LeaseFence};
use super::step::{LeaseCandidate, LeaseDecision, ObservedLease};
use super::store::{KubeLeaseStore, LeaseClaim, LeaseStore, LeaseWriteError};
use super::{LeaderConfig, LeaderState, LeaseLostError, LossReason};
use crate::runtime::client::Clients;

// Limits the delay of the shutdown, because an unreleased lease expires by itself.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// A candidate for the lease.
pub struct Leader {
    driver: Driver<KubeLeaseStore>,
}

impl Leader {
    /// Returns a candidate, which starts with [`Leader::run`], and its state.
    #[must_use]
    pub fn new(clients: &Clients, config: LeaderConfig) -> (Self, watch::Receiver<LeaderState>) {
        let store = KubeLeaseStore::new(clients, &config.namespace);
        let (driver, state) = Driver::new(store, config);
        (Self { driver }, state)
    }

    /// The fence that lets writes pass while this candidate is the leader.
    #[must_use]
    pub fn fence(&self) -> LeaseFence {
        self.driver.fence.clone()
    }

    /// Runs the election until `finished` is cancelled and then releases the lease, so that a standby takes over
    /// immediately. Cancel `finished` only after all writes have stopped.
    ///
    /// Returns an error if this candidate was the leader and lost the lease. The process must then exit.
    pub async fn run(self, finished: CancellationToken) -> Result<(), LeaseLostError> {
        self.driver.run(finished).await
    }
}

struct Driver<S> {
    store: S,
    config: LeaderConfig,
    candidate: LeaseCandidate,
    state: watch::Sender<LeaderState>,
    fence: LeaseFence,
    /// The lease as last read or written. `Unknown` triggers a read.
    last: ObservedLease,
    /// The last logged error, until a request succeeds.
    last_error: Option<String>,
}

impl<S: LeaseStore> Driver<S> {
    fn new(store: S, config: LeaderConfig) -> (Self, watch::Receiver<LeaderState>) {
        let (state, receiver) = watch::channel(LeaderState::Standby { holder: None });
        let candidate = LeaseCandidate::new(config.identity.clone(), config.timing);
        let fence = LeaseFence::new(config.timing);
        (Self { store, config, candidate, state, fence, last: ObservedLease::Unknown, last_error: None }, receiver)
    }

    async fn run(mut self, finished: CancellationToken) -> Result<(), LeaseLostError> {
        let lost = tokio::select! {
            biased;
            () = finished.cancelled() => None,
            reason = self.contend() => Some(reason),
        };
        // Writes must end and receivers be notified before another candidate can acquire the lease.
        self.fence.close();
        self.state.send_replace(LeaderState::Stopped);
        if let Some(reason) = lost {
            let LeaderConfig { identity, namespace, .. } = self.config;
            return Err(LeaseLostError { identity, namespace, reason });
        }
        self.release().await;
        Ok(())
    }

    /// Runs until the lease is lost.
    async fn contend(&mut self) -> LossReason {
        // Only a standby watches the lease, to notice a release immediately. The leader sees changes in its own writes.
        let mut changes = None;
        loop {
            if self.last == ObservedLease::Unknown {
                self.last = self.read().await;
            }
            let decision = self.candidate.step(&self.last, now());
            debug!(?decision, last = ?self.last, "lease");
            match decision {
                LeaseDecision::Stop(reason) => return reason,
                LeaseDecision::Wait { until } => {
                    self.last_error.take_if(|_| self.last != ObservedLease::Unknown);
                    self.wait(until, &mut changes).await;
                }
                LeaseDecision::Create => self.write(None, 0).await,
                LeaseDecision::Update { version, transitions } => self.write(Some(version), transitions).await,
            }
            self.publish_state();
        }
    }

    async fn wait(&mut self, until: Instant, changes: &mut Option<BoxStream<'static, ObservedLease>>) {
        if self.candidate.is_leading() {
            *changes = None;
            sleep_until(until.into()).await;
            return;
        }
        let changes = changes.get_or_insert_with(|| self.store.changes());
        self.last = tokio::select! {
            Some(change) = changes.next() => change,
            () = sleep_until(until.into()) => ObservedLease::Unknown,
        };
    }

    async fn read(&mut self) -> ObservedLease {
        match timeout_at(self.request_deadline().into(), self.store.read()).await {
            Ok(Ok(observed)) => observed,
            Ok(Err(error)) => self.fail(&error.to_string()),
            Err(_) => self.fail("no response in time"),
        }
    }

    async fn write(&mut self, version: Option<String>, transitions: i32) {
        let acquired = !self.candidate.is_leading();
        let LeaderConfig { identity, timing, .. } = &self.config;
        let claim = LeaseClaim { identity: identity.clone(), duration: timing.lease_duration, transitions, acquired };
        let (started, since_boot) = (now(), BootTime::now());
        let write = async {
            match &version {
                Some(version) => self.store.update(&claim, version).await,
                None => self.store.create(&claim).await,
            }
        };
        self.last = match timeout_at(self.request_deadline().into(), write).await {
            Ok(Ok(written)) => {
                self.candidate.renewed_at(started);
                self.fence.renewed_at(since_boot);
                self.last_error = None;
                written
            }
            Ok(Err(LeaseWriteError::Conflict)) => ObservedLease::Unknown,
            Ok(Err(LeaseWriteError::Failed(error))) => self.retry_after_error(&error.to_string()).await,
            Err(_) => self.retry_after_error("no response in time").await,
        };
    }

    /// Waits before a failed write is retried with a new read, because the server may have persisted the write.
    async fn retry_after_error(&mut self, error: &str) -> ObservedLease {
        let retry = now() + self.config.timing.retry_period;
        let until = self.candidate.deadline().map_or(retry, |deadline| deadline.min(retry));
        let observed = self.fail(error);
        sleep_until(until.into()).await;
        observed
    }

    /// Deadline of a request, which leaves time for a retry and precedes the renew deadline of the leader.
    fn request_deadline(&self) -> Instant {
        let limit = now() + self.config.timing.renew_deadline / 2;
        self.candidate.deadline().map_or(limit, |deadline| deadline.min(limit))
    }

    // Logs a persistent error only once.
    fn fail(&mut self, error: &str) -> ObservedLease {
        let namespace = &self.config.namespace;
        if self.last_error.as_deref() == Some(error) {
            debug!(error, namespace, "the lease is still inaccessible");
        } else {
            warn!(error, namespace, "the lease can't be read or written");
            self.last_error = Some(error.to_owned());
        }
        ObservedLease::Unknown
    }

    fn publish_state(&self) {
        let state = if self.candidate.is_leading() {
            LeaderState::Leading
        } else {
            LeaderState::Standby { holder: self.candidate.holder().map(str::to_owned) }
        };
        self.state.send_if_modified(|current| {
            let changed = *current != state;
            if changed {
                info!(identity = self.config.identity, ?state, "leader election");
                *current = state;
            }
            changed
        });
    }

    async fn release(&self) {
        let release = async {
            // A write may have been interrupted, so read the current version and holder from the server.
            let observed = self.store.read().await.map_err(LeaseWriteError::Failed)?;
            match &observed {
                ObservedLease::Present { record, version } if record.holder.as_ref() == Some(&self.config.identity) => {
                    self.store.release(version).await
                }
                _ => Ok(()),
            }
        };
        match timeout(RELEASE_TIMEOUT, release).await {
            Ok(Ok(())) => info!(identity = self.config.identity, "lease released"),
            Ok(Err(error)) => warn!(?error, "releasing the lease failed; it expires by itself"),
            Err(_) => warn!("releasing the lease timed out; it expires by itself"),
        }
    }
}

/// The runtime's monotonic clock.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests;
