//! Observes watches where their data arrives: kube hides bookmarks and restarts, so that its events don't show whether a
//! quiet watch still works.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, Uri};
use kube::api::WatchParams;
use kube::core::Request as ApiRequest;
use kube_runtime::watcher;
use tokio::time::{Instant, sleep};

use super::body_filter::{BodyFilter, FilterResponses};

/// Seconds after which the API server ends a watch. kube restarts one that has been silent for 5 seconds longer.
/// Bookmarks arrive about once a minute, but not for every resource.
const WATCH_SECONDS: u32 = 85;
/// The longest time without data of a watch that works: a dead connection is replaced after 90 seconds, and the next
/// watch ends 85 seconds later at the latest.
pub const MAX_SILENCE: Duration = Duration::from_secs(200);

/// The configuration of all watches: a dead one is noticed within 90 seconds.
#[must_use]
pub fn watch_config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

/// Identifies a watch: the path of its resource, and its selectors.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WatchKey {
    path: String,
    /// As they are in a request.
    selectors: String,
}

impl WatchKey {
    /// The key of the requests that kube sends for this configuration.
    #[must_use]
    pub fn new(path: &str, config: &watcher::Config) -> Self {
        let watcher::Config { label_selector, field_selector, .. } = config.clone();
        let params = WatchParams { label_selector, field_selector, ..WatchParams::default() };
        let request = ApiRequest::new(path).watch(&params, "0").ok();
        let unselected = || Self { path: path.to_owned(), selectors: String::new() };
        request.and_then(|request| watch_key(request.uri())).unwrap_or_else(unselected)
    }

    /// Path of the resource.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// When the watches of a client last delivered data: an event, a bookmark or a regular end. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct WatchActivity(Arc<Mutex<BTreeMap<WatchKey, Instant>>>);

impl WatchActivity {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<WatchKey, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, key: &WatchKey) {
        self.lock().entry(key.clone()).or_insert_with(Instant::now);
    }

    fn note(&self, key: &WatchKey) {
        // A watch that was forgotten stays so until it is started again.
        if let Some(last) = self.lock().get_mut(key) {
            *last = Instant::now();
        }
    }

    /// The time since the last data by resource. Of several watches of a resource, the one that has been silent longest
    /// counts.
    #[must_use]
    pub fn ages(&self) -> BTreeMap<String, Duration> {
        let now = Instant::now();
        let mut ages: BTreeMap<String, Duration> = BTreeMap::new();
        for (key, last) in self.lock().iter() {
            let resource = key.path.rsplit('/').next().unwrap_or_default();
            let age = ages.entry(resource.to_owned()).or_default();
            *age = now.saturating_duration_since(*last).max(*age);
        }
        ages
    }

    /// Forgets the watches of a resource that the API server no longer serves.
    pub fn forget(&self, path: &str) {
        self.lock().retain(|key, _| key.path != path);
    }

    /// When a watch last delivered data, or was started first.
    #[must_use]
    pub fn last_data(&self, key: &WatchKey) -> Option<Instant> {
        self.lock().get(key).copied()
    }

    /// Waits until a watch has been silent for too long. `listed_at`: the end of its list, before which it has not
    /// started.
    pub async fn until_silent(&self, key: &WatchKey, listed_at: Option<Instant>) {
        let Some(start) = listed_at else { return std::future::pending().await };
        loop {
            let last = self.last_data(key).map_or(start, |last| last.max(start));
            let left = MAX_SILENCE.saturating_sub(last.elapsed());
            if left.is_zero() {
                return;
            }
            sleep(left).await;
        }
    }
}

/// The key of a request that starts a watch. Watches in a namespace are those of leader election, which end when this
/// replica becomes the leader.
fn watch_key(uri: &Uri) -> Option<WatchKey> {
    let parameters = || uri.query().unwrap_or_default().split('&');
    let is_watch = parameters().any(|parameter| parameter == "watch=true");
    let is_selector =
        |parameter: &&str| parameter.starts_with("labelSelector=") || parameter.starts_with("fieldSelector=");
    let selectors: Vec<&str> = parameters().filter(is_selector).collect();
    let is_ours = is_watch && !uri.path().contains("/namespaces/");
    is_ours.then(|| WatchKey { path: uri.path().to_owned(), selectors: selectors.join("&") })
}

