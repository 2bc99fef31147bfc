//! Watch of all injected pods. Because pods change frequently, only changes of the set of versions are reported, at
//! most once per minute.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::Api;
use kube::{Client, Resource as _};
use kube_runtime::{WatchStreamExt as _, watcher};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::index::{ProxyGroup, ProxyIndex, ProxySummary, has_revision, sorted_versions};
use super::proxy_pod::{INJECTED, ProxyPod, UNFINISHED};
use crate::apply::{Changes, Inventory};
use crate::runtime::metrics::Metrics;

/// Minimum interval between reports.
const REPORT_INTERVAL: Duration = Duration::from_mins(1);
/// Interval at which the index is checked for changes and metrics are updated.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Pods per page. The size of a page determines the peak memory use at startup.
const PAGE: u32 = 100;

/// Watches the proxies of all pods. Clones share the state.
#[derive(Clone, Default)]
pub struct ProxyWatcher {
    state: Arc<Mutex<WatchState>>,
    wake: Arc<Notify>,
}

#[derive(Default)]
struct WatchState {
    /// `None` until the first list is complete, and while the API server rejects the watch.
    index: Option<ProxyIndex>,
    /// Messages about restarts by installation.
    messages: HashMap<String, String>,
    last_report: Option<(Instant, ProxyReport)>,
}

/// Reported versions by revision, and messages by installation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ProxyReport {
    versions: BTreeMap<String, BTreeSet<String>>,
    messages: HashMap<String, String>,
}

/// Reported proxies of an installation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportedProxies {
    /// Versions, oldest first.
    pub versions: Vec<String>,
    /// Message about restarts of outdated proxies.
    pub message: Option<String>,
}

impl ProxyWatcher {
    fn lock(&self) -> MutexGuard<'_, WatchState> {
        // The next list replaces state that a panic left inconsistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Summarizes the current proxies of a mesh; `None` while they are unknown.
    #[must_use]
    pub fn summary(&self, revisions: &[String], mesh: &str) -> Option<ProxySummary> {
        self.lock().index.as_ref().map(|index| index.summary(revisions, mesh))
    }

    /// Returns the groups of the revisions with their number of pods; `None` while they are unknown.
    #[must_use]
    pub fn groups(&self, revisions: &[String]) -> Option<Vec<(ProxyGroup, usize)>> {
        let state = self.lock();
        let groups = state.index.as_ref()?.groups().filter(|(group, _)| has_revision(group, revisions));
        Some(groups.map(|(group, pods)| (group.clone(), pods)).collect())
    }

    /// Counts pods with a proxy of the revisions, without those of the mesh's `own` Deployments; `None` while they are
    /// unknown.
    #[must_use]
    pub fn count_users(&self, revisions: &[String], own: &[(String, String)]) -> Option<usize> {
        self.lock().index.as_ref().map(|index| index.count_users(revisions, own))
    }

    /// Returns the last report for an installation; `None` before the first report.
    #[must_use]
    pub fn reported(&self, installation: &str, revisions: &[String]) -> Option<ReportedProxies> {
        let state = self.lock();
        let (_, report) = state.last_report.as_ref()?;
        let versions =
            revisions.iter().filter_map(|revision| report.versions.get(revision)).flatten().cloned().collect();
        Some(ReportedProxies {
            versions: sorted_versions(versions),
            message: report.messages.get(installation).cloned(),
        })
    }

    /// Sets the message about an installation's restarts for the next report.
    pub fn set_message(&self, installation: &str, message: Option<String>) {
        let mut state = self.lock();
        match message {
            Some(message) => state.messages.insert(installation.to_owned(), message),
            None => state.messages.remove(installation),
        };
    }

    /// Watches pods and requeues all installations when a report has changed. Never returns.
    pub async fn watch(self, client: Client, inventory: Inventory, changed: Changes, metrics: Metrics) {
        let reporting = async {
            let mut checks = interval(CHECK_INTERVAL);
            checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = checks.tick() => {}
                    () = self.wake.notified() => {}
                }
                if self.publish_report(Instant::now(), &metrics) {
                    inventory.installations().into_iter().for_each(|installation| changed.note(installation));
                }
            }
        };
        tokio::select! {
            () = reporting => {}
            () = self.watch_pods(client) => {}
        }
    }

    async fn watch_pods(&self, client: Client) {
        let config = watcher::Config::default().labels(INJECTED).fields(UNFINISHED).page_size(PAGE);
        let mut events = watcher(Api::<ProxyPod>::all(client), config).default_backoff().boxed();
        let mut listed = ProxyIndex::default();
        loop {
            match events.try_next().await {
                Ok(Some(event)) => self.handle(event, &mut listed),
                Ok(None) => return,
                Err(error) => {
                    warn!(error = %error, "watching pods with a proxy failed; retrying");
                    if is_rejected(&error) {
                        self.lock().index = None;
                    }
                }
            }
        }
    }

    fn handle(&self, event: watcher::Event<ProxyPod>, listed: &mut ProxyIndex) {
        let uid = |pod: &mut ProxyPod| pod.meta_mut().uid.take().unwrap_or_default();
        match event {
            watcher::Event::Init => *listed = ProxyIndex::default(),
            watcher::Event::InitApply(mut pod) => listed.update(&uid(&mut pod), pod.proxy),
            watcher::Event::InitDone => {
                let complete = std::mem::take(listed);
                info!(pods = complete.len(), "listed pods with a proxy");
                self.lock().index = Some(complete);
                self.wake.notify_one();
            }
            watcher::Event::Apply(mut pod) => {
                if let Some(index) = &mut self.lock().index {
                    index.update(&uid(&mut pod), pod.proxy);
                }
            }
            watcher::Event::Delete(mut pod) => {
                if let Some(index) = &mut self.lock().index {
                    index.remove(&uid(&mut pod));
                }
            }
        }
    }

    /// Updates metrics and publishes a report if it has changed and the interval has passed. Returns whether it did.
    fn publish_report(&self, now: Instant, metrics: &Metrics) -> bool {
        let mut state = self.lock();
        let Some(index) = &state.index else { return false };
        metrics.set_proxies(&index.by_version());
        let report = ProxyReport { versions: index.by_revision(), messages: state.messages.clone() };
        let due = match &state.last_report {
            None => true,
            Some((at, last)) => *last != report && now.duration_since(*at) >= REPORT_INTERVAL,
        };
        if due {
            state.last_report = Some((now, report));
        }
        due
    }
}

