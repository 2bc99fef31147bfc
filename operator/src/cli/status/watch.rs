//! Follows the installations and shows each change. Does I/O.

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

use super::show::Screen;
use super::text::clean;
use super::{StatusError, find};
use crate::runtime::client::Clients;
use crate::runtime::requests::told;

/// How often ages are drawn anew.
const AGEING: Duration = Duration::from_secs(1);

/// Shows every change until Ctrl-C or a termination; then what is there, once more, so that what stays is the last
/// word. Returns that.
pub(super) async fn watch(
    clients: &Clients,
    name: Option<&str>,
    found: Vec<MeshInstallation>,
    screen: &mut Screen,
) -> Result<Vec<MeshInstallation>, StatusError> {
    let listen = |kind| signal(kind).map_err(StatusError::ListenForInterrupt);
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let config = watcher::Config::default();
    let config = if let Some(name) = name { config.fields(&format!("metadata.name={name}")) } else { config };
    let api: Api<MeshInstallation> = Api::all(clients.watches.clone());
    let mut events = pin!(watcher(api, config).default_backoff());
    let mut ticks = tokio::time::interval(AGEING);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut followed = Followed::new(found);
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = ticks.tick(), if screen.ages() => {}
            event = events.next() => match event {
                Some(Ok(event)) => followed.take(event),
                Some(Err(error)) => followed.fail(error)?,
                None => break,
            },
        }
        screen.show(&followed.all(), followed.trouble.as_deref())?;
    }
    if let Ok(last) = find(&clients.requests, name).await {
        followed = Followed::new(last);
    }
    let last = followed.all();
    screen.show(&last, followed.trouble.as_deref())?;
    Ok(last)
}

/// The installations as the watch tells of them.
struct Followed {
    known: BTreeMap<String, MeshInstallation>,
    /// Those of a list that isn't complete yet.
    listed: BTreeMap<String, MeshInstallation>,
    begun: bool,
    trouble: Option<String>,
}

impl Followed {
    fn new(found: Vec<MeshInstallation>) -> Self {
        let known = found.into_iter().map(|mesh| (mesh.name_any(), mesh)).collect();
        Self { known, listed: BTreeMap::new(), begun: false, trouble: None }
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
                self.begun = true;
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

    /// A watch that never began won't by itself; one that broke off begins anew.
    fn fail(&mut self, error: watcher::Error) -> Result<(), StatusError> {
        if !self.begun {
            return Err(StatusError::Watch(Box::new(error)));
        }
        self.trouble = Some(format!("the watch broke off and is begun anew: {}", clean(&told(&error))));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::picture::samples;
    use super::*;

    fn lost() -> watcher::Error {
        watcher::Error::NoResourceVersion
    }

    #[test]
    fn a_new_list_replaces_what_was_known_only_when_it_is_complete() {
        let mut followed = Followed::new(vec![samples::ready()]);
        followed.take(Event::Init);
        assert_eq!(followed.all().len(), 1);
        followed.take(Event::InitDone);
        assert!(followed.all().is_empty());
        followed.take(Event::Apply(samples::installing()));
        assert_eq!(followed.all(), [samples::installing()]);
        followed.take(Event::Delete(samples::installing()));
        assert!(followed.all().is_empty());
    }

    #[test]
    fn a_watch_that_breaks_off_keeps_the_picture_and_says_so_until_it_is_back() {
        let mut followed = Followed::new(vec![samples::ready()]);
        assert!(followed.fail(lost()).is_err());
        followed.take(Event::Init);
        followed.take(Event::InitApply(samples::ready()));
        followed.take(Event::InitDone);
        followed.fail(lost()).unwrap();
        assert_eq!(followed.all().len(), 1);
        assert!(followed.trouble.is_some());
        followed.take(Event::Apply(samples::ready()));
        assert_eq!(followed.trouble, None);
    }
}
