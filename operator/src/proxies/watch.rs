//! The watch of all pods that the injector has been at. Pods come and go all the time: what others hear of them is the set
//! of versions, and that once a minute at most.

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

use super::census::{Census, Group, Summary, in_order, is_of};
use super::pod::{INJECTED, ProxyPod, UNFINISHED};
use crate::apply::{Changes, Inventory};
use crate::runtime::metrics::Metrics;

/// What is told changes no more often than this.
const TELL_INTERVAL: Duration = Duration::from_mins(1);
/// How often the census is looked at for anything to tell, and metrics are set.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Pods in one answer: the text of a page is the peak of memory at start.
const PAGE: u32 = 100;

/// The proxies that run. Cloning shares.
#[derive(Clone, Default)]
pub struct Proxies {
    state: Arc<Mutex<State>>,
    wake: Arc<Notify>,
}

#[derive(Default)]
struct State {
    /// `None` until the first list is complete, and while pods can't be watched.
    census: Option<Census>,
    /// What the update of each installation's proxies has to say.
    notes: HashMap<String, String>,
    told: Option<(Instant, News)>,
}

/// What is told of proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct News {
    versions: BTreeMap<String, BTreeSet<String>>,
    notes: HashMap<String, String>,
}

/// What status says of the proxies of one installation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Their versions, oldest first.
    pub versions: Vec<String>,
    /// What becomes of those that are outdated.
    pub message: Option<String>,
}

impl Proxies {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Whatever a panic leaves half-done, the next list puts right.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The proxies of a revision, held against the mesh's version, as they are now; `None` while they aren't known.
    #[must_use]
    pub fn summary(&self, revisions: &[String], mesh: &str) -> Option<Summary> {
        self.lock().census.as_ref().map(|census| census.summary(revisions, mesh))
    }

    /// The workloads with a proxy of this revision, and in how many pods; `None` while they aren't known.
    #[must_use]
    pub fn groups(&self, revisions: &[String]) -> Option<Vec<(Group, usize)>> {
        let state = self.lock();
        let groups = state.census.as_ref()?.groups().filter(|(group, _)| is_of(group, revisions));
        Some(groups.map(|(group, pods)| (group.clone(), pods)).collect())
    }

    /// How many pods with a proxy of this revision don't belong to these Deployments; `None` while they aren't known.
    #[must_use]
    pub fn others(&self, revisions: &[String], own: &[(String, String)]) -> Option<usize> {
        self.lock().census.as_ref().map(|census| census.others(revisions, own))
    }

    /// What status is to say; `None` while nothing is known.
    #[must_use]
    pub fn seen(&self, installation: &str, revisions: &[String]) -> Option<Seen> {
        let state = self.lock();
        let (_, news) = state.told.as_ref()?;
        let versions = revisions.iter().filter_map(|revision| news.versions.get(revision)).flatten().cloned().collect();
        Some(Seen { versions: in_order(versions), message: news.notes.get(installation).cloned() })
    }

    /// Notes what the update of an installation's proxies has to say. It is told with the next news.
    pub fn note(&self, installation: &str, message: Option<String>) {
        let mut state = self.lock();
        match message {
            Some(message) => state.notes.insert(installation.to_owned(), message),
            None => state.notes.remove(installation),
        };
    }

    /// Watches until the process ends; names every installation when there is something new to tell.
    pub async fn watch(self, client: Client, inventory: Inventory, changed: Changes, metrics: Metrics) {
        let telling = async {
            let mut looks = interval(LOOK_INTERVAL);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = looks.tick() => {}
                    () = self.wake.notified() => {}
                }
                if self.look(Instant::now(), &metrics) {
                    inventory.installations().into_iter().for_each(|installation| changed.note(installation));
                }
            }
        };
        tokio::select! {
            () = telling => {}
            () = self.follow(client) => {}
        }
    }

    async fn follow(&self, client: Client) {
        let config = watcher::Config::default().labels(INJECTED).fields(UNFINISHED).page_size(PAGE);
        let mut events = watcher(Api::<ProxyPod>::all(client), config).default_backoff().boxed();
        let mut listed = Census::default();
        loop {
            match events.try_next().await {
                Ok(Some(event)) => self.take_in(event, &mut listed),
                Ok(None) => return,
                Err(error) => {
                    warn!(error = %error, "pods with a proxy can't be watched; it is tried again");
                    if is_refused(&error) {
                        self.lock().census = None;
                    }
                }
            }
        }
    }

    fn take_in(&self, event: watcher::Event<ProxyPod>, listed: &mut Census) {
        let uid = |pod: &mut ProxyPod| pod.meta_mut().uid.take().unwrap_or_default();
        match event {
            watcher::Event::Init => *listed = Census::default(),
            watcher::Event::InitApply(mut pod) => listed.observe(&uid(&mut pod), pod.sighting),
            watcher::Event::InitDone => {
                let complete = std::mem::take(listed);
                info!(pods = complete.len(), "pods with a proxy are listed");
                self.lock().census = Some(complete);
                self.wake.notify_one();
            }
            watcher::Event::Apply(mut pod) => {
                if let Some(census) = &mut self.lock().census {
                    census.observe(&uid(&mut pod), pod.sighting);
                }
            }
            watcher::Event::Delete(mut pod) => {
                if let Some(census) = &mut self.lock().census {
                    census.forget(&uid(&mut pod));
                }
            }
        }
    }

    /// Sets the metrics, and takes up what is new if it may be told; whether it was.
    fn look(&self, now: Instant, metrics: &Metrics) -> bool {
        let mut state = self.lock();
        let Some(census) = &state.census else { return false };
        metrics.set_proxies(&census.by_version());
        let news = News { versions: census.by_revision(), notes: state.notes.clone() };
        let due = match &state.told {
            None => true,
            Some((at, told)) => *told != news && now.duration_since(*at) >= TELL_INTERVAL,
        };
        if due {
            state.told = Some((now, news));
        }
        due
    }
}

