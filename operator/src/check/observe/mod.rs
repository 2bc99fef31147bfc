//! I/O: reads a cluster. It writes nothing: access reviews aren't persisted, and the API server rejects the invalid
//! Service that reveals the node port range (if it accepts one, that Service is deleted immediately).

mod lists;
mod reviews;

pub use lists::workloads;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::ApiResource;
use kube::{Client, ResourceExt as _};
use meshwright_api::MeshInstallation;

use super::input::{CheckInput, DesiredMesh};
use super::snapshot::{ClusterSnapshot, NodePortUsage, ReadResult, Webhook};
use crate::apply::{ClusterDetector, Inventory, Reader};
use crate::controller::by_precedence;
use crate::mesh::object::DesiredObject;
use crate::mesh::peers::{Peer, PeerSet};
use crate::mesh::plan::{PlanConflict, plan};
use crate::mesh::rbac::Permission;
use crate::nodeports::NodePortServer;
use crate::platform::{DetectedPlatform, Platforms};
use crate::runtime::requests::{api_error_chain, api_error_message};

/// Number of concurrent requests.
const CONCURRENCY: usize = 16;
/// Namespace of the invalid Service: the operator's namespace may not exist yet.
const PROBE_NAMESPACE: &str = "default";
/// Name of our own CRD.
const MESH_CRD: &str = "meshinstallations.meshwright.dev";

/// Reads the data for the checks. `permissions` are those that the operator in `operator_namespace` needs.
pub async fn observe(
    client: &Client,
    input: &CheckInput,
    operator_namespace: &str,
    permissions: Vec<Permission>,
    DetectedCluster { version, platform, node_ports }: DetectedCluster,
) -> ClusterSnapshot {
    let (namespaces, nodes, crds, webhooks, permissions) = futures::join!(
        lists::namespaces(client),
        lists::nodes(client),
        lists::crds(client),
        webhooks(client),
        reviews::review(client, operator_namespace, permissions),
    );
    let known: Vec<&str> = crds.iter().flatten().map(|crd| crd.name.as_str()).collect();
    let (mesh_resources, endpoints, conflicts) = futures::join!(
        lists::mesh_resources(client, &known),
        endpoints(client, webhooks.as_deref().unwrap_or_default()),
        conflicts(client, input, known.contains(&MESH_CRD)),
    );
    let (objects, unreadable) = mesh_resources;
    ClusterSnapshot {
        version: Ok(version),
        platform,
        node_ports,
        namespaces,
        nodes,
        crds,
        objects,
        unreadable,
        webhooks,
        endpoints,
        permissions,
        conflicts,
    }
}

/// The data that is needed to render the installation.
#[derive(Clone, Debug)]
pub struct DetectedCluster {
    /// Version of the API server.
    pub version: String,
    /// The detected platform.
    pub platform: ReadResult<DetectedPlatform>,
    /// Range and allocations of node ports.
    pub node_ports: ReadResult<NodePortUsage>,
}

/// Detects platform and node ports. Services with the label of `installation` count as the operator's own.
pub async fn detect(client: &Client, platforms: Arc<Platforms>, version: &str, installation: &str) -> DetectedCluster {
    let detector = ClusterDetector::new(client.clone(), platforms, version.to_owned());
    let ports = NodePortServer::new(client.clone(), PROBE_NAMESPACE);
    let (platform, range, used_ports) =
        futures::join!(detector.platform(), ports.range(), ports.used_ports(installation));
    DetectedCluster {
        version: version.to_owned(),
        platform: platform.map_err(|error| api_error_chain(&error)),
        node_ports: used_ports
            .map(|used_ports| NodePortUsage { range, used_ports })
            .map_err(|error| api_error_message(&error)),
    }
}

async fn webhooks(client: &Client) -> ReadResult<Vec<Webhook>> {
    let mut all = Vec::new();
    for resource in [
        ApiResource::erase::<MutatingWebhookConfiguration>(&()),
        ApiResource::erase::<ValidatingWebhookConfiguration>(&()),
    ] {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let list = api.list(&ListParams::default()).await.map_err(|error| api_error_message(&error))?;
        for mut configuration in list {
            let entries = configuration.data.get_mut("webhooks").map(serde_json::Value::take).unwrap_or_default();
            let meta = lists::meta(&resource, configuration.metadata);
            let entries: Option<Vec<Webhook>> =
                serde_json::from_value(entries).map_err(|error| format!("{meta} can't be read: {error}"))?;
            all.extend(entries.into_iter().flatten().map(|entry| Webhook { configuration: meta.clone(), ..entry }));
        }
    }
    Ok(all)
}

/// Number of ready endpoints of the Services that unmanaged webhooks call.
async fn endpoints(client: &Client, webhooks: &[Webhook]) -> BTreeMap<(String, String), ReadResult<usize>> {
    let services = webhooks.iter().filter(|webhook| !webhook.configuration.is_ours());
    let services = services.filter_map(|webhook| webhook.client_config.service.as_ref());
    let services: std::collections::BTreeSet<(String, String)> =
        services.map(|service| (service.namespace.clone(), service.name.clone())).collect();
    let counts = stream::iter(services).map(|service| async move {
        let ready = ready_endpoints(client, &service.0, &service.1).await;
        (service, ready.map_err(|error| api_error_message(&error)))
    });
    counts.buffer_unordered(CONCURRENCY).collect().await
}

async fn ready_endpoints(client: &Client, namespace: &str, service: &str) -> Result<usize, kube::Error> {
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let slices = api.list(&ListParams::default().labels(&format!("kubernetes.io/service-name={service}"))).await?;
    let endpoints = slices.into_iter().flat_map(|slice| slice.endpoints);
    // According to the API documentation, an absent condition means ready.
    let ready = endpoints.filter(|endpoint| endpoint.conditions.as_ref().is_none_or(|c| c.ready != Some(false)));
    Ok(ready.map(|endpoint| endpoint.addresses.len()).sum())
}

/// The conflicts that the operator's plan would find.
async fn conflicts(client: &Client, input: &CheckInput, served: bool) -> ReadResult<Vec<PlanConflict>> {
    let Some(Ok(mesh)) = &input.installation else { return Ok(Vec::new()) };
    let mut installations = Vec::new();
    if served {
        let api: Api<MeshInstallation> = Api::all(client.clone());
        let listed = api.list(&ListParams::default()).await.map_err(|error| api_error_message(&error))?;
        installations = by_precedence(listed.items);
    }
    let existing = installations.iter().filter_map(kube::ResourceExt::uid).collect();
    let DesiredMesh { owner, desired, .. } = mesh;
    let mut owner = owner.clone();
    let same = installations.iter().find(|installation| installation.name_any() == owner.installation);
    owner.uid = same.and_then(kube::ResourceExt::uid).unwrap_or_default();
    let inventory = Inventory::default();
    let reader = Reader::new(client.clone(), inventory.clone());
    let name = owner.installation.as_str();
    reader.complete(name, desired).await.map_err(|error| api_error_chain(&error))?;
    let live = inventory.snapshot(name, desired);
    let me = Peer { uid: owner.uid.clone(), ..mesh.peer.clone() };
    let peers = PeerSet::new(me, installations.iter().map(Peer::of));
    let is_written_by_peer =
        |object: &Arc<DesiredObject>| peers.is_written_by_peer(object, live.get(&object.key), &owner.release);
    let own: Vec<Arc<DesiredObject>> = desired.iter().filter(|object| !is_written_by_peer(object)).cloned().collect();
    Ok(plan(&own, &live, &owner, &existing, true, mesh.adoption).conflicts)
}
