//! The loop that holds the lease: looks, decides, writes, and keeps the time.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::step::{Candidate, Decision, Observed};
use super::store::{Hold, KubeStore, Store, WriteError};
use super::{LeaderConfig, LeaderState, LeaseLostError, LossReason};
use crate::runtime::client::Clients;

// The end of the process isn't held up for longer to release a lease that also expires by itself.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// A candidate for the lease.
pub struct Leader {
    driver: Driver<KubeStore>,
}

impl Leader {
    /// A candidate that does nothing until [`Leader::run`], and where it stands.
    #[must_use]
    pub fn new(clients: &Clients, config: LeaderConfig) -> (Self, watch::Receiver<LeaderState>) {
        let store = KubeStore::new(clients, &config.namespace);
        let (driver, state) = Driver::new(store, config);
        (Self { driver }, state)
    }

    /// Stands by, leads and renews until `finished` is cancelled; then the lease is released, so that a standby takes
    /// over at once. Cancel `finished` only when nothing writes any more.
    ///
    /// Fails when the lease is lost after having been held: the process must end.
    pub async fn run(self, finished: CancellationToken) -> Result<(), LeaseLostError> {
        self.driver.run(finished).await
    }
}

struct Driver<S> {
    store: S,
    config: LeaderConfig,
    candidate: Candidate,
    state: watch::Sender<LeaderState>,
    /// The lease as last read or written; `Unknown` makes the next look a read.
    last: Observed,
    /// The last failure that was logged, until it is over.
    complaint: Option<String>,
}

impl<S: Store> Driver<S> {
    fn new(store: S, config: LeaderConfig) -> (Self, watch::Receiver<LeaderState>) {
        let (state, receiver) = watch::channel(LeaderState::Standby { holder: None });
        let candidate = Candidate::new(config.identity.clone(), config.timing);
        (Self { store, config, candidate, state, last: Observed::Unknown, complaint: None }, receiver)
    }

    async fn run(mut self, finished: CancellationToken) -> Result<(), LeaseLostError> {
        let end = tokio::select! {
            biased;
            () = finished.cancelled() => None,
            reason = self.contend() => Some(reason),
        };
        // Whoever listens must know before anybody else can hold the lease.
        self.state.send_replace(LeaderState::Stopped);
        if let Some(reason) = end {
            let LeaderConfig { identity, namespace, .. } = self.config;
            return Err(LeaseLostError { identity, namespace, reason });
        }
        self.release().await;
        Ok(())
    }

    /// Goes on until the lease is lost.
    async fn contend(&mut self) -> LossReason {
        // Only a standby watches: it hears of a release at once. A leader hears of everything from its own writes.
        let mut changes = None;
        loop {
            if self.last == Observed::Unknown {
                self.last = self.read().await;
            }
            let decision = self.candidate.step(&self.last, now());
            debug!(?decision, last = ?self.last, "lease");
            match decision {
                Decision::Stop(reason) => return reason,
                Decision::Wait { until } => {
                    self.complaint.take_if(|_| self.last != Observed::Unknown);
                    self.wait(until, &mut changes).await;
                }
                Decision::Create => self.hold(None, 0).await,
                Decision::Hold { version, transitions } => self.hold(Some(version), transitions).await,
            }
            self.tell();
        }
    }

    async fn wait(&mut self, until: Instant, changes: &mut Option<BoxStream<'static, Observed>>) {
        if self.candidate.is_leading() {
            *changes = None;
            sleep_until(until.into()).await;
            return;
        }
        let changes = changes.get_or_insert_with(|| self.store.changes());
        self.last = tokio::select! {
            Some(change) = changes.next() => change,
            () = sleep_until(until.into()) => Observed::Unknown,
        };
    }

    async fn read(&mut self) -> Observed {
        match timeout_at(self.limit().into(), self.store.read()).await {
            Ok(Ok(observed)) => observed,
            Ok(Err(error)) => self.fail(&error.to_string()),
            Err(_) => self.fail("no answer in time"),
        }
    }

    async fn hold(&mut self, version: Option<String>, transitions: i32) {
        let acquired = !self.candidate.is_leading();
        let LeaderConfig { identity, timing, .. } = &self.config;
        let hold = Hold { identity: identity.clone(), duration: timing.lease_duration, transitions, acquired };
        let begun = now();
        let write = async {
            match &version {
                Some(version) => self.store.update(&hold, version).await,
                None => self.store.create(&hold).await,
            }
        };
        self.last = match timeout_at(self.limit().into(), write).await {
            Ok(Ok(written)) => {
                self.candidate.held(begun);
                self.complaint = None;
                written
            }
            Ok(Err(WriteError::Conflict)) => Observed::Unknown,
            Ok(Err(WriteError::Failed(error))) => self.pause_after(&error.to_string()).await,
            Err(_) => self.pause_after("no answer in time").await,
        };
    }

    /// A failed write is tried again after a pause, from a fresh read; the lease may be ours without our knowing.
    async fn pause_after(&mut self, error: &str) -> Observed {
        let pause = now() + self.config.timing.retry_period;
        let until = self.candidate.deadline().map_or(pause, |deadline| deadline.min(pause));
        let observed = self.fail(error);
        sleep_until(until.into()).await;
        observed
    }

    /// When a request must have been answered: in time for another try, and before the deadline of a leader.
    fn limit(&self) -> Instant {
        let limit = now() + self.config.timing.renew_deadline / 2;
        self.candidate.deadline().map_or(limit, |deadline| deadline.min(limit))
    }

    // A failure that lasts is news once.
    fn fail(&mut self, error: &str) -> Observed {
        let namespace = &self.config.namespace;
        if self.complaint.as_deref() == Some(error) {
            debug!(error, namespace, "the lease is still out of reach");
        } else {
            warn!(error, namespace, "the lease can't be read or written");
            self.complaint = Some(error.to_owned());
        }
        Observed::Unknown
    }

    fn tell(&self) {
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
            // The end may have come in the middle of a write: only the server knows the version and the holder.
            let observed = self.store.read().await.map_err(WriteError::Failed)?;
            match &observed {
                Observed::Present { record, version } if record.holder.as_ref() == Some(&self.config.identity) => {
                    self.store.release(version).await
                }
                _ => Ok(()),
            }
        };
        match timeout(RELEASE_TIMEOUT, release).await {
            Ok(Ok(())) => info!(identity = self.config.identity, "lease released"),
            Ok(Err(error)) => warn!(?error, "the lease was not released; it expires by itself"),
            Err(_) => warn!("the lease was not released in time; it expires by itself"),
        }
    }
}

/// The runtime's monotonic clock.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests;
