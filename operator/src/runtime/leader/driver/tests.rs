//! Tests of candidates with an in-memory lease and paused time.

use std::future::pending;
use std::sync::{Arc, Mutex};

use tokio::task::JoinHandle;

use super::super::Timing;
use super::super::step::LeaseRecord;
use super::*;

#[derive(Default)]
struct FakeServer {
    lease: Option<LeaseRecord>,
    version: u64,
    hangs: bool,
    writes: u32,
}

/// A candidate's access to the server.
#[derive(Clone)]
struct FakeStore {
    server: Arc<Mutex<FakeServer>>,
    changed: watch::Sender<u64>,
}

impl FakeStore {
    fn new() -> Self {
        Self { server: Arc::default(), changed: watch::channel(0).0 }
    }

    async fn respond(&self) {
        if self.server.lock().unwrap().hangs {
            pending::<()>().await;
        }
    }

    fn observed(&self) -> ObservedLease {
        let server = self.server.lock().unwrap();
        match &server.lease {
            None => ObservedLease::Absent,
            Some(record) => ObservedLease::Present { record: record.clone(), version: server.version.to_string() },
        }
    }

    fn write(
        &self,
        expected: Option<&str>,
        change: impl FnOnce(&mut LeaseRecord),
    ) -> Result<ObservedLease, LeaseWriteError> {
        {
            let mut server = self.server.lock().unwrap();
            let current = server.lease.is_some().then(|| server.version.to_string());
            if current.as_deref() != expected {
                return Err(LeaseWriteError::Conflict);
            }
            server.version += 1;
            server.writes += 1;
            let mut record = server.lease.take().unwrap_or_default();
            record.renewed = Some(server.version.to_string());
            change(&mut record);
            server.lease = Some(record);
            self.changed.send_replace(server.version);
        }
        Ok(self.observed())
    }

    fn holder(&self) -> Option<String> {
        self.server.lock().unwrap().lease.clone().and_then(|record| record.holder)
    }
}

fn claimed_by(claim: &LeaseClaim) -> impl FnOnce(&mut LeaseRecord) {
    let claim = claim.clone();
    move |record| {
        record.holder = Some(claim.identity);
        record.duration = Some(claim.duration);
        record.transitions = claim.transitions;
    }
}

impl LeaseStore for FakeStore {
    async fn read(&self) -> Result<ObservedLease, Box<kube::Error>> {
        self.respond().await;
        Ok(self.observed())
    }

    async fn create(&self, claim: &LeaseClaim) -> Result<ObservedLease, LeaseWriteError> {
        self.respond().await;
        self.write(None, claimed_by(claim))
    }

    async fn update(&self, claim: &LeaseClaim, version: &str) -> Result<ObservedLease, LeaseWriteError> {
        self.respond().await;
        self.write(Some(version), claimed_by(claim))
    }

    async fn release(&self, version: &str) -> Result<(), LeaseWriteError> {
        self.respond().await;
        self.write(Some(version), |record| record.holder = None).map(drop)
    }

    fn changes(&self) -> BoxStream<'static, ObservedLease> {
        let (store, changed) = (self.clone(), self.changed.subscribe());
        futures::stream::unfold((store, changed), async |(store, mut changed)| {
            changed.changed().await.ok()?;
            Some((store.observed(), (store, changed)))
        })
        .boxed()
    }
}

struct Replica {
    state: watch::Receiver<LeaderState>,
    finished: CancellationToken,
    task: JoinHandle<Result<(), LeaseLostError>>,
}

impl Replica {
    fn start(store: &FakeStore, identity: &str) -> Self {
        let config = LeaderConfig {
            identity: identity.to_owned(),
            namespace: "meshwright-system".to_owned(),
            timing: Timing::of_lease(15),
        };
        let (driver, state) = Driver::new(store.clone(), config);
        let finished = CancellationToken::new();
        let task = tokio::spawn(driver.run(finished.clone()));
        Self { state, finished, task }
    }

    async fn wait_until_leading(&mut self) {
        self.state.wait_for(|state| *state == LeaderState::Leading).await.unwrap();
    }

