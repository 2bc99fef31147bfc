//! Events, written by a task of their own: a slow API server must not slow a heal down for the sake of a note.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use meshwright_api::conditions::Reason;
use tokio::sync::mpsc;
use tracing::{debug, warn};

/// Events that may wait to be written; more are dropped, and a line in the log says so.
const QUEUE: usize = 256;
/// An event's note holds at most this many bytes.
const LONGEST_NOTE: usize = 1024;

/// Takes events. Cloning shares the queue.
#[derive(Clone)]
pub struct EventSink {
    queue: mpsc::Sender<(Event, ObjectReference)>,
}

impl EventSink {
    /// A sink, and the task that writes what it takes until all sinks are gone.
    pub fn new(client: Client, instance: Option<String>) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (queue, mut due) = mpsc::channel::<(Event, ObjectReference)>(QUEUE);
        let recorder = Recorder::new(client, Reporter { controller: "meshwright.dev/operator".into(), instance });
        let writer = async move {
            while let Some((event, about)) = due.recv().await {
                if let Err(error) = recorder.publish(&event, &about).await {
                    debug!(error = %error, reason = event.reason, "an Event could not be written");
                }
            }
        };
        (Self { queue }, writer)
    }

    /// Notes something that went well (`Normal`) or needs a look (`Warning`). `action` tells two notes of one reason
    /// apart: those that share it are counted as one.
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
            warn!(reason = reason.as_str(), "too many Events at once; one was dropped");
        }
    }
}