/// Whether the server refuses the watch, rather than failing: what was seen before counts no longer.
fn is_refused(error: &watcher::Error) -> bool {
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

    fn listed(pods: &[(&str, &str)]) -> Proxies {
        let (proxies, mut listed) = (Proxies::default(), Census::default());
        proxies.take_in(watcher::Event::Init, &mut listed);
        for (uid, version) in pods {
            proxies.take_in(watcher::Event::InitApply(pod(uid, version)), &mut listed);
        }
        assert_eq!(proxies.summary(&[DEFAULT.to_owned()], "1.32.0"), None, "half a list tells nothing");
        proxies.take_in(watcher::Event::InitDone, &mut listed);
        proxies
    }

    fn versions(proxies: &Proxies) -> Vec<String> {
        proxies.seen("mesh", &[DEFAULT.to_owned()]).unwrap().versions
    }

    #[test]
    fn nothing_is_told_before_the_first_list() {
        let proxies = Proxies::default();
        assert!(!proxies.look(Instant::now(), &Metrics::new()));
        assert_eq!(proxies.seen("mesh", &[DEFAULT.to_owned()]), None);
    }

    #[test]
    fn what_changes_within_a_minute_is_told_when_it_is_over_and_once() {
        let proxies = listed(&[("a", "1.31.2")]);
        let (start, metrics) = (Instant::now(), Metrics::new());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(proxies.look(start, &metrics));
        assert_eq!(versions(&proxies), ["1.31.2"]);
        let mut list = Census::default();
        proxies.take_in(watcher::Event::Apply(pod("b", "1.32.0")), &mut list);
        proxies.note("mesh", Some("waits".into()));
        assert!(!proxies.look(after(59), &metrics));
        assert_eq!(versions(&proxies), ["1.31.2"]);
        assert!(proxies.look(after(60), &metrics));
        assert_eq!(versions(&proxies), ["1.31.2", "1.32.0"]);
        assert_eq!(proxies.seen("mesh", &[DEFAULT.to_owned()]).unwrap().message.as_deref(), Some("waits"));
        assert!(!proxies.look(after(200), &metrics), "nothing is new");
        assert_eq!(
            proxies.summary(&[DEFAULT.to_owned()], "1.32.0").unwrap().outdated,
            1,
            "what is asked for is as it is now"
        );
    }

    #[test]
    fn pods_that_come_and_go_between_two_looks_are_no_news() {
        let proxies = listed(&[("a", "1.31.2")]);
        let (start, metrics) = (Instant::now(), Metrics::new());
        assert!(proxies.look(start, &metrics));
        let mut list = Census::default();
        for n in 0..500 {
            proxies.take_in(watcher::Event::Apply(pod(&format!("p{n}"), "1.31.2")), &mut list);
            proxies.take_in(watcher::Event::Delete(pod(&format!("p{n}"), "1.31.2")), &mut list);
            assert!(!proxies.look(start + Duration::from_secs(61 + n), &metrics));
        }
    }

    #[test]
    fn a_new_list_replaces_what_was_known() {
        let proxies = listed(&[("a", "1.31.2"), ("b", "1.31.2")]);
        let mut list = Census::default();
        proxies.take_in(watcher::Event::Init, &mut list);
        proxies.take_in(watcher::Event::InitApply(pod("b", "1.32.0")), &mut list);
        proxies.take_in(watcher::Event::InitDone, &mut list);
        let summary = proxies.summary(&[DEFAULT.to_owned()], "1.32.0").unwrap();
        assert_eq!((summary.count, summary.outdated), (1, 0));
    }
}