    async fn wait_until_standby(&mut self, holder: &str) {
        let expected = LeaderState::Standby { holder: Some(holder.to_owned()) };
        self.state.wait_for(|state| *state == expected).await.unwrap();
    }
}

async fn leader_and_standby(store: &FakeStore) -> (Replica, Replica) {
    let mut leader = Replica::start(store, "a");
    leader.wait_until_leading().await;
    let mut standby = Replica::start(store, "b");
    standby.wait_until_standby("a").await;
    (leader, standby)
}

#[tokio::test(start_paused = true)]
async fn leader_keeps_the_lease() {
    let store = FakeStore::new();
    let (leader, standby) = leader_and_standby(&store).await;
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(*leader.state.borrow(), LeaderState::Leading);
    assert_eq!(*standby.state.borrow(), LeaderState::Standby { holder: Some("a".to_owned()) });
}

#[tokio::test(start_paused = true)]
async fn standby_takes_over_released_lease_immediately() {
    let store = FakeStore::new();
    let (leader, mut standby) = leader_and_standby(&store).await;
    let before = tokio::time::Instant::now();
    leader.finished.cancel();
    leader.task.await.unwrap().unwrap();
    standby.wait_until_leading().await;
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert_eq!(store.holder().as_deref(), Some("b"));
}

#[tokio::test(start_paused = true)]
async fn standby_takes_over_expired_lease() {
    let store = FakeStore::new();
    let (leader, mut standby) = leader_and_standby(&store).await;
    leader.task.abort();
    let before = tokio::time::Instant::now();
    standby.wait_until_leading().await;
    assert!(before.elapsed() <= Duration::from_secs(16), "{:?}", before.elapsed());
    assert_eq!(store.holder().as_deref(), Some("b"));
}

#[tokio::test(start_paused = true)]
async fn leader_without_response_fails_at_deadline() {
    let store = FakeStore::new();
    let mut leader = Replica::start(&store, "a");
    leader.wait_until_leading().await;
    let before = tokio::time::Instant::now();
    store.server.lock().unwrap().hangs = true;
    let error = leader.task.await.unwrap().unwrap_err();
    assert!(before.elapsed() <= Duration::from_secs(10), "{:?}", before.elapsed());
    assert!(matches!(error.reason, LossReason::NotRenewedFor(_)), "{error}");
    assert_eq!(*leader.state.borrow(), LeaderState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn leader_fails_when_lease_is_taken() {
    let store = FakeStore::new();
    let mut leader = Replica::start(&store, "a");
    leader.wait_until_leading().await;
    let version = store.server.lock().unwrap().version.to_string();
    store.write(Some(&version), |record| record.holder = Some("other".to_owned())).unwrap();
    let error = leader.task.await.unwrap().unwrap_err();
    assert_eq!(error.reason, LossReason::TakenBy("other".to_owned()));
    assert_eq!(store.holder().as_deref(), Some("other"));
}

#[tokio::test(start_paused = true)]
async fn leader_renews_without_reads() {
    let store = FakeStore::new();
    let mut leader = Replica::start(&store, "a");
    leader.wait_until_leading().await;
    let before = store.server.lock().unwrap().writes;
    tokio::time::sleep(Duration::from_mins(1)).await;
    let writes = store.server.lock().unwrap().writes - before;
    assert!((29..=31).contains(&writes), "{writes}");
}

#[tokio::test(start_paused = true)]
async fn stopping_standby_keeps_the_lease() {
    let store = FakeStore::new();
    let (_leader, standby) = leader_and_standby(&store).await;
    standby.finished.cancel();
    standby.task.await.unwrap().unwrap();
    assert_eq!(store.holder().as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn standby_survives_unresponsive_server() {
    let store = FakeStore::new();
    store.server.lock().unwrap().hangs = true;
    let mut candidate = Replica::start(&store, "a");
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(*candidate.state.borrow(), LeaderState::Standby { holder: None });
    store.server.lock().unwrap().hangs = false;
    candidate.wait_until_leading().await;
}
