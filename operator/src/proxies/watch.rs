//! Watch of all injected pods. Because pods change frequently, only changes of the set of versions are reported, at
//! most once per minute.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use kube::Resource as _;
use kube::api::Api;
use kube_runtime::{WatchStreamExt as _, watcher};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{info, warn};

use super::index::{ProxyGroup, ProxyIndex, ProxySummary, ServingProxies, has_revision, sorted_versions};
use super::proxy_pod::{INJECTED, ProxyPod, UNFINISHED};
use crate::apply::{Changes, Inventory};
use crate::runtime::client::Clients;
use crate::runtime::metrics::Metrics;
use crate::runtime::watch_activity::{WatchKey, watch_config};
use crate::runtime::watch_health::WatchHealth;

/// Minimum interval between reports.
const REPORT_INTERVAL: Duration = Duration::from_mins(1);
/// Interval at which the index is checked for changes and metrics are updated.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Pods per page. The size of a page determines the peak memory use at startup, and in larger pages, pods with many
/// containers would exceed the limits of responses.
const PAGE: u32 = 64;

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
    /// What new pods get, by installation.
    current: HashMap<String, CurrentConfiguration>,
    last_report: Option<(Instant, ProxyReport)>,
}

/// The configuration that new pods get from the control plane of a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CurrentConfiguration {
    revision: String,
    /// `None` if the pods don't show it.
    hash: Option<String>,
}

/// Reported versions and configurations by revision, and messages by installation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ProxyReport {
    proxies: BTreeMap<String, BTreeSet<(String, Option<String>)>>,
    /// Versions in pods that were injected, run and are ready, by revision.
    serving: BTreeMap<String, BTreeSet<String>>,
    messages: HashMap<String, String>,
}

/// Reported proxies of an installation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportedProxies {
    /// Versions, oldest first.
    pub versions: Vec<String>,
    /// Versions in pods that were injected, run and are ready. Only these delay an upgrade.
    pub serving: Vec<String>,
    /// Hash of the configuration that new pods get; `None` if they don't show it.
    pub configuration: Option<String>,
    /// Versions of the proxies with another configuration; `None` while the current configuration is unknown.
    pub stale: Option<BTreeSet<String>>,
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

    /// Returns the current proxies of the revisions in pods that were injected, run and are ready; `None` while they are
    /// unknown.
    #[must_use]
    pub fn serving(&self, revisions: &[String]) -> Option<Vec<ServingProxies>> {
        self.lock().index.as_ref().map(|index| index.serving(revisions))
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
        let seen = revisions.iter().filter_map(|revision| report.proxies.get(revision)).flatten();
        let serving = revisions.iter().filter_map(|revision| report.serving.get(revision)).flatten();
        let current = state.current.get(installation);
        let with_stale_configuration = current.map(|current| {
            let seen = report.proxies.get(&current.revision).into_iter().flatten();
            seen.filter(|(_, hash)| hash.is_some() && current.hash.is_some() && *hash != current.hash)
                .map(|(version, _)| version.clone())
                .collect()
        });
        Some(ReportedProxies {
            versions: sorted_versions(seen.map(|(version, _)| version.clone()).collect()),
            serving: sorted_versions(serving.cloned().collect()),
            configuration: current.and_then(|current| current.hash.clone()),
            stale: with_stale_configuration,
            message: report.messages.get(installation).cloned(),
        })
    }

    /// Sets the configuration that new pods get from an installation's control plane. Pods of other revisions are not
    /// compared with it.
    pub fn set_configuration(&self, installation: &str, revision: &str, hash: Option<String>) {
        let current = CurrentConfiguration { revision: revision.to_owned(), hash };
        self.lock().current.insert(installation.to_owned(), current);
    }

    /// Forgets the configuration that new pods get, while it changes.
    pub fn clear_configuration(&self, installation: &str) {
        self.lock().current.remove(installation);
    }

    /// Drops what was set for an installation.
    pub fn forget(&self, installation: &str) {
        let mut state = self.lock();
        state.messages.remove(installation);
        state.current.remove(installation);
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
    pub async fn watch(self, clients: Clients, inventory: Inventory, changed: Changes, metrics: Metrics) {
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
            () = self.watch_pods(&clients) => {}
        }
    }

    async fn watch_pods(&self, clients: &Clients) {
        let mut health = WatchHealth::default();
        loop {
            let Some(delay) = self.watch_until_lost(clients, &mut health).await else { return };
            // Only a new list shows the changes that the watch has missed.
            self.lock().index = None;
            sleep(delay).await;
        }
    }

    /// Watches pods until a new list is necessary, and returns its delay; `None` at the end of the stream.
    async fn watch_until_lost(&self, clients: &Clients, health: &mut WatchHealth) -> Option<Duration> {
        let config = watch_config().labels(INJECTED).fields(UNFINISHED).page_size(PAGE);
        let key = WatchKey::new(&ProxyPod::url_path(&(), None), &config);
        let mut events = watcher(Api::<ProxyPod>::all(clients.watches.clone()), config).default_backoff().boxed();
        let (mut listed, mut listed_at) = (ProxyIndex::default(), None);
        loop {
            let next = tokio::select! {
                next = events.try_next() => next,
                () = clients.watch_activity.until_silent(&key, listed_at) => {
                    warn!("the watch of pods with a proxy is silent; listing again");
                    return Some(Duration::ZERO);
                }
            };
            match next {
                Ok(Some(event)) => {
                    match event {
                        watcher::Event::InitDone => listed_at = Some(tokio::time::Instant::now()),
                        watcher::Event::Apply(_) | watcher::Event::Delete(_) => health.recover(),
                        _ => {}
                    }
                    self.handle(event, &mut listed);
                }
                Ok(None) => return None,
                Err(error) => {
                    warn!(error = %error, "watching pods with a proxy failed; retrying");
                    if is_rejected(&error) {
                        self.lock().index = None;
                    }
                    let last_data = clients.watch_activity.last_data(&key).map(tokio::time::Instant::into_std);
                    if let Some(delay) = health.note_error(&error, last_data, Instant::now()) {
                        return Some(delay);
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
        let report = ProxyReport {
            proxies: index.by_revision(),
            serving: index.serving_versions(),
            messages: state.messages.clone(),
        };
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
mod tests;
