//! Events, published by a task of their own, so that a slow API server does not delay reconciles.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use meshwright_api::conditions::Reason;
use tokio::sync::mpsc;
use tracing::{debug, warn};

/// Events waiting to be published; further ones are dropped and logged.
const QUEUE: usize = 256;
/// The API server's limit for an Event's note, in bytes.
const LONGEST_NOTE: usize = 1024;

/// Notes whose Events can be aggregated at a time.
const MAX_NOTES: usize = 256;

/// One recorder per note: a recorder aggregates Events that differ in their notes only, and keeps the first note.
struct Recorders {
    client: Client,
    reporter: Reporter,
    by_note: HashMap<Option<String>, Recorder>,
}

impl Recorders {
    fn of(&mut self, event: &Event) -> Recorder {
        if self.by_note.len() >= MAX_NOTES && !self.by_note.contains_key(&event.note) {
            self.by_note.clear();
        }
        let new = || Recorder::new(self.client.clone(), self.reporter.clone());
        self.by_note.entry(event.note.clone()).or_insert_with(new).clone()
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
            let mut recorders = Recorders { client, reporter, by_note: HashMap::new() };
            while let Some((event, about)) = pending.recv().await {
                let recorder = recorders.of(&event);
                if let Err(error) = recorder.publish(&event, &about).await {
                    debug!(error = %error, reason = event.reason, "publishing an Event failed");
                }
            }
        };
        (Self { queue }, writer)
    }

    /// Publishes an Event. Events with the same reason, `action` and note are aggregated into a series.
    pub fn publish<K>(&self, about: &K, type_: EventType, reason: Reason, action: &str, note: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        let mut note = note.to_owned();
        note.truncate(note.floor_char_boundary(LONGEST_NOTE));
        let event = Event {
            type_,
            reason: reason.as_str().to_owned(),
            note: Some(note),
            action: action.to_owned(),
            secondary: None,
        };
        if self.queue.try_send((event, about.object_ref(&()))).is_err() {
            warn!(reason = reason.as_str(), "the Event queue is full; dropped an Event");
        }
    }
}
