//! Lists resources, with metadata only where checks don't need the rest.

use std::fmt::Debug;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, ListParams, ObjectMeta, PartialObjectMeta};
use kube::core::ApiResource;
use kube::{Client, Resource, discovery};
use serde::de::DeserializeOwned;

use super::super::existing_meshes::{HELM_SECRET, TILLER};
use super::super::leftovers::CITADEL_SECRET;
use super::super::snapshot::{ObjectInfo, ReadResult};
use super::super::workloads::Workloads;
use super::CONCURRENCY;
use crate::mesh::revisions::INJECTION_LABEL;
use crate::runtime::requests::{api_error_message, pages};

/// Page size of lists.
const PAGE: u32 = 500;
/// Custom resources that reveal existing meshes: kind, group and plural.
const CUSTOM: [(&str, &str, &str); 6] = [
    ("EnvoyFilter", "networking.istio.io", "envoyfilters"),
    ("IstioOperator", "install.istio.io", "istiooperators"),
    ("Istio", "sailoperator.io", "istios"),
    ("IstioRevision", "sailoperator.io", "istiorevisions"),
    ("IstioCNI", "sailoperator.io", "istiocnis"),
    ("ZTunnel", "sailoperator.io", "ztunnels"),
];

/// A list request.
struct ListQuery {
    resource: ApiResource,
    params: ListParams,
    type_: Option<&'static str>,
}

impl ListQuery {
    fn of<K: Resource<DynamicType = ()>>() -> Self {
        Self { resource: ApiResource::erase::<K>(&()), params: ListParams::default(), type_: None }
    }

    fn typed(type_: &'static str) -> Self {
        let params = ListParams::default().fields(&format!("type={type_}"));
        Self { params, type_: Some(type_), ..Self::of::<Secret>() }
    }
}

pub(super) fn meta(resource: &ApiResource, metadata: ObjectMeta) -> ObjectInfo {
    ObjectInfo {
        kind: resource.kind.clone(),
        group: resource.group.clone(),
        namespace: metadata.namespace,
        name: metadata.name.unwrap_or_default(),
        labels: metadata.labels.unwrap_or_default(),
        annotations: metadata.annotations.unwrap_or_default(),
        owners: metadata.owner_references.into_iter().flatten().map(|owner| owner.kind).collect(),
        type_: None,
    }
}

async fn metas(client: &Client, query: ListQuery) -> ReadResult<Vec<ObjectInfo>> {
    let ListQuery { resource, params, type_ } = query;
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client.clone(), &resource);
    let mut all = Vec::new();
    let listed = pages(&api, params.limit(PAGE), |object| {
        all.push(ObjectInfo { type_, ..meta(&resource, object.metadata) });
    });
    listed.await.map_err(|error| api_error_message(&error))?;
    Ok(all)
}

pub(super) async fn namespaces(client: &Client) -> ReadResult<Vec<ObjectInfo>> {
    metas(client, ListQuery::of::<Namespace>()).await
}

pub(super) async fn nodes(client: &Client) -> ReadResult<Vec<ObjectInfo>> {
    metas(client, ListQuery::of::<Node>()).await
}

pub(super) async fn crds(client: &Client) -> ReadResult<Vec<ObjectInfo>> {
    metas(client, ListQuery::of::<CustomResourceDefinition>()).await
}

/// Lists the kinds that reveal existing meshes; also returns the kinds that can't be listed. Only reads the metadata of
/// Secrets.
pub(super) async fn mesh_resources(client: &Client, crds: &[&str]) -> (Vec<ObjectInfo>, Vec<String>) {
    let tiller =
        ListQuery { params: ListParams::default().labels(&format!("OWNER={TILLER}")), ..ListQuery::of::<ConfigMap>() };
    let mut queries = vec![
        ListQuery::of::<Deployment>(),
        ListQuery::of::<ServiceAccount>(),
        ListQuery::of::<ClusterRole>(),
        ListQuery::of::<ClusterRoleBinding>(),
        ListQuery::of::<Role>(),
        ListQuery::of::<RoleBinding>(),
        ListQuery::typed(HELM_SECRET),
        ListQuery::typed(CITADEL_SECRET),
        tiller,
    ];
    let mut unreadable = Vec::new();
    for (kind, group, plural) in CUSTOM {
        if crds.contains(&format!("{plural}.{group}").as_str()) {
            match custom(client, kind, group).await {
                Ok(query) => queries.extend(query),
                Err(error) => unreadable.push(format!("{plural}.{group}: {}", api_error_message(&error))),
            }
        }
    }
    let mut lists = stream::iter(queries)
        .map(|query| async move {
            let what = query.resource.plural.clone();
            metas(client, query).await.map_err(|error| format!("{what}: {error}"))
        })
        .buffered(CONCURRENCY);
    let mut found = Vec::new();
    while let Some(list) = lists.next().await {
        match list {
            Ok(objects) => found.extend(objects),
            Err(error) => unreadable.push(error),
        }
    }
    (found, unreadable)
}

/// The query for a custom resource in the API server's preferred version.
async fn custom(client: &Client, kind: &str, group: &str) -> Result<Option<ListQuery>, kube::Error> {
    let served = discovery::group(client, group).await?;
    let found = served.recommended_kind(kind);
    Ok(found.map(|(resource, _)| ListQuery { resource, params: ListParams::default(), type_: None }))
}

/// Application workloads and Services of one namespace, or of all.
pub async fn workloads(client: &Client, namespace: Option<&str>) -> Workloads {
    let (namespaces, services, deployments, stateful_sets, daemon_sets, pods) = futures::join!(
        namespaces(client),
        all::<Service>(client, namespace),
        all::<Deployment>(client, namespace),
        all::<StatefulSet>(client, namespace),
        all::<DaemonSet>(client, namespace),
        all::<Pod>(client, namespace),
    );
    // If namespaces can't be listed, none is excluded.
    let labelled = namespaces.into_iter().flatten().filter(|ns| ns.label(INJECTION_LABEL) == Some("disabled"));
    let excluded = labelled.map(|namespace| namespace.name).collect();
    Workloads { excluded, services, deployments, stateful_sets, daemon_sets, pods }
}

async fn all<K>(client: &Client, namespace: Option<&str>) -> ReadResult<Vec<K>>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let mut found = Vec::new();
    pages(&api, ListParams::default().limit(PAGE), |object| found.push(object))
        .await
        .map_err(|error| api_error_message(&error))?;
    Ok(found)
}
