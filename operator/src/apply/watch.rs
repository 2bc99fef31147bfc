//! The watches: one per kind, on our mark, feeding the inventory and telling which installation to look at.

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
use crate::catalog::explain;
use crate::mesh::kind::Kind;
use crate::mesh::object::{INSTALLATION_LABEL, ObjectKey};
use crate::runtime::ready::Readiness;
use crate::runtime::requests::why;

/// A kind that the API server doesn't have is asked for again after this long, or once we wrote an object of it.
const NOT_SERVED: Duration = Duration::from_mins(5);

/// Starts a watch per kind. Each sends the name of an installation when something that matters to it has changed, and
/// releases its readiness handle when it has seen the whole list once. The tasks end with the set.
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
                        let mut concerned = take_in(kind, event, &inventory, &mut relisted);
                        if done {
                            // Whoever was told that this kind can't be watched hears that it can.
                            concerned.extend(inventory.installations());
                        }
                        for installation in concerned {
                            changed.note(installation);
                        }
                        if done && let Some(handle) = handle.take() {
                            handle.release();
                        }
                    }
                    Ok(None) => return,
                    Err(error) if !kind.built_in() && is_not_served(&error) => {
                        debug!(%kind, "the API server has no such kind");
                        let mut concerned = inventory.retain(kind, &BTreeSet::new());
                        concerned.extend(inventory.installations());
                        for installation in concerned {
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
                        warn!(%kind, error = %error, "a watch failed; it is tried again");
                        if inventory.note_trouble(kind, &in_words(&error), is_refused(&error)) {
                            for installation in inventory.installations() {
                                changed.note(installation);
                            }
                            // A watch that starts again tells nothing; a list does, and it shows what was missed.
                            events = self::events(client.clone(), kind).boxed();
                        }
                    }
                }
            }
        });
    }
}

/// What is wrong with a watch, in the server's words where it has any.
fn in_words(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(source)
        | watcher::Error::WatchStartFailed(source)
        | watcher::Error::WatchFailed(source) => why(source),
        watcher::Error::WatchError(status) => status.message.clone(),
        other @ watcher::Error::NoResourceVersion => explain(other),
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
    // Small pages for what is large: the whole set of definitions at once would set the process's peak of memory.
    let page = if matches!(kind, Kind::CustomResourceDefinition | Kind::ConfigMap) { 4 } else { 50 };
    let config = watcher::Config::default().labels(INSTALLATION_LABEL).page_size(page);
    watcher(Api::all_with(client, &resource), config).default_backoff()
}

/// Whether a watch that was on can't go on: a right was taken away, or the kind is no longer served. All else passes.
fn is_refused(error: &watcher::Error) -> bool {
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

/// Feeds one event to the inventory; answers which installations to look at.
fn take_in(
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