/// Returns whether the API server rejected the watch. The index is then no longer valid.
fn is_rejected(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => matches!(status.code, 401 | 403),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mesh::revisions::DEFAULT;

    fn pod(uid: &str, version: &str) -> ProxyPod {
        let image = format!("istio/proxyv2:{version}");
        let pod = json!({
            "metadata": {"namespace": "shop", "name": uid, "uid": uid},
            "spec": {"containers": [{"name": "istio-proxy", "image": image}]},
        });
        serde_json::from_value(pod).unwrap()
    }

    fn listed(pods: &[(&str, &str)]) -> ProxyWatcher {
        let (proxies, mut listed) = (ProxyWatcher::default(), ProxyIndex::default());
        proxies.handle(watcher::Event::Init, &mut listed);
        for (uid, version) in pods {
            proxies.handle(watcher::Event::InitApply(pod(uid, version)), &mut listed);
        }
        assert_eq!(proxies.summary(&[DEFAULT.to_owned()], "1.32.0"), None, "the list is incomplete");
        proxies.handle(watcher::Event::InitDone, &mut listed);
        proxies
    }

    fn versions(proxies: &ProxyWatcher) -> Vec<String> {
        proxies.reported("mesh", &[DEFAULT.to_owned()]).unwrap().versions
    }

    #[test]
    fn reports_nothing_before_first_list() {
        let proxies = ProxyWatcher::default();
        assert!(!proxies.publish_report(Instant::now(), &Metrics::new()));
        assert_eq!(proxies.reported("mesh", &[DEFAULT.to_owned()]), None);
    }

    #[test]
    fn reports_changes_once_per_minute() {
        let proxies = listed(&[("a", "1.31.2")]);
        let (start, metrics) = (Instant::now(), Metrics::new());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(proxies.publish_report(start, &metrics));
        assert_eq!(versions(&proxies), ["1.31.2"]);
        let mut list = ProxyIndex::default();
        proxies.handle(watcher::Event::Apply(pod("b", "1.32.0")), &mut list);
        proxies.set_message("mesh", Some("waits".into()));
        assert!(!proxies.publish_report(after(59), &metrics));
        assert_eq!(versions(&proxies), ["1.31.2"]);
        assert!(proxies.publish_report(after(60), &metrics));
        assert_eq!(versions(&proxies), ["1.31.2", "1.32.0"]);
        assert_eq!(proxies.reported("mesh", &[DEFAULT.to_owned()]).unwrap().message.as_deref(), Some("waits"));
        assert!(!proxies.publish_report(after(200), &metrics), "nothing has changed");
        assert_eq!(proxies.summary(&[DEFAULT.to_owned()], "1.32.0").unwrap().outdated, 1, "the summary is current");
    }

    #[test]
    fn ignores_short_lived_pods() {
        let proxies = listed(&[("a", "1.31.2")]);
        let (start, metrics) = (Instant::now(), Metrics::new());
        assert!(proxies.publish_report(start, &metrics));
        let mut list = ProxyIndex::default();
        for n in 0..500 {
            proxies.handle(watcher::Event::Apply(pod(&format!("p{n}"), "1.31.2")), &mut list);
            proxies.handle(watcher::Event::Delete(pod(&format!("p{n}"), "1.31.2")), &mut list);
            assert!(!proxies.publish_report(start + Duration::from_secs(61 + n), &metrics));
        }
    }

    #[test]
    fn new_list_replaces_index() {
        let proxies = listed(&[("a", "1.31.2"), ("b", "1.31.2")]);
        let mut list = ProxyIndex::default();
        proxies.handle(watcher::Event::Init, &mut list);
        proxies.handle(watcher::Event::InitApply(pod("b", "1.32.0")), &mut list);
        proxies.handle(watcher::Event::InitDone, &mut list);
        let summary = proxies.summary(&[DEFAULT.to_owned()], "1.32.0").unwrap();
        assert_eq!((summary.count, summary.outdated), (1, 0));
    }
}
