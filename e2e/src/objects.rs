//! Helpers for objects that many tests use.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, Namespace, Node, Pod};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;

use crate::wait::{self, WaitError};
use crate::{LabError, NodeSpec, TestResult};

/// Number of Pods that [`churn_pods`] creates before it deletes them.
const BATCH: usize = 50;

/// Creates a namespace with the given labels and waits until Pods can be created in it.
pub async fn namespace(client: &Client, name: &str, labels: &[(&str, &str)]) -> Result<(), LabError> {
    let labels: BTreeMap<_, _> = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(name.to_owned());
    namespace.metadata.labels = Some(labels);
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let created = namespaces.create(&PostParams::default(), &namespace).await;
    created.map_err(LabError::api(format!("create the namespace {name}")))?;
    // Admission rejects Pods until the controller has created the namespace's default ServiceAccount.
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(client.clone(), name);
    wait::until(wait::TIMEOUT, format!("the default ServiceAccount of {name}"), async || {
        accounts.get("default").await.map_err(|error| error.to_string())
    })
    .await
    .map_err(|error| LabError::Waited(Box::new(error)))?;
    Ok(())
}

/// A Deployment with `replicas` Pods labelled `app: <name>`; kwok reports them as ready.
#[must_use]
pub fn deployment(name: &str, replicas: i32) -> Deployment {
    let labels = json!({"app": name});
    let container = json!({"name": "app", "image": "registry.example/shop/app:1", "ports": [{"containerPort": 8080}]});
    let deployment = json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    });
    // If the JSON above were invalid, the API server would reject the empty object.
    serde_json::from_value(deployment).unwrap_or_default()
}

/// A Pod with one plain container and the given labels.
#[must_use]
pub fn pod(name: &str, labels: &[(&str, &str)]) -> Pod {
    let labels: BTreeMap<_, _> = labels.iter().copied().collect();
    let container = json!({"name": "app", "image": "registry.example/shop/app:1"});
    let pod = json!({"metadata": {"name": name, "labels": labels}, "spec": {"containers": [container]}});
    serde_json::from_value(pod).unwrap_or_default()
}

/// The istio-proxy container of a Pod.
#[must_use]
pub fn proxy(pod: &Pod) -> Option<&Container> {
    let spec = pod.spec.as_ref()?;
    let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    all.find(|container| container.name == "istio-proxy")
}

/// Creates and deletes `count` Pods in batches; returns how many were injected.
pub async fn churn_pods(client: &Client, count: usize, namespace: &str) -> TestResult<usize> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut injected = 0;
    for first in (0..count).step_by(BATCH) {
        for n in first..count.min(first + BATCH) {
            let created = pods.create(&PostParams::default(), &pod(&format!("p-{n}"), &[("app", "p")])).await?;
            injected += usize::from(proxy(&created).is_some());
        }
        pods.delete_collection(&DeleteParams::default().grace_period(0), &ListParams::default()).await?;
        wait::until(wait::TIMEOUT, "deletion of the batch", async || {
            let left = pods.list_metadata(&ListParams::default()).await.map_err(|e| e.to_string())?.items.len();
            if left == 0 { Ok(()) } else { Err(format!("{left} remain")) }
        })
        .await?;
    }
    Ok(injected)
}

/// Creates `count` Deployments with one Pod each, named `workload-0` and so on, and waits until all Pods are ready.
pub async fn workload(client: &Client, count: usize, namespace: &str) -> Result<(), LabError> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    for n in 0..count {
        let name = format!("workload-{n}");
        let created = deployments.create(&PostParams::default(), &deployment(&name, 1)).await;
        created.map_err(LabError::api(format!("create the Deployment {namespace}/{name}")))?;
    }
    wait::until(wait::TIMEOUT, format!("{count} Deployments in {namespace} to be ready"), async || {
        let list = deployments.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let ready = list.iter().filter(|deployment| rolled_out(deployment).is_ok()).count();
        if ready >= count { Ok(()) } else { Err(format!("{ready} are ready")) }
    })
    .await
    .map_err(|error| LabError::Waited(Box::new(error)))
}

/// Waits until a Deployment is rolled out and all its Pods are ready.
pub async fn deployment_ready(client: &Client, namespace: &str, name: &str) -> Result<Deployment, WaitError> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    wait::until(wait::TIMEOUT, format!("the Deployment {namespace}/{name} to be ready"), async || {
        let deployment = deployments.get(name).await.map_err(|error| error.to_string())?;
        rolled_out(&deployment)?;
        Ok(deployment)
    })
    .await
}

/// Checks that the Deployment's controller has observed the latest generation and all Pods are updated and ready. The
/// error describes the current state.
pub fn rolled_out(deployment: &Deployment) -> Result<(), String> {
    let desired = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let (updated, ready) = (status.updated_replicas.unwrap_or(0), status.ready_replicas.unwrap_or(0));
    let total = status.replicas.unwrap_or(0);
    let observed = status.observed_generation >= deployment.metadata.generation;
    if observed && updated == desired && ready == desired && total == desired {
        Ok(())
    } else {
        Err(format!(
            "{ready} ready and {updated} updated of {total}, {desired} desired, latest generation observed: {observed}"
        ))
    }
}

/// Sorted names of the Pods that match a label selector.
pub async fn pod_names(client: &Client, namespace: &str, selector: &str) -> Result<Vec<String>, LabError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let list = pods.list(&ListParams::default().labels(selector)).await;
    let list = list.map_err(LabError::api(format!("list the Pods with {selector} in {namespace}")))?;
    let mut names: Vec<_> = list.iter().map(kube::ResourceExt::name_any).collect();
    names.sort();
    Ok(names)
}

/// Creates a Node like a kubelet; kwok reports it as Ready.
pub(crate) async fn node(client: &Client, spec: &NodeSpec, address: std::net::Ipv4Addr) -> Result<(), LabError> {
    let mut labels = spec.labels.clone();
    for (key, value) in [("hostname", spec.name.as_str()), ("os", "linux"), ("arch", "amd64")] {
        labels.entry(format!("kubernetes.io/{key}")).or_insert_with(|| value.to_owned());
    }
    let node = json!({
        "metadata": {"name": spec.name, "labels": labels},
        "spec": {"providerID": spec.provider_id},
        "status": {
            "capacity": spec.allocatable,
            "allocatable": spec.allocatable,
            "addresses": [
                {"type": "InternalIP", "address": address.to_string()},
                {"type": "Hostname", "address": spec.name},
            ],
            "nodeInfo": {
                "architecture": "amd64", "operatingSystem": "linux", "kubeletVersion": "v1.36.3", "osImage": "lab",
                "bootID": "", "containerRuntimeVersion": "lab://1", "kernelVersion": "6", "kubeProxyVersion": "",
                "machineID": "", "systemUUID": "",
            },
        },
    });
    let node: Node = serde_json::from_value(node)
        .map_err(|error| LabError::Manifest { origin: format!("the Node {}", spec.name), detail: error.to_string() })?;
    let nodes: Api<Node> = Api::all(client.clone());
    nodes
        .create(&PostParams::default(), &node)
        .await
        .map_err(LabError::api(format!("create the Node {}", node.name_any())))?;
    Ok(())
}
