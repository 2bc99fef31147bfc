//! Records of a cluster change: the states of watched objects in order, and whether Pods were injected throughout.

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
use crate::wait::{self, TIMEOUT, WaitError};

/// Recorded states by label of the watched API.
type States = BTreeMap<&'static str, Vec<RecordedState>>;

/// A recorded state of an object.
#[derive(Debug, Clone)]
pub struct RecordedState {
    /// `metadata.resourceVersion`. All kinds share one etcd revision counter, so states of different objects are
    /// ordered.
    pub resource_version: u64,
    /// `metadata.name` of the object.
    pub name: String,
    /// The whole object; `None` if it was deleted.
    pub object: Option<Value>,
}

/// Watches APIs and records every state of their objects.
pub struct StateRecorder {
    apis: BTreeMap<&'static str, Api<DynamicObject>>,
    states: Arc<Mutex<States>>,
    _watches: JoinSet<()>,
}

impl StateRecorder {
    /// Starts the watches and waits until they have delivered all existing objects.
    pub async fn start(apis: impl IntoIterator<Item = (&'static str, Api<DynamicObject>)>) -> Result<Self, WaitError> {
        let (apis, states) = (apis.into_iter().collect::<BTreeMap<_, _>>(), Arc::default());
        let mut watches = JoinSet::new();
        for (label, api) in &apis {
            watches.spawn(watch(label, api.clone(), Arc::clone(&states)));
        }
        let recorder = Self { apis, states, _watches: watches };
        recorder.wait_caught_up().await?;
        Ok(recorder)
    }

    /// Waits until the watches have delivered the current state of every object.
    pub async fn wait_caught_up(&self) -> Result<(), WaitError> {
        for (label, api) in &self.apis {
            wait::until(TIMEOUT, format!("the watch of {label} to catch up"), async || {
                let current = api.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
                let recorded = self.all(label);
                let missing = current.iter().find(|object| {
                    let (name, version) = (object.name_any(), resource_version(object));
                    !recorded.iter().any(|state| state.name == name && state.resource_version >= version)
                });
                missing.map_or(Ok(()), |object| Err(format!("no event for {}", object.name_any())))
            })
            .await?;
        }
        Ok(())
    }

    /// The recorded states of an object, oldest first.
    #[must_use]
    pub fn states(&self, label: &str, name: &str) -> Vec<RecordedState> {
        let mut states = self.all(label);
        states.retain(|state| state.name == name);
        states.sort_by_key(|state| state.resource_version);
        states
    }

    /// The last state of an object before a resource version.
    #[must_use]
    pub fn before(&self, label: &str, name: &str, resource_version: u64) -> Option<RecordedState> {
        self.states(label, name).into_iter().rfind(|state| state.resource_version < resource_version)
    }

    fn all(&self, label: &str) -> Vec<RecordedState> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).get(label).cloned().unwrap_or_default()
    }
}