impl FilterResponses for WatchActivity {
    type Filter = ObservedWatch;

    fn filter(&self, _: &Method, uri: &Uri) -> Option<ObservedWatch> {
        let key = watch_key(uri)?;
        self.start(&key);
        Some(ObservedWatch { activity: self.clone(), key })
    }
}

/// Notes the data of one watch, and its regular end.
#[derive(Debug)]
pub struct ObservedWatch {
    activity: WatchActivity,
    key: WatchKey,
}

impl BodyFilter for ObservedWatch {
    fn data(&mut self, chunk: Bytes) -> Bytes {
        self.activity.note(&self.key);
        chunk
    }

    fn end(&mut self) {
        self.activity.note(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{Request, Response};
    use futures::{StreamExt as _, pin_mut};
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Client;
    use kube::api::Api;
    use kube::client::{Body as ClientBody, ClientBuilder};
    use tokio::time::{advance, timeout};
    use tower::BoxError;

    use super::*;
    use crate::runtime::body_filter::BodyFilterLayer;

    const PATH: &str = "/api/v1/configmaps";
    const BOOKMARK: &str = "{\"type\":\"BOOKMARK\",\"object\":{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\
                            \"metadata\":{\"resourceVersion\":\"7\"}}}\n";

    /// Watches against a server that sends a bookmark, if `healthy`, or else fails.
    async fn watch(activity: &WatchActivity, healthy: bool) {
        let server = tower::service_fn(move |_: Request<ClientBody>| {
            let (status, body) = if healthy { (200, BOOKMARK) } else { (500, "") };
            let body = ClientBody::from(body.as_bytes().to_vec());
            std::future::ready(Ok::<_, BoxError>(Response::builder().status(status).body(body).unwrap()))
        });
        let client: Client =
            ClientBuilder::new(server, "default").with_layer(&BodyFilterLayer(activity.clone())).build();
        let maps: Api<ConfigMap> = Api::all(client);
        if let Ok(events) = maps.watch(&WatchParams::default().labels("a=b"), "1").await {
            pin_mut!(events);
            while events.next().await.is_some() {}
        }
    }

    fn age(activity: &WatchActivity) -> Option<u64> {
        activity.ages().get("configmaps").map(Duration::as_secs)
    }

    #[tokio::test(start_paused = true)]
    async fn bookmarks_count_and_failures_do_not() {
        let activity = WatchActivity::default();
        assert_eq!(age(&activity), None);
        watch(&activity, false).await;
        advance(Duration::from_mins(1)).await;
        watch(&activity, false).await;
        assert_eq!(age(&activity), Some(60), "since the first attempt");
        watch(&activity, true).await;
        assert_eq!(age(&activity), Some(0));
        activity.forget(PATH);
        assert_eq!(age(&activity), None);
    }

    #[tokio::test(start_paused = true)]
    async fn other_watch_of_resource_does_not_count() {
        let activity = WatchActivity::default();
        let start = Some(Instant::now());
        watch(&activity, true).await;
        let other = WatchKey::new(PATH, &watch_config().labels("a=b").fields("metadata.name=a"));
        activity.start(&other);
        advance(Duration::from_secs(150)).await;
        watch(&activity, true).await;
        let key = WatchKey::new(PATH, &watch_config().labels("a=b"));
        assert!(timeout(Duration::from_secs(100), activity.until_silent(&key, start)).await.is_err());
        assert!(timeout(Duration::from_secs(1), activity.until_silent(&other, start)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_noticed() {
        let activity = WatchActivity::default();
        let start = Instant::now();
        let key = WatchKey::new(PATH, &watch_config().labels("a=b"));
        let is_silent =
            async |within: Duration| timeout(within, activity.until_silent(&key, Some(start))).await.is_ok();
        watch(&activity, true).await;
        advance(Duration::from_secs(150)).await;
        watch(&activity, true).await;
        assert!(!is_silent(Duration::from_secs(199)).await);
        assert!(is_silent(Duration::from_secs(2)).await);
        let restarted = Instant::now();
        let again = timeout(Duration::from_secs(150), activity.until_silent(&key, Some(restarted))).await;
        assert!(again.is_err(), "a new list is not silent yet");
        let listing = timeout(Duration::from_hours(1), activity.until_silent(&key, None)).await;
        assert!(listing.is_err(), "a list has timeouts of its own");
    }
}
