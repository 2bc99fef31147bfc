//! Node ports: assignment in the API server's range, stability, and conflicts.

mod conflicts;
mod range;
mod stable;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use meshwright_api::MeshInstallationStatus;
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR_NAMESPACE, demo_spec};
use meshwright_e2e::{TestResult, wait};
use serde_json::{Value, json};

const NAMESPACE: &str = "istio-system";

/// Node port numbers by `service/port`.
type Ports = BTreeMap<String, i32>;

fn with(gateways: Value) -> Value {
    let mut spec = demo_spec();
    spec["gateways"] = gateways;
    spec
}

fn gateway(name: &str, service: Value) -> Value {
    let mut gateway = json!({"name": name});
    gateway["service"] = service;
    gateway
}

fn http(number: Option<i32>) -> Value {
    let port = match number {
        Some(number) => json!({"name": "http2", "port": 80, "nodePort": number}),
        None => json!({"name": "http2", "port": 80}),
    };
    json!({"type": "NodePort", "ports": [port]})
}

fn services(mesh: &Mesh) -> Api<Service> {
    Api::namespaced(mesh.client(), NAMESPACE)
}

/// Node ports of the gateways' Services.
async fn service_ports(mesh: &Mesh) -> Result<Ports, String> {
    let params = ListParams::default().labels("meshwright.dev/installation");
    let list = services(mesh).list(&params).await.map_err(|error| error.to_string())?;
    let mut ports = Ports::new();
    for service in list {
        let name = service.name_any();
        let spec = service.spec.unwrap_or_default();
        for port in spec.ports.unwrap_or_default() {
            ports.extend(port.node_port.map(|number| (format!("{name}/{}", port.name.unwrap_or_default()), number)));
        }
        ports.extend(spec.health_check_node_port.map(|number| (format!("{name}/healthCheckNodePort"), number)));
    }
    Ok(ports)
}

/// Waits until the Services have these ports.
async fn wait_service_ports(mesh: &Mesh, what: &str, expected: &Ports) -> TestResult {
    wait::until(wait::TIMEOUT, format!("{what}: {expected:?}"), async || {
        let actual = service_ports(mesh).await?;
        if actual == *expected { Ok(()) } else { Err(format!("{actual:?}")) }
    })
    .await?;
    Ok(())
}

fn ports(expected: &[(&str, i32)]) -> Ports {
    expected.iter().map(|(slot, number)| ((*slot).to_owned(), *number)).collect()
}

/// Creates an unmanaged Service with this node port.
async fn occupy(mesh: &Mesh, name: &str, number: i32) -> TestResult {
    let service = json!({
        "metadata": {"name": name},
        "spec": {"type": "NodePort", "ports": [{"name": "api", "port": 8080, "nodePort": number}]},
    });
    let api: Api<Service> = Api::namespaced(mesh.client(), "default");
    api.create(&PostParams::default(), &serde_json::from_value(service)?).await?;
    Ok(())
}

async fn release(mesh: &Mesh, name: &str) -> TestResult {
    let api: Api<Service> = Api::namespaced(mesh.client(), "default");
    api.delete(name, &DeleteParams::default()).await?;
    Ok(())
}

async fn status(mesh: &Mesh) -> TestResult<MeshInstallationStatus> {
    Ok(mesh.installations().get(NAME).await?.status.unwrap_or_default())
}

/// Deletes all Pods of the operator and waits for new ones.
async fn restart_operator(mesh: &Mesh) -> TestResult {
    let pods: Api<Pod> = Api::namespaced(mesh.client(), OPERATOR_NAMESPACE);
    let before: Vec<String> =
        pods.list(&ListParams::default()).await?.iter().map(kube::ResourceExt::name_any).collect();
    for name in &before {
        pods.delete(name, &DeleteParams::default()).await?;
    }
    wait::until(wait::TIMEOUT, "deletion of the operator's old pods", async || {
        let list = pods.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let old: Vec<String> =
            list.iter().map(kube::ResourceExt::name_any).filter(|name| before.contains(name)).collect();
        if old.is_empty() { Ok(()) } else { Err(format!("{old:?}")) }
    })
    .await?;
    mesh.deployment_ready(OPERATOR_NAMESPACE, "meshwright").await?;
    Ok(())
}

/// Deletes a Service and waits until the operator has recreated it.
async fn recreate_service(mesh: &Mesh, name: &str) -> TestResult {
    let uid = services(mesh).get(name).await?.uid();
    services(mesh).delete(name, &DeleteParams::default()).await?;
    wait::until(wait::TIMEOUT, format!("the Service {name} to be recreated"), async || {
        let found = services(mesh).get_opt(name).await.map_err(|error| error.to_string())?;
        match found {
            Some(service) if service.uid() != uid => Ok(()),
            other => Err(format!("{:?}", other.map(|service| service.metadata))),
        }
    })
    .await?;
    Ok(())
}
