//! I/O: looks at a cluster. Nothing is written: reviews of rights leave nothing behind, and the Service that is asked for to
//! learn the range of node ports is refused (one that isn't is deleted at once).

mod lists;
mod reviews;

pub use lists::apps;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::ApiResource;
use kube::{Client, ResourceExt as _};
use meshwright_api::MeshInstallation;

use super::asked::{Asked, Wanted};
use super::cluster::{Cluster, NodePorts, Seen, Webhook};
use crate::apply::{Inventory, Reader, Surveyor};
use crate::controller::by_precedence;
use crate::mesh::beside::{Beside, Peer};
use crate::mesh::object::Desired;
use crate::mesh::plan::{Refusal, plan};
use crate::mesh::rights::Right;
use crate::nodeports::NodePortServer;
use crate::platform::{Detected, Platforms};
use crate::runtime::requests::{told, why};

/// Requests at a time.
const CONCURRENCY: usize = 16;
/// A namespace in which the API server can be asked for an impossible Service before the operator's own exists.
const ALWAYS_THERE: &str = "default";
/// The definition of our own resource.
const OURS: &str = "meshinstallations.meshwright.dev";

/// Looks at what the checks go by. `rights` are those that the operator in `operator_namespace` needs.
pub async fn observe(
    client: &Client,
    asked: &Asked,
    operator_namespace: &str,
    rights: Vec<Right>,
    Surveyed { version, platform, node_ports }: Surveyed,
) -> Cluster {
    let (namespaces, definitions, webhooks, rights) = futures::join!(
        lists::namespaces(client),
        lists::definitions(client),
        webhooks(client),
        reviews::review(client, operator_namespace, rights),
    );
    let known: Vec<&str> = definitions.iter().flatten().map(|definition| definition.name.as_str()).collect();
    let (traces, endpoints, refusals) = futures::join!(
        lists::traces(client, &known),
        endpoints(client, webhooks.as_deref().unwrap_or_default()),
        refusals(client, asked, known.contains(&OURS)),
    );
    let (objects, hidden) = traces;
    Cluster {
        version: Ok(version),
        platform,
        node_ports,
        namespaces,
        definitions,
        objects,
        hidden,
        webhooks,
        endpoints,
        rights,
        refusals,
    }
}

/// What has to be known before it can be said what an installation stands for.
#[derive(Clone, Debug)]
pub struct Surveyed {
    /// Version of the API server.
    pub version: String,
    /// The platform.
    pub platform: Seen<Detected>,
    /// Node ports.
    pub node_ports: Seen<NodePorts>,
}

/// Surveys the cluster whose API server has this version. `installation` is whose mark makes Services ours.
pub async fn survey(client: &Client, platforms: Arc<Platforms>, version: &str, installation: &str) -> Surveyed {
    let surveyor = Surveyor::new(client.clone(), platforms, version.to_owned());
    let ports = NodePortServer::new(client.clone(), ALWAYS_THERE);
    let (platform, range, held) = futures::join!(surveyor.platform(), ports.range(), ports.held(installation));
    Surveyed {
        version: version.to_owned(),
        platform: platform.map_err(|error| told(&error)),
        node_ports: held.map(|held| NodePorts { range, held }).map_err(|error| why(&error)),
    }
}

async fn webhooks(client: &Client) -> Seen<Vec<Webhook>> {
    let mut all = Vec::new();
    for resource in [
        ApiResource::erase::<MutatingWebhookConfiguration>(&()),
        ApiResource::erase::<ValidatingWebhookConfiguration>(&()),
    ] {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let list = api.list(&ListParams::default()).await.map_err(|error| why(&error))?;
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

/// Ready endpoints of the Services that webhooks of others are called at.
async fn endpoints(client: &Client, webhooks: &[Webhook]) -> BTreeMap<(String, String), Seen<usize>> {
    let services = webhooks.iter().filter(|webhook| !webhook.configuration.is_ours());
    let services = services.filter_map(|webhook| webhook.client_config.service.as_ref());
    let places: std::collections::BTreeSet<(String, String)> =
        services.map(|service| (service.namespace.clone(), service.name.clone())).collect();
    let asked = stream::iter(places).map(|place| async move {
        let ready = ready_endpoints(client, &place.0, &place.1).await;
        (place, ready.map_err(|error| why(&error)))
    });
    asked.buffer_unordered(CONCURRENCY).collect().await
}

async fn ready_endpoints(client: &Client, namespace: &str, service: &str) -> Result<usize, kube::Error> {
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let slices = api.list(&ListParams::default().labels(&format!("kubernetes.io/service-name={service}"))).await?;
    let endpoints = slices.into_iter().flat_map(|slice| slice.endpoints);
    // An absent condition counts as ready, by the API's own words.
    let ready = endpoints.filter(|endpoint| endpoint.conditions.as_ref().is_none_or(|c| c.ready != Some(false)));
    Ok(ready.map(|endpoint| endpoint.addresses.len()).sum())
}

/// What the operator would refuse to overwrite, found as it does.
async fn refusals(client: &Client, asked: &Asked, served: bool) -> Seen<Vec<Refusal>> {
    let Some(Ok(wanted)) = &asked.installation else { return Ok(Vec::new()) };
    let mut installations = Vec::new();
    if served {
        let api: Api<MeshInstallation> = Api::all(client.clone());
        let listed = api.list(&ListParams::default()).await.map_err(|error| why(&error))?;
        installations = by_precedence(listed.items);
    }
    let existing = installations.iter().filter_map(kube::ResourceExt::uid).collect();
    let Wanted { owner, desired, .. } = wanted;
    let mut owner = owner.clone();
    let same = installations.iter().find(|installation| installation.name_any() == owner.installation);
    owner.uid = same.and_then(kube::ResourceExt::uid).unwrap_or_default();
    let inventory = Inventory::default();
    let reader = Reader::new(client.clone(), inventory.clone());
    let name = owner.installation.as_str();
    reader.complete(name, desired).await.map_err(|error| told(&error))?;
    let live = inventory.snapshot(name, desired);
    let me = Peer { uid: owner.uid.clone(), ..wanted.peer.clone() };
    let beside = Beside::new(me, installations.iter().map(Peer::of));
    let is_anothers = |object: &Arc<Desired>| beside.is_anothers(object, live.get(&object.key), &owner.release);
    let own: Vec<Arc<Desired>> = desired.iter().filter(|object| !is_anothers(object)).cloned().collect();
    Ok(plan(&own, &live, &owner, &existing, true, wanted.adoption).refusals)
}
