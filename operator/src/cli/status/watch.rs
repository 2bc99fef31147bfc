//! Watches MeshInstallations and shows each change. Does I/O.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use kube::ResourceExt as _;
use kube::api::Api;
use kube_runtime::WatchStreamExt as _;
use kube_runtime::watcher::{self, Event, watcher};
use meshwright_api::MeshInstallation;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;

use super::screen::Screen;
use super::text::clean;
use super::{StatusError, find};
use crate::runtime::client::Clients;
use crate::runtime::requests::api_error_chain;
use crate::runtime::watch_activity::watch_config;

/// Interval at which ages are refreshed.
const AGE_INTERVAL: Duration = Duration::from_secs(1);

/// Shows every change until the process receives a signal; then reads and shows the final state and returns it.
pub(super) async fn watch(
    clients: &Clients,
    name: Option<&str>,
    found: Vec<MeshInstallation>,
    screen: &mut Screen,
) -> Result<Vec<MeshInstallation>, StatusError> {
    let listen = |kind| signal(kind).map_err(StatusError::ListenForInterrupt);
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let config = watch_config();
    let config = if let Some(name) = name { config.fields(&format!("metadata.name={name}")) } else { config };
    let api: Api<MeshInstallation> = Api::all(clients.watches.clone());
    let mut events = pin!(watcher(api, config).default_backoff());
    let mut ticks = tokio::time::interval(AGE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watched = WatchedMeshes::new(found);
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = ticks.tick(), if screen.ages() => {}
            event = events.next() => match event {
                Some(Ok(event)) => watched.take(event),
                Some(Err(error)) => watched.fail(error)?,
                None => break,
            },
        }
        screen.show(&watched.all(), watched.trouble.as_deref())?;
    }
    if let Ok(last) = find(&clients.requests, name).await {
        watched = WatchedMeshes::new(last);
    }
    let last = watched.all();
    screen.show(&last, watched.trouble.as_deref())?;
    Ok(last)
}

/// The MeshInstallations from the watch.
struct WatchedMeshes {
    known: BTreeMap<String, MeshInstallation>,
    /// Items of an incomplete list.
    listed: BTreeMap<String, MeshInstallation>,
    synced: bool,
    trouble: Option<String>,
}

impl WatchedMeshes {
    fn new(found: Vec<MeshInstallation>) -> Self {
        let known = found.into_iter().map(|mesh| (mesh.name_any(), mesh)).collect();
        Self { known, listed: BTreeMap::new(), synced: false, trouble: None }
    }

    fn all(&self) -> Vec<MeshInstallation> {
        self.known.values().cloned().collect()
    }

    fn take(&mut self, event: Event<MeshInstallation>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(mesh) => {
                self.listed.insert(mesh.name_any(), mesh);
            }
            Event::InitDone => {
                self.known = std::mem::take(&mut self.listed);
                self.synced = true;
                self.trouble = None;
            }
            Event::Apply(mesh) => {
                self.known.insert(mesh.name_any(), mesh);
                self.trouble = None;
            }
            Event::Delete(mesh) => {
                self.known.remove(&mesh.name_any());
                self.trouble = None;
            }
        }
    }

    /// Fails if the watch never synced; a later error is only shown because the watch is restarted.
    fn fail(&mut self, error: watcher::Error) -> Result<(), StatusError> {
        if !self.synced {
            return Err(StatusError::Watch(Box::new(error)));
        }
        self.trouble = Some(format!("watch failed, restarting: {}", clean(&api_error_chain(&error))));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::describe::samples;
    use super::*;

    fn lost() -> watcher::Error {
        watcher::Error::NoResourceVersion
    }

    #[test]
    fn replaces_items_only_after_complete_list() {
        let mut watched = WatchedMeshes::new(vec![samples::ready()]);
        watched.take(Event::Init);
        assert_eq!(watched.all().len(), 1);
        watched.take(Event::InitDone);
        assert!(watched.all().is_empty());
        watched.take(Event::Apply(samples::installing()));
        assert_eq!(watched.all(), [samples::installing()]);
        watched.take(Event::Delete(samples::installing()));
        assert!(watched.all().is_empty());
    }

    #[test]
    fn keeps_items_while_watch_restarts() {
        let mut watched = WatchedMeshes::new(vec![samples::ready()]);
        assert!(watched.fail(lost()).is_err());
        watched.take(Event::Init);
        watched.take(Event::InitApply(samples::ready()));
        watched.take(Event::InitDone);
        watched.fail(lost()).unwrap();
        assert_eq!(watched.all().len(), 1);
        assert!(watched.trouble.is_some());
        watched.take(Event::Apply(samples::ready()));
        assert_eq!(watched.trouble, None);
    }
}
