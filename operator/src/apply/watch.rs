//! One watch per kind, selected by our label, which updates the inventory and requeues installations. A watch that is
//! silent or fails repeatedly starts over with a new list, and its kind counts as unsynced until then.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::Api;
use kube::{Client, Resource as _, ResourceExt as _};
use kube_runtime::{WatchStreamExt as _, watcher};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use super::changes::Changes;
use super::error::absent;
use super::inventory::Inventory;
use super::raw_object::RawObject;
use crate::catalog::error_chain;
use crate::mesh::kind::Kind;
use crate::mesh::object::{INSTALLATION_LABEL, ObjectKey, REPLACED_ANNOTATION};
use crate::runtime::client::Clients;
use crate::runtime::ready::{Readiness, ReadinessHandle};
use crate::runtime::requests::api_error_message;
use crate::runtime::watch_activity::{MAX_SILENCE, WatchActivity, WatchKey, watch_config};
use crate::runtime::watch_health::WatchHealth;

/// Retry interval for a kind that the API server does not serve; a write of ours to that kind ends it.
const NOT_SERVED: Duration = Duration::from_mins(5);

/// Starts a watch per kind. Each requeues an installation when a relevant object has changed, and is part of readiness
/// from its first list on. The tasks end with the set.
pub fn watch_all(
    tasks: &mut JoinSet<()>,
    clients: &Clients,
    inventory: &Inventory,
    readiness: &Readiness,
    changed: &Changes,
) {
    for kind in Kind::ALL {
        let watch = KindWatch {
            kind,
            key: WatchKey::new(&RawObject::url_path(&kind.api_resource(), None), &config(kind)),
            client: clients.watches.clone(),
            activity: clients.watch_activity.clone(),
            inventory: inventory.clone(),
            readiness: readiness.clone(),
            changed: changed.clone(),
            pending: Some(readiness.handle(kind.plural())),
            health: WatchHealth::default(),
            relisted: BTreeSet::new(),
        };
        tasks.spawn(watch.run());
    }
}

type Events = BoxStream<'static, Result<watcher::Event<RawObject>, watcher::Error>>;

/// The watch of one kind.
struct KindWatch {
    kind: Kind,
    key: WatchKey,
    client: Client,
    activity: WatchActivity,
    inventory: Inventory,
    readiness: Readiness,
    changed: Changes,
    /// Held until the kind is listed.
    pending: Option<ReadinessHandle>,
    health: WatchHealth,
    relisted: BTreeSet<ObjectKey>,
}

/// Why a watch starts over with a new list.
enum Restart {
    /// The API server rejects the watch or fails repeatedly; list after this delay.
    Failed(Duration),
    /// The API server does not serve the kind.
    NotServed,
}

impl KindWatch {
    async fn run(mut self) {
        loop {
            // Only a new list shows the changes that a watch has missed.
            let mut events = events(self.client.clone(), self.kind);
            let Some(restart) = self.follow(&mut events).await else { return };
            drop(events);
            self.relisted.clear();
            match restart {
                Restart::Failed(delay) => sleep(delay).await,
                Restart::NotServed => {
                    let _ = timeout(NOT_SERVED, self.inventory.next_write(self.kind)).await;
                }
            }
        }
    }

    /// Handles events until the watch has to start over; `None` at the end of the stream.
    async fn follow(&mut self, events: &mut Events) -> Option<Restart> {
        let kind = self.kind;
        let mut listed_at = None;
        loop {
            let next = tokio::select! {
                next = events.try_next() => next,
                () = self.activity.until_silent(&self.key, listed_at) => {
                    warn!(%kind, "the watch is silent; listing again");
                    self.lose(&format!("no data for {} seconds", MAX_SILENCE.as_secs()));
                    return Some(Restart::Failed(Duration::ZERO));
                }
            };
            match next {
                Ok(Some(event)) => {
                    listed_at = listed_at.or_else(|| is_listed(&event).then(Instant::now));
                    self.handle(event);
                }
                Ok(None) => return None,
                Err(error) if !kind.built_in() && is_not_served(&error) => {
                    debug!(%kind, "the API server does not serve this kind");
                    self.activity.forget(self.key.path());
                    let affected = self.inventory.retain(kind, &BTreeSet::new());
                    self.synced(affected);
                    return Some(Restart::NotServed);
                }
                Err(error) => {
                    warn!(%kind, error = %error, "watch failed; retrying");
                    let last_data = self.activity.last_data(&self.key).map(Instant::into_std);
                    let delay = self.health.note_error(&error, last_data, std::time::Instant::now());
                    let is_denied = is_denied(&error);
                    if is_denied || delay.is_some() {
                        self.lose(&error_text(&error));
                        return Some(Restart::Failed(delay.unwrap_or_default()));
                    }
                    self.inventory.record_watch_error(kind, &error_text(&error));
                }
            }
        }
    }

