//! Lists of objects, without what is in them where that isn't asked for.

use std::fmt::Debug;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, ListParams, ObjectMeta, PartialObjectMeta};
use kube::core::ApiResource;
use kube::{Client, Resource, discovery};
use serde::de::DeserializeOwned;

use super::super::cluster::{Meta, Seen};
use super::super::foreign::{HELM_SECRET, TILLER};
use super::super::leftovers::CITADEL_SECRET;
use super::super::workloads::Apps;
use super::CONCURRENCY;
use crate::mesh::revisions::INJECTION_LABEL;
use crate::runtime::requests::{pages, why};

/// Objects listed at a time.
const PAGE: u32 = 500;
/// Kinds of custom resources by which meshes show, with their groups and the names of their definitions.
const CUSTOM: [(&str, &str, &str); 6] = [
    ("EnvoyFilter", "networking.istio.io", "envoyfilters"),
    ("IstioOperator", "install.istio.io", "istiooperators"),
    ("Istio", "sailoperator.io", "istios"),
    ("IstioRevision", "sailoperator.io", "istiorevisions"),
    ("IstioCNI", "sailoperator.io", "istiocnis"),
    ("ZTunnel", "sailoperator.io", "ztunnels"),
];

/// One list to make.
struct Query {
    resource: ApiResource,
    params: ListParams,
    type_: Option<&'static str>,
}

impl Query {
    fn of<K: Resource<DynamicType = ()>>() -> Self {
        Self { resource: ApiResource::erase::<K>(&()), params: ListParams::default(), type_: None }
    }

    fn typed(type_: &'static str) -> Self {
        let params = ListParams::default().fields(&format!("type={type_}"));
        Self { params, type_: Some(type_), ..Self::of::<Secret>() }
    }
}

pub(super) fn meta(resource: &ApiResource, metadata: ObjectMeta) -> Meta {
    Meta {
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

async fn metas(client: &Client, query: Query) -> Seen<Vec<Meta>> {
    let Query { resource, params, type_ } = query;
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client.clone(), &resource);
    let mut all = Vec::new();
    let listed = pages(&api, params.limit(PAGE), |object| {
        all.push(Meta { type_, ..meta(&resource, object.metadata) });
    });
    listed.await.map_err(|error| why(&error))?;
    Ok(all)
}

pub(super) async fn namespaces(client: &Client) -> Seen<Vec<Meta>> {
    metas(client, Query::of::<Namespace>()).await
}

pub(super) async fn definitions(client: &Client) -> Seen<Vec<Meta>> {
    metas(client, Query::of::<CustomResourceDefinition>()).await
}

/// Objects of the kinds by which meshes show, and what couldn't be listed. Of Secrets the metadata alone is asked for.
pub(super) async fn traces(client: &Client, definitions: &[&str]) -> (Vec<Meta>, Vec<String>) {
    let tiller = Query { params: ListParams::default().labels(&format!("OWNER={TILLER}")), ..Query::of::<ConfigMap>() };
    let mut queries = vec![
        Query::of::<Deployment>(),
        Query::of::<ServiceAccount>(),
        Query::of::<ClusterRole>(),
        Query::of::<ClusterRoleBinding>(),
        Query::of::<Role>(),
        Query::of::<RoleBinding>(),
        Query::typed(HELM_SECRET),
        Query::typed(CITADEL_SECRET),
        tiller,
    ];
    let mut hidden = Vec::new();
    for (kind, group, plural) in CUSTOM {
        if definitions.contains(&format!("{plural}.{group}").as_str()) {
            match custom(client, kind, group).await {
                Ok(query) => queries.extend(query),
                Err(error) => hidden.push(format!("{plural}.{group}: {}", why(&error))),
            }
        }
    }
    let mut lists = stream::iter(queries)
        .map(|query| async move {
            let what = query.resource.plural.clone();
            metas(client, query).await.map_err(|why| format!("{what}: {why}"))
        })
        .buffered(CONCURRENCY);
    let mut found = Vec::new();
    while let Some(list) = lists.next().await {
        match list {
            Ok(objects) => found.extend(objects),
            Err(why) => hidden.push(why),
        }
    }
    (found, hidden)
}

/// In the version that the server would recommend.
async fn custom(client: &Client, kind: &str, group: &str) -> Result<Option<Query>, kube::Error> {
    let served = discovery::group(client, group).await?;
    let found = served.recommended_kind(kind);
    Ok(found.map(|(resource, _)| Query { resource, params: ListParams::default(), type_: None }))
}

/// What applications consist of, in one namespace or in all.
pub async fn apps(client: &Client, namespace: Option<&str>) -> Apps {
    let (namespaces, services, deployments, stateful_sets, daemon_sets, pods) = futures::join!(
        namespaces(client),
        all::<Service>(client, namespace),
        all::<Deployment>(client, namespace),
        all::<StatefulSet>(client, namespace),
        all::<DaemonSet>(client, namespace),
        all::<Pod>(client, namespace),
    );
    // Where they can't be listed none is left out.
    let labelled = namespaces.into_iter().flatten().filter(|ns| ns.label(INJECTION_LABEL) == Some("disabled"));
    let out = labelled.map(|namespace| namespace.name).collect();
    Apps { out, services, deployments, stateful_sets, daemon_sets, pods }
}

async fn all<K>(client: &Client, namespace: Option<&str>) -> Seen<Vec<K>>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let mut found = Vec::new();
    pages(&api, ListParams::default().limit(PAGE), |object| found.push(object)).await.map_err(|error| why(&error))?;
    Ok(found)
}
