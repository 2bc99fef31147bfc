//! Candidates against a lease in memory. Time stands still but for the sleeps themselves.

use std::future::pending;
use std::sync::{Arc, Mutex};

use tokio::task::JoinHandle;

use super::super::Timing;
use super::super::step::Record;
use super::*;

#[derive(Default)]
struct Server {
    lease: Option<Record>,
    version: u64,
    hangs: bool,
    writes: u32,
}

/// One candidate's way to the server.
#[derive(Clone)]
struct FakeStore {
    server: Arc<Mutex<Server>>,
    changed: watch::Sender<u64>,
}

impl FakeStore {
    fn new() -> Self {
        Self { server: Arc::default(), changed: watch::channel(0).0 }
    }

    async fn answer(&self) {
        if self.server.lock().unwrap().hangs {
            pending::<()>().await;
        }
    }

    fn observed(&self) -> Observed {
        let server = self.server.lock().unwrap();
        match &server.lease {
            None => Observed::Absent,
            Some(record) => Observed::Present { record: record.clone(), version: server.version.to_string() },
        }
    }

    fn write(&self, expected: Option<&str>, change: impl FnOnce(&mut Record)) -> Result<Observed, WriteError> {
        {
            let mut server = self.server.lock().unwrap();
            let current = server.lease.is_some().then(|| server.version.to_string());
            if current.as_deref() != expected {
                return Err(WriteError::Conflict);
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

fn held_by(hold: &Hold) -> impl FnOnce(&mut Record) {
    let hold = hold.clone();
    move |record| {
        record.holder = Some(hold.identity);
        record.duration = Some(hold.duration);
        record.transitions = hold.transitions;
    }
}

impl Store for FakeStore {
    async fn read(&self) -> Result<Observed, Box<kube::Error>> {
        self.answer().await;
        Ok(self.observed())
    }

    async fn create(&self, hold: &Hold) -> Result<Observed, WriteError> {
        self.answer().await;
        self.write(None, held_by(hold))
    }

    async fn update(&self, hold: &Hold, version: &str) -> Result<Observed, WriteError> {
        self.answer().await;
        self.write(Some(version), held_by(hold))
    }

    async fn release(&self, version: &str) -> Result<(), WriteError> {
        self.answer().await;
        self.write(Some(version), |record| record.holder = None).map(drop)
    }

    fn changes(&self) -> BoxStream<'static, Observed> {
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

    async fn leads(&mut self) {
        self.state.wait_for(|state| *state == LeaderState::Leading).await.unwrap();
    }

    async fn stands_by_for(&mut self, other: &str) {
        let expected = LeaderState::Standby { holder: Some(other.to_owned()) };
        self.state.wait_for(|state| *state == expected).await.unwrap();
    }
}

async fn leader_and_standby(store: &FakeStore) -> (Replica, Replica) {
    let mut leader = Replica::start(store, "a");
    leader.leads().await;
    let mut standby = Replica::start(store, "b");
    standby.stands_by_for("a").await;
    (leader, standby)
}

#[tokio::test(start_paused = true)]
async fn of_two_candidates_one_leads_for_as_long_as_it_lives() {
    let store = FakeStore::new();
    let (leader, standby) = leader_and_standby(&store).await;
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(*leader.state.borrow(), LeaderState::Leading);
    assert_eq!(*standby.state.borrow(), LeaderState::Standby { holder: Some("a".to_owned()) });
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_ends_releases_the_lease_and_the_standby_takes_it_without_waiting() {
    let store = FakeStore::new();
    let (leader, mut standby) = leader_and_standby(&store).await;
    let before = tokio::time::Instant::now();
    leader.finished.cancel();
    leader.task.await.unwrap().unwrap();
    standby.leads().await;
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert_eq!(store.holder().as_deref(), Some("b"));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_killed_is_followed_after_the_lease_duration() {
    let store = FakeStore::new();
    let (leader, mut standby) = leader_and_standby(&store).await;
    leader.task.abort();
    let before = tokio::time::Instant::now();
    standby.leads().await;
    assert!(before.elapsed() <= Duration::from_secs(16), "{:?}", before.elapsed());
    assert_eq!(store.holder().as_deref(), Some("b"));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_gets_no_answer_stops_at_the_deadline_with_an_error() {
    let store = FakeStore::new();
    let mut leader = Replica::start(&store, "a");
    leader.leads().await;
    let before = tokio::time::Instant::now();
    store.server.lock().unwrap().hangs = true;
    let error = leader.task.await.unwrap().unwrap_err();
    assert!(before.elapsed() <= Duration::from_secs(10), "{:?}", before.elapsed());
    assert!(matches!(error.reason, LossReason::NotRenewedFor(_)), "{error}");
    assert_eq!(*leader.state.borrow(), LeaderState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_is_taken_stops_at_its_next_renewal() {
    let store = FakeStore::new();
    let mut leader = Replica::start(&store, "a");
    leader.leads().await;
    let version = store.server.lock().unwrap().version.to_string();
    store.write(Some(&version), |record| record.holder = Some("thief".to_owned())).unwrap();
    let error = leader.task.await.unwrap().unwrap_err();
    assert_eq!(error.reason, LossReason::TakenBy("thief".to_owned()));
    assert_eq!(store.holder().as_deref(), Some("thief"));
}

#[tokio::test(start_paused = true)]
async fn a_leader_renews_with_one_write_a_period_and_no_reads_in_between() {
    let store = FakeStore::new();
    let mut leader = Replica::start(&store, "a");
    leader.leads().await;
    let before = store.server.lock().unwrap().writes;
    tokio::time::sleep(Duration::from_mins(1)).await;
    let writes = store.server.lock().unwrap().writes - before;
    assert!((29..=31).contains(&writes), "{writes}");
}

#[tokio::test(start_paused = true)]
async fn a_standby_that_ends_leaves_the_lease_alone() {
    let store = FakeStore::new();
    let (_leader, standby) = leader_and_standby(&store).await;
    standby.finished.cancel();
    standby.task.await.unwrap().unwrap();
    assert_eq!(store.holder().as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn a_standby_outlives_an_api_server_that_gives_no_answer() {
    let store = FakeStore::new();
    store.server.lock().unwrap().hangs = true;
    let mut candidate = Replica::start(&store, "a");
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(*candidate.state.borrow(), LeaderState::Standby { holder: None });
    store.server.lock().unwrap().hangs = false;
    candidate.leads().await;
}