    fn handle(&mut self, event: watcher::Event<RawObject>) {
        let done = is_listed(&event);
        if matches!(event, watcher::Event::Apply(_) | watcher::Event::Delete(_)) {
            self.health.recover();
        }
        let affected = handle_event(self.kind, event, &self.inventory, &mut self.relisted);
        if done {
            self.synced(affected);
        } else {
            self.requeue(affected);
        }
    }

    /// After a complete list, which clears errors about this watch in status.
    fn synced(&mut self, mut affected: Vec<String>) {
        affected.extend(self.inventory.installations());
        self.requeue(affected);
        if let Some(pending) = self.pending.take() {
            pending.release();
        }
    }

    /// Counts the kind as unsynced until the next complete list.
    fn lose(&mut self, error: &str) {
        if self.inventory.lose_sync(self.kind, error) {
            let affected = self.inventory.installations().into_iter().collect();
            self.requeue(affected);
        }
        let (readiness, kind) = (&self.readiness, self.kind);
        self.pending.get_or_insert_with(|| readiness.handle(kind.plural()));
    }

    fn requeue(&self, affected: Vec<String>) {
        for installation in affected {
            self.changed.note(installation);
        }
    }
}

/// Whether the event ends a list.
const fn is_listed(event: &watcher::Event<RawObject>) -> bool {
    matches!(event, watcher::Event::InitDone)
}

/// The error of a watch, as the API server reports it if it does.
fn error_text(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(source)
        | watcher::Error::WatchStartFailed(source)
        | watcher::Error::WatchFailed(source) => api_error_message(source),
        watcher::Error::WatchError(status) => status.message.clone(),
        other @ watcher::Error::NoResourceVersion => error_chain(other),
    }
}

fn is_not_served(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(source) | watcher::Error::WatchStartFailed(source)) = error else {
        return false;
    };
    absent(source)
}

fn config(kind: Kind) -> watcher::Config {
    // Small pages for large objects: a list of all CRDs would determine the process's peak memory.
    let page = if matches!(kind, Kind::CustomResourceDefinition | Kind::ConfigMap) { 4 } else { 50 };
    watch_config().labels(INSTALLATION_LABEL).page_size(page)
}

fn events(client: Client, kind: Kind) -> Events {
    watcher(Api::all_with(client, &kind.api_resource()), config(kind)).default_backoff().boxed()
}

/// Whether a watch can't continue, since a permission was revoked or the kind is no longer served.
fn is_denied(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) | watcher::Error::WatchError(status) => {
            matches!(status.code, 401 | 403 | 404)
        }
        _ => false,
    }
}

fn key_of(kind: Kind, object: &RawObject) -> ObjectKey {
    ObjectKey { kind, namespace: object.namespace().filter(|_| kind.namespaced()), name: object.name_any() }
}

/// Whether the object's metadata exceeds the limits of responses, so that the client has only its identity. Other stubs
/// show whose they are.
fn is_only_identity(object: &RawObject) -> bool {
    object.value().get(REPLACED_ANNOTATION).is_some() && !object.labels().contains_key(INSTALLATION_LABEL)
}

/// Updates the inventory from one event; returns the installations to requeue.
fn handle_event(
    kind: Kind,
    event: watcher::Event<RawObject>,
    inventory: &Inventory,
    relisted: &mut BTreeSet<ObjectKey>,
) -> Vec<String> {
    match event {
        watcher::Event::Init => {
            relisted.clear();
            Vec::new()
        }
        watcher::Event::InitApply(object) if is_only_identity(&object) => Vec::new(),
        watcher::Event::Apply(object) if is_only_identity(&object) => {
            inventory.forget(&key_of(kind, &object), &object.into_value()).into_iter().collect()
        }
        watcher::Event::InitApply(object) => {
            let key = key_of(kind, &object);
            relisted.insert(key.clone());
            inventory.observe_listed(key, &object.into_value()).into_iter().collect()
        }
        watcher::Event::InitDone => {
            debug!(%kind, objects = relisted.len(), "listed");
            inventory.retain(kind, &std::mem::take(relisted))
        }
        watcher::Event::Apply(object) => {
            let key = key_of(kind, &object);
            inventory.observe(key, &object.into_value()).into_iter().collect()
        }
        watcher::Event::Delete(object) => {
            let key = key_of(kind, &object);
            inventory.forget(&key, &object.into_value()).into_iter().collect()
        }
    }
}
