//! Dump of the cluster state for failed tests.

use std::fmt::Write as _;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt as _};

use crate::{Lab, objects};

/// Bytes of each log that the dump includes.
const LOG_BYTES: u64 = 12 * 1024;

impl Lab {
    /// MeshInstallations, Deployments, Pods, Events, and the last log lines of the operator and istiod, as text.
    pub async fn dump(&self) -> String {
        let mut text = String::new();
        section(&mut text, "MeshInstallations", installations(&self.client()).await);
        section(&mut text, "Deployments", deployments(&self.client()).await);
        section(&mut text, "Pods", pods(&self.client()).await);
        section(&mut text, "Events", events(&self.client()).await);
        for (pod, log) in self.log_tails(LOG_BYTES) {
            section(&mut text, &format!("Log of {pod}"), Ok(log));
        }
        if Self::is_external() {
            section(&mut text, "Logs", logs_by_api(&self.client()).await);
        }
        text
    }
}

fn section(text: &mut String, title: &str, content: Result<String, kube::Error>) {
    let content = content.unwrap_or_else(|error| format!("could not be read: {error}"));
    let content = if content.trim().is_empty() { "none" } else { content.trim_end() };
    // Writing to a String can't fail.
    let _ = writeln!(text, "==== {title}\n{content}\n");
}

async fn installations(client: &Client) -> Result<String, kube::Error> {
    let kind = GroupVersionKind::gvk("meshwright.dev", "v1alpha1", "MeshInstallation");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&kind));
    let mut list = match api.list(&ListParams::default()).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => return Ok("the kind is not served".to_owned()),
        list => list?,
    };
    for installation in &mut list {
        installation.metadata.managed_fields = None;
    }
    Ok(serde_saphyr::to_string(&list.items).unwrap_or_else(|error| error.to_string()))
}

async fn deployments(client: &Client) -> Result<String, kube::Error> {
    let list = Api::<Deployment>::all(client.clone()).list(&ListParams::default()).await?;
    let line = |deployment: &Deployment| {
        let state = objects::rolled_out(deployment).err().unwrap_or_else(|| "ready".to_owned());
        format!("{}/{}  {state}\n", deployment.namespace().unwrap_or_default(), deployment.name_any())
    };
    Ok(list.iter().map(line).collect())
}

async fn pods(client: &Client) -> Result<String, kube::Error> {
    // Some tests create thousands of Pods.
    let list = Api::<Pod>::all(client.clone()).list(&ListParams::default().limit(200)).await?;
    Ok(list.iter().map(pod_line).collect())
}

fn pod_line(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let mut line = format!(
        "{}/{}  {} {} {}",
        pod.namespace().unwrap_or_default(),
        pod.name_any(),
        status.phase.as_deref().unwrap_or("-"),
        status.pod_ip.as_deref().unwrap_or("-"),
        if pod.metadata.deletion_timestamp.is_some() { "terminating" } else { "" },
    );
    for container in status.container_statuses.unwrap_or_default() {
        let state = container.state.unwrap_or_default();
        let reason = state.waiting.map(|waiting| format!(" {} {}", text(waiting.reason), text(waiting.message)));
        let ready = if container.ready { "ready" } else { "not ready" };
        let reason = reason.unwrap_or_default();
        let _ = write!(line, "  [{} {ready}, restarts {}{reason}]", container.name, container.restart_count);
    }
    for condition in status.conditions.unwrap_or_default() {
        if condition.status != "True" {
            let _ = write!(line, "  {}={} {}", condition.type_, condition.status, text(condition.message));
        }
    }
    line.push('\n');
    line
}

async fn events(client: &Client) -> Result<String, kube::Error> {
    let mut list = Api::<Event>::all(client.clone()).list(&ListParams::default()).await?.items;
    list.sort_by_key(|event| event.metadata.creation_timestamp.clone());
    // The API server keeps an hour of Events; the latest ones explain the failure.
    let skip = list.len().saturating_sub(150);
    let line = |event: &Event| {
        let object = &event.involved_object;
        format!(
            "{} {} {} {}/{}: {}\n",
            event.metadata.creation_timestamp.as_ref().map_or_else(String::new, |time| time.0.to_string()),
            text(event.type_.clone()),
            text(event.reason.clone()),
            text(object.kind.clone()),
            text(object.name.clone()),
            text(event.message.clone())
        )
    };
    Ok(list.iter().skip(skip).map(line).collect())
}

async fn logs_by_api(client: &Client) -> Result<String, kube::Error> {
    let list = Api::<Pod>::all(client.clone()).list(&ListParams::default().limit(2000)).await?;
    let mut logs = String::new();
    for pod in list.iter().filter(|pod| crate::runner::Program::of(pod).is_some()) {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let params = kube::api::LogParams { tail_lines: Some(100), ..kube::api::LogParams::default() };
        let log = Api::<Pod>::namespaced(client.clone(), &namespace).logs(&name, &params).await;
        let log = log.unwrap_or_else(|error| format!("could not be read: {error}"));
        let _ = writeln!(logs, "---- {namespace}/{name}\n{log}");
    }
    Ok(logs)
}

fn text(value: Option<String>) -> String {
    value.unwrap_or_default()
}