async fn watch(label: &'static str, api: Api<DynamicObject>, states: Arc<Mutex<States>>) {
    let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
    loop {
        let (object, exists) = match events.try_next().await {
            Ok(Some(Event::Apply(object) | Event::InitApply(object))) => (object, true),
            Ok(Some(Event::Delete(object))) => (object, false),
            Ok(Some(_)) => continue,
            Ok(None) => return,
            // The watcher reconnects immediately; the pause limits the request rate while the server restarts.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let content = exists.then(|| serde_json::to_value(&object).unwrap_or_default());
        let state =
            RecordedState { resource_version: resource_version(&object), name: object.name_any(), object: content };
        states.lock().unwrap_or_else(PoisonError::into_inner).entry(label).or_default().push(state);
    }
}

fn resource_version(object: &DynamicObject) -> u64 {
    object.resource_version().and_then(|version| version.parse().ok()).unwrap_or_default()
}

/// Results of an [`InjectionMonitor`].
#[derive(Debug, Clone, Default)]
pub struct InjectionResults {
    /// Number of Pods.
    pub attempts: usize,
    /// Errors of Pods that were rejected or created without a proxy.
    pub failures: Vec<String>,
    /// Number of Pods that were injected only on a retry within [`RETRY_WINDOW`], after a lost response. A terminating
    /// istiod drops open requests, and the API server still calls it for a few milliseconds, so this occurs in every
    /// rollout.
    pub lost: usize,
    /// Longest time from the first request to the response.
    pub slowest: Duration,
    /// Proxy images, one entry for each change.
    pub proxies: Vec<String>,
}

/// How long a request is retried after a lost response. A `ReplicaSet` controller retries too, with longer pauses.
pub const RETRY_WINDOW: Duration = Duration::from_secs(1);

/// Creates Pods by dry run in a loop and records the results.
pub struct InjectionMonitor {
    results: Arc<Mutex<InjectionResults>>,
    _task: JoinSet<()>,
}

impl InjectionMonitor {
    /// Starts in a namespace with injection enabled. `interval` is the pause between two Pods, which leaves CPU time to
    /// the lab; use zero to detect short gaps.
    #[must_use]
    pub fn start(client: Client, namespace: &str, interval: Duration) -> Self {
        let results = Arc::<Mutex<InjectionResults>>::default();
        let mut task = JoinSet::new();
        let (pods, shared) = (Api::<Pod>::namespaced(client, namespace), Arc::clone(&results));
        task.spawn(async move {
            loop {
                let attempt = create_pod_with_retry(&pods).await;
                record(&mut shared.lock().unwrap_or_else(PoisonError::into_inner), attempt);
                // Pause between Pods; see `interval`.
                tokio::time::sleep(interval).await;
            }
        });
        Self { results, _task: task }
    }

    /// Stops and returns the results.
    #[must_use]
    pub fn stop(self) -> InjectionResults {
        self.results()
    }

    /// The results so far.
    #[must_use]
    pub fn results(&self) -> InjectionResults {
        self.results.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Result of one Pod.
struct InjectionAttempt {
    proxy: Result<String, String>,
    retried: bool,
    duration: Duration,
}

async fn create_pod_with_retry(pods: &Api<Pod>) -> InjectionAttempt {
    let (start, mut retried) = (Instant::now(), false);
    loop {
        let proxy = injected_proxy_image(pods).await;
        let duration = start.elapsed();
        match proxy {
            Err(failure) if duration < RETRY_WINDOW && is_lost_response(&failure) => retried = true,
            proxy => return InjectionAttempt { proxy, retried, duration },
        }
    }
}

/// Whether the API server got no response from the webhook, as opposed to an error response.
fn is_lost_response(failure: &str) -> bool {
    let causes = ["EOF", "connection refused", "connection reset by peer", "broken pipe"];
    failure.contains("failed to call webhook") && causes.iter().any(|cause| failure.contains(cause))
}

fn record(results: &mut InjectionResults, attempt: InjectionAttempt) {
    results.attempts += 1;
    results.slowest = results.slowest.max(attempt.duration);
    match attempt.proxy {
        Err(failure) => results.failures.push(format!("{} {failure}", jiff::Timestamp::now())),
        Ok(image) => {
            results.lost += usize::from(attempt.retried);
            if results.proxies.last() != Some(&image) {
                results.proxies.push(image);
            }
        }
    }
}

/// Creates a Pod by dry run and returns the image of its proxy.
async fn injected_proxy_image(pods: &Api<Pod>) -> Result<String, String> {
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let pod = objects::pod("injection-test", &[("app", "injection-test")]);
    let created = pods.create(&dry_run, &pod).await.map_err(error_message)?;
    objects::proxy(&created).and_then(|proxy| proxy.image.clone()).ok_or_else(|| "no istio-proxy".to_owned())
}

/// Message of the API server's response, or of the client's error.
fn error_message(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message,
        other => other.to_string(),
    }
}
