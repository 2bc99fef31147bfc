//! One watch per kind, selected by our label, which updates the inventory and requeues installations.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::Api;
use kube::{Client, ResourceExt as _};
use kube_runtime::{WatchStreamExt as _, watcher};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::changes::Changes;
use super::error::absent;
use super::inventory::Inventory;
use super::raw_object::RawObject;
use crate::catalog::error_chain;
use crate::mesh::kind::Kind;
use crate::mesh::object::{INSTALLATION_LABEL, ObjectKey};
use crate::runtime::ready::Readiness;
use crate::runtime::requests::api_error_message;

/// Retry interval for a kind that the API server does not serve; a write of ours to that kind ends it.
const NOT_SERVED: Duration = Duration::from_mins(5);

/// Starts a watch per kind. Each requeues an installation when a relevant object has changed, and releases its
/// readiness handle when its first list is complete. The tasks end with the set.
pub fn watch_all(
    tasks: &mut JoinSet<()>,
    client: &Client,
    inventory: &Inventory,
    readiness: &Readiness,
    changed: &Changes,
) {
    for kind in Kind::ALL {
        let handle = readiness.handle(kind.plural());
        let (client, inventory, changed) = (client.clone(), inventory.clone(), changed.clone());
        tasks.spawn(async move {
            let mut handle = Some(handle);
            let mut relisted = BTreeSet::new();
            let mut events = events(client.clone(), kind).boxed();
            loop {
                match events.try_next().await {
                    Ok(Some(event)) => {
                        let done = matches!(event, watcher::Event::InitDone);
                        let mut affected = handle_event(kind, event, &inventory, &mut relisted);
                        if done {
                            // Clears errors about this watch in status.
                            affected.extend(inventory.installations());
                        }
                        for installation in affected {
                            changed.note(installation);
                        }
                        if done && let Some(handle) = handle.take() {
                            handle.release();
                        }
                    }
                    Ok(None) => return,
                    Err(error) if !kind.built_in() && is_not_served(&error) => {
                        debug!(%kind, "the API server does not serve this kind");
                        let mut affected = inventory.retain(kind, &BTreeSet::new());
                        affected.extend(inventory.installations());
                        for installation in affected {
                            changed.note(installation);
                        }
                        if let Some(handle) = handle.take() {
                            handle.release();
                        }
                        let _ = timeout(NOT_SERVED, inventory.next_write(kind)).await;
                        relisted.clear();
                        events = self::events(client.clone(), kind).boxed();
                    }
                    Err(error) => {
                        warn!(%kind, error = %error, "watch failed; retrying");
                        if inventory.record_watch_error(kind, &error_text(&error), is_denied(&error)) {
                            for installation in inventory.installations() {
                                changed.note(installation);
                            }
                            // Only a new list shows the changes that were missed.
                            events = self::events(client.clone(), kind).boxed();
                        }
                    }
                }
            }
        });
    }
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

fn events(
    client: Client,
    kind: Kind,
) -> impl futures::Stream<Item = Result<watcher::Event<RawObject>, watcher::Error>> {
    let resource = kind.api_resource();
    // Small pages for large objects: a list of all CRDs would determine the process's peak memory.
    let page = if matches!(kind, Kind::CustomResourceDefinition | Kind::ConfigMap) { 4 } else { 50 };
    let config = watcher::Config::default().labels(INSTALLATION_LABEL).page_size(page);
    watcher(Api::all_with(client, &resource), config).default_backoff()
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
        watcher::Event::InitApply(object) => {
            let key = key_of(kind, &object);
            relisted.insert(key.clone());
            inventory.observe(key, &object.into_value()).into_iter().collect()
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
