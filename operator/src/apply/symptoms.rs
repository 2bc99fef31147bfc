//! Why a workload's pods don't come up: reads its pods and the warnings about them, when there is cause to.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ListParams};
use serde_json::Value;
use tracing::debug;

use crate::mesh::object::Desired;
use crate::mesh::upgrade::cause::{cause, told_of};
use crate::runtime::requests::within_deadline;

/// Pods looked at; the newest of them tell.
const PODS: u32 = 50;
/// Warnings looked at.
const EVENTS: u32 = 200;

/// Reads symptoms. Cloning shares the client.
#[derive(Clone)]
pub struct Symptoms {
    client: Client,
}

impl Symptoms {
    /// One with this client.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self { client }
    }

    /// Why the pods of a workload don't come up, in words; `None` where nothing is told, or nothing may be read. Of
    /// warnings only those count that were given `since` then; none where it isn't known since when.
    pub async fn of(&self, workload: &Desired, since: Option<Timestamp>) -> Option<String> {
        let namespace = workload.key.namespace.as_deref()?;
        let mut pods = self.pods(namespace, &selector(workload)?).await?;
        pods.sort_by_cached_key(|pod| text(pod, "/metadata/creationTimestamp"));
        let events = match since {
            Some(since) => told_of(&workload.key, self.warnings(namespace).await, since),
            None => Vec::new(),
        };
        cause(&pods, &events)
    }

    async fn pods(&self, namespace: &str, selector: &str) -> Option<Vec<Value>> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let list = within_deadline(api.list(&ListParams::default().labels(selector).limit(PODS))).await;
        match list {
            Ok(list) => Some(list.items.iter().filter_map(|pod| serde_json::to_value(pod).ok()).collect()),
            Err(error) => {
                debug!(namespace, selector, error = %error, "pods that don't come up can't be read");
                None
            }
        }
    }

    async fn warnings(&self, namespace: &str) -> Vec<Value> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        match within_deadline(api.list(&ListParams::default().fields("type=Warning").limit(EVENTS))).await {
            Ok(list) => list.items.iter().filter_map(|event| serde_json::to_value(event).ok()).collect(),
            Err(error) => {
                debug!(namespace, error = %error, "events can't be read");
                Vec::new()
            }
        }
    }
}

fn text(of: &Value, path: &str) -> String {
    of.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The selector of a workload, as a list request takes it.
pub fn selector(workload: &Desired) -> Option<String> {
    let value = workload.value();
    let labels: BTreeMap<String, String> =
        serde_json::from_value(value.pointer("/spec/selector/matchLabels")?.clone()).ok()?;
    Some(labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(","))
}
