//! Snapshot of the cluster at the end of a stage.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::ResourceExt as _;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::discovery::{Discovery, verbs};
use kube::{Client, core::PartialObjectMeta};

use crate::TestResult;
use crate::inventory::Inventory;
use crate::mesh::{NAME, OPERATOR_NAMESPACE};

/// Kinds that controllers create with generated names, and revision history, which is compared separately.
const IGNORED_KINDS: [&str; 10] = [
    "ControllerRevision",
    "EndpointSlice",
    "Endpoints",
    "Event",
    "IPAddress",
    "Lease",
    "Pod",
    "PodMetrics",
    "ReplicaSet",
    "APIService",
];

/// The objects of a mesh, and the names of all other objects.
#[derive(Debug, Clone)]
pub struct ClusterSnapshot {
    mesh: Inventory,
    all: BTreeSet<String>,
    latest_revision: Option<String>,
}

impl ClusterSnapshot {
    pub(super) async fn take(client: &Client) -> TestResult<Self> {
        Ok(Self {
            mesh: Inventory::read(client, NAME).await?.without_instance_fields(),
            all: all(client).await?,
            latest_revision: latest_revision(client).await?,
        })
    }

    /// Differences to another snapshot, one per line.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = self.mesh.differences(&other.mesh);
        lines.extend(self.all.difference(&other.all).map(|key| format!("{key} is missing")));
        lines.extend(other.all.difference(&self.all).map(|key| format!("{key} is unexpected")));
        if self.latest_revision != other.latest_revision {
            let (expected, actual) = (&self.latest_revision, &other.latest_revision);
            lines.push(format!("latest revision: {actual:?}, expected {expected:?}"));
        }
        lines
    }

    /// Like [`Self::differences`] without CRDs, which the operator never downgrades.
    pub(super) fn differences_except_crds(&self, other: &Self) -> Vec<String> {
        let mut lines = self.differences(other);
        lines.retain(|line| !line.starts_with("CustomResourceDefinition"));
        lines
    }
}

/// Names of all objects in the cluster except those of ignored kinds.
async fn all(client: &Client) -> TestResult<BTreeSet<String>> {
    let mut keys = BTreeSet::new();
    for group in Discovery::new(client.clone()).run().await?.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if capabilities.supports_operation(verbs::LIST) && !IGNORED_KINDS.contains(&resource.kind.as_str()) {
                keys.extend(names(client, &resource).await?);
            }
        }
    }
    Ok(keys)
}

async fn names(client: &Client, resource: &ApiResource) -> TestResult<Vec<String>> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), resource);
    let listed = match api.list_metadata(&ListParams::default()).await {
        Ok(listed) => listed.items,
        // The CRD was deleted after discovery.
        Err(kube::Error::Api(status)) if status.is_not_found() => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let key = |object: &PartialObjectMeta<DynamicObject>| {
        format!("{} {}/{}", resource.kind, object.namespace().unwrap_or_default(), object.name_any())
    };
    Ok(listed.iter().map(key).collect())
}

/// Name and verdict of the latest ControllerRevision.
async fn latest_revision(client: &Client) -> TestResult<Option<String>> {
    let revisions: Api<ControllerRevision> = Api::namespaced(client.clone(), OPERATOR_NAMESPACE);
    let listed = revisions.list(&ListParams::default()).await?;
    let latest = listed.items.into_iter().max_by_key(|revision| revision.revision);
    Ok(latest.map(|revision| {
        let verdict = revision.annotations().get("meshwright.dev/verdict").cloned().unwrap_or_default();
        format!("{} {verdict}", revision.name_any())
    }))
}
