//! Who watches a cluster change: in which order objects changed, and whether Pods were injected all the time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt as _};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::objects;
use crate::wait::{self, PATIENCE, WaitError};

/// A state of an object that was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The object's resourceVersion. All kinds share one counter, so states of different objects can be put in order.
    pub version: u64,
    /// The object's name.
    pub name: String,
    /// All of it; `None`: it was deleted.
    pub object: Option<Value>,
}

/// Watches some APIs and keeps every state that it sees.
pub struct Witness {
    apis: BTreeMap<&'static str, Api<DynamicObject>>,
    seen: Arc<Mutex<BTreeMap<&'static str, Vec<Seen>>>>,
    _watches: JoinSet<()>,
}

impl Witness {
    /// Begins, and waits until everything that is there has been seen.
    pub async fn of(apis: impl IntoIterator<Item = (&'static str, Api<DynamicObject>)>) -> Result<Self, WaitError> {
        let (apis, seen) = (apis.into_iter().collect::<BTreeMap<_, _>>(), Arc::default());
        let mut watches = JoinSet::new();
        for (label, api) in &apis {
            watches.spawn(watch(label, api.clone(), Arc::clone(&seen)));
        }
        let witness = Self { apis, seen, _watches: watches };
        witness.caught_up().await?;
        Ok(witness)
    }

    /// Waits until every object has been seen as it is now.
    pub async fn caught_up(&self) -> Result<(), WaitError> {
        for (label, api) in &self.apis {
            wait::until(PATIENCE, format!("the watch of {label} to catch up"), async || {
                let now = api.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
                let seen = self.of_kind(label);
                let behind = now.iter().find(|object| {
                    let (name, version) = (object.name_any(), version(object));
                    !seen.iter().any(|seen| seen.name == name && seen.version >= version)
                });
                behind.map_or(Ok(()), |object| Err(format!("{} is not seen yet", object.name_any())))
            })
            .await?;
        }
        Ok(())
    }

    /// The states of an object so far, oldest first.
    #[must_use]
    pub fn states(&self, label: &str, name: &str) -> Vec<Seen> {
        let mut states = self.of_kind(label);
        states.retain(|seen| seen.name == name);
        states.sort_by_key(|seen| seen.version);
        states
    }

    /// The last state of an object before a point in time.
    #[must_use]
    pub fn before(&self, label: &str, name: &str, version: u64) -> Option<Seen> {
        self.states(label, name).into_iter().rfind(|seen| seen.version < version)
    }

    fn of_kind(&self, label: &str) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(label).cloned().unwrap_or_default()
    }
}

async fn watch(label: &'static str, api: Api<DynamicObject>, seen: Arc<Mutex<BTreeMap<&'static str, Vec<Seen>>>>) {
    let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
    loop {
        let (object, there) = match events.try_next().await {
            Ok(Some(Event::Apply(object) | Event::InitApply(object))) => (object, true),
            Ok(Some(Event::Delete(object))) => (object, false),
            Ok(Some(_)) => continue,
            Ok(None) => return,
            // The watcher begins anew by itself, and at once: a server that restarts would be asked without a pause.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let whole = there.then(|| serde_json::to_value(&object).unwrap_or_default());
        let state = Seen { version: version(&object), name: object.name_any(), object: whole };
        seen.lock().unwrap_or_else(PoisonError::into_inner).entry(label).or_default().push(state);
    }
}

fn version(object: &DynamicObject) -> u64 {
    object.resource_version().and_then(|version| version.parse().ok()).unwrap_or_default()
}

/// What became of the Pods that were tried.
#[derive(Debug, Clone, Default)]
pub struct Injections {
    /// How many were tried.
    pub tried: usize,
    /// Why some were refused, or came back without a proxy.
    pub failures: Vec<String>,
    /// How many had to be asked for again because the answer was lost, and then were injected within [`REPEATS`]. An
    /// istiod that ends drops what it has in hand, and for a moment is still asked: so it is with every rollout of one.
    pub lost: usize,
    /// The longest time from a first try to the answer.
    pub slowest: Duration,
    /// The images of their proxies, each time it changed.
    pub proxies: Vec<String>,
}

/// How long a lost answer may be asked for again. A `ReplicaSet` does so too, and takes longer.
pub const REPEATS: Duration = Duration::from_secs(1);

/// Tries over and over to create a Pod by a dry run, and keeps what becomes of it.
pub struct Injecting {
    outcome: Arc<Mutex<Injections>>,
    _work: JoinSet<()>,
}

impl Injecting {
    /// Begins, in a namespace whose Pods are to be injected. After each Pod it rests for a while, for the sake of whatever
    /// else runs on the machine; where a gap would be short, it must not.
    #[must_use]
    pub fn start(client: Client, namespace: &str, rest: Duration) -> Self {
        let outcome = Arc::<Mutex<Injections>>::default();
        let mut work = JoinSet::new();
        let (pods, told) = (Api::<Pod>::namespaced(client, namespace), Arc::clone(&outcome));
        work.spawn(async move {
            loop {
                let tried = try_until_answered(&pods).await;
                note(&mut told.lock().unwrap_or_else(PoisonError::into_inner), tried);
                // So that the lab has time for something else than these Pods.
                tokio::time::sleep(rest).await;
            }
        });
        Self { outcome, _work: work }
    }

    /// Ends, and tells what has become of them.
    #[must_use]
    pub fn end(self) -> Injections {
        self.so_far()
    }

    /// What has become of them so far.
    #[must_use]
    pub fn so_far(&self) -> Injections {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What came of one Pod.
struct Tried {
    proxy: Result<String, String>,
    repeated: bool,
    took: Duration,
}

async fn try_until_answered(pods: &Api<Pod>) -> Tried {
    let (start, mut repeated) = (Instant::now(), false);
    loop {
        let proxy = proxy_of_a_new_pod(pods).await;
        let took = start.elapsed();
        match proxy {
            Err(failure) if took < REPEATS && is_lost(&failure) => repeated = true,
            proxy => return Tried { proxy, repeated, took },
        }
    }
}

/// Whether the API server got no answer from the webhook, as opposed to a bad one.
fn is_lost(failure: &str) -> bool {
    let ends = ["EOF", "connection refused", "connection reset by peer", "broken pipe"];
    failure.contains("failed to call webhook") && ends.iter().any(|end| failure.contains(end))
}

fn note(told: &mut Injections, tried: Tried) {
    told.tried += 1;
    told.slowest = told.slowest.max(tried.took);
    match tried.proxy {
        Err(failure) => told.failures.push(format!("{} {failure}", jiff::Timestamp::now())),
        Ok(image) => {
            told.lost += usize::from(tried.repeated);
            if told.proxies.last() != Some(&image) {
                told.proxies.push(image);
            }
        }
    }
}

/// The image of the proxy in a Pod that is created by a dry run.
async fn proxy_of_a_new_pod(pods: &Api<Pod>) -> Result<String, String> {
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let pod = pods.create(&dry, &objects::pod("tried", &[("app", "tried")])).await.map_err(message)?;
    objects::proxy(&pod).and_then(|proxy| proxy.image.clone()).ok_or_else(|| "no istio-proxy".to_owned())
}

/// What the API server said.
fn message(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message,
        other => other.to_string(),
    }
}
