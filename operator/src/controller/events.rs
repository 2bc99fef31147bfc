//! Events, published by a task of their own, so that a slow API server does not delay reconciles.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use meshwright_api::conditions::Reason;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::mesh::text::shortened;

/// Events waiting to be published; further ones are dropped and logged.
const QUEUE: usize = 256;
/// The API server's limit for an Event's note, in bytes.
const LONGEST_NOTE: usize = 1024;
/// The API server's limit for an Event's action, in bytes.
const LONGEST_ACTION: usize = 128;

/// Series that can be continued at a time.
const MAX_SERIES: usize = 256;

/// What the Events of a series have in common: the object by its UID, reason and note.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct SeriesKey {
    object: Option<String>,
    reason: String,
    note: Option<String>,
}

impl SeriesKey {
    fn of(event: &Event, about: &ObjectReference) -> Self {
        Self { object: about.uid.clone(), reason: event.reason.clone(), note: event.note.clone() }
    }
}

/// One recorder per series: a recorder alone would aggregate Events that differ in their notes, and keep the first note.
struct Recorders {
    client: Client,
    reporter: Reporter,
    by_series: HashMap<SeriesKey, Recorder>,
}

impl Recorders {
    fn of(&mut self, event: &Event, about: &ObjectReference) -> Recorder {
        let key = SeriesKey::of(event, about);
        if self.by_series.len() >= MAX_SERIES && !self.by_series.contains_key(&key) {
            self.by_series.clear();
        }
        let new = || Recorder::new(self.client.clone(), self.reporter.clone());
        self.by_series.entry(key).or_insert_with(new).clone()
    }
}

/// Accepts Events. Clones share the queue.
#[derive(Clone)]
pub struct EventSink {
    queue: mpsc::Sender<(Event, ObjectReference)>,
}

impl EventSink {
    /// Returns a sink, and the task that publishes Events until all sinks are dropped.
    pub fn new(client: Client, instance: Option<String>) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (queue, mut pending) = mpsc::channel::<(Event, ObjectReference)>(QUEUE);
        let reporter = Reporter { controller: "meshwright.dev/operator".into(), instance };
        let writer = async move {
            let mut recorders = Recorders { client, reporter, by_series: HashMap::new() };
            while let Some((event, about)) = pending.recv().await {
                let recorder = recorders.of(&event, &about);
                if let Err(error) = recorder.publish(&event, &about).await {
                    debug!(error = %error, reason = event.reason, "publishing an Event failed");
                }
            }
        };
        (Self { queue }, writer)
    }

    /// Publishes an Event. Events about the same object with the same reason, `action` and note are aggregated into a
    /// series.
    pub fn publish<K>(&self, about: &K, type_: EventType, reason: Reason, action: &str, note: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        self.publish_about(about.object_ref(&()), type_, reason, action, note);
    }

    /// Like [`Self::publish`], for an object of which only the reference is known.
    pub fn publish_about(&self, about: ObjectReference, type_: EventType, reason: Reason, action: &str, note: &str) {
        let event = Event {
            type_,
            reason: reason.as_str().to_owned(),
            note: Some(shortened(note, LONGEST_NOTE)),
            action: shortened(action, LONGEST_ACTION),
            secondary: None,
        };
        if self.queue.try_send((event, about)).is_err() {
            warn!(reason = reason.as_str(), "the Event queue is full; dropped an Event");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_have_same_object_reason_and_note() {
        let key = |uid: &str, reason: Reason, note: &str| {
            let event = Event {
                type_: EventType::Normal,
                reason: reason.as_str().to_owned(),
                note: Some(note.to_owned()),
                action: "Reconcile".to_owned(),
                secondary: None,
            };
            let about = ObjectReference { uid: Some(uid.to_owned()), ..ObjectReference::default() };
            SeriesKey::of(&event, &about)
        };
        let first = key("a", Reason::Healthy, "Istio 1.30.3 is ready");
        assert_eq!(first, key("a", Reason::Healthy, "Istio 1.30.3 is ready"));
        for other in [
            key("b", Reason::Healthy, "Istio 1.30.3 is ready"),
            key("a", Reason::Paused, "Istio 1.30.3 is ready"),
            key("a", Reason::Healthy, "Istio 1.31.0 is ready"),
        ] {
            assert_ne!(first, other);
        }
    }
}
