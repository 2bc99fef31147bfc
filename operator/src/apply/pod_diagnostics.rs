//! Explains why a workload's pods do not start, from the pods and their Events.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ListParams};
use serde_json::Value;
use tracing::debug;

use crate::mesh::object::DesiredObject;
use crate::mesh::upgrade::pod_failure::{events_of, pod_failure};
use crate::runtime::requests::within_deadline;

/// Pods to read; the newest ones decide.
const PODS: u32 = 50;
/// Events of type Warning to read.
const EVENTS: u32 = 200;

/// Reads pods and Events of workloads that do not roll out.
#[derive(Clone)]
pub struct PodDiagnostics {
    client: Client,
}

impl PodDiagnostics {
    /// Creates diagnostics that use this client.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self { client }
    }

    /// Describes why the pods of a workload do not start; `None` if neither pods nor Events show a cause, or if they
    /// can't be read. Only Events after `since` count, and none without it.
    pub async fn of(&self, workload: &DesiredObject, since: Option<Timestamp>) -> Option<String> {
        let namespace = workload.key.namespace.as_deref()?;
        let mut pods = self.pods(namespace, &selector(workload)?).await?;
        pods.sort_by_cached_key(|pod| text(pod, "/metadata/creationTimestamp"));
        let events = match since {
            Some(since) => events_of(&workload.key, self.warnings(namespace).await, since),
            None => Vec::new(),
        };
        pod_failure(&pods, &events)
    }

    async fn pods(&self, namespace: &str, selector: &str) -> Option<Vec<Value>> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let list = within_deadline(api.list(&ListParams::default().labels(selector).limit(PODS))).await;
        match list {
            Ok(list) => Some(list.items.iter().filter_map(|pod| serde_json::to_value(pod).ok()).collect()),
            Err(error) => {
                debug!(namespace, selector, error = %error, "listing pods failed");
                None
            }
        }
    }

    async fn warnings(&self, namespace: &str) -> Vec<Value> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        match within_deadline(api.list(&ListParams::default().fields("type=Warning").limit(EVENTS))).await {
            Ok(list) => list.items.iter().filter_map(|event| serde_json::to_value(event).ok()).collect(),
            Err(error) => {
                debug!(namespace, error = %error, "listing Events failed");
                Vec::new()
            }
        }
    }
}

fn text(of: &Value, path: &str) -> String {
    of.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The selector of a workload for a list request.
pub fn selector(workload: &DesiredObject) -> Option<String> {
    let value = workload.value();
    let labels: BTreeMap<String, String> =
        serde_json::from_value(value.pointer("/spec/selector/matchLabels")?.clone()).ok()?;
    Some(labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(","))
}
