//! What a stage ends in: everything that is there.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::ResourceExt as _;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::discovery::{Discovery, verbs};
use kube::{Client, core::PartialObjectMeta};

use crate::TestResult;
use crate::inventory::Inventory;
use crate::mesh::{NAME, OPERATOR_NAMESPACE};

/// Kinds that controllers make and name as they go, and the operator's memory, which is looked at apart.
const PASSING: [&str; 10] = [
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

/// All objects of a mesh, and the names of all else.
#[derive(Debug, Clone)]
pub struct End {
    marked: Inventory,
    all: BTreeSet<String>,
    memory: Option<String>,
}

impl End {
    /// As it is now.
    pub(super) async fn now(client: &Client) -> TestResult<Self> {
        Ok(Self {
            marked: Inventory::of(client, NAME).await?.of_any_life(),
            all: all(client).await?,
            memory: newest(client).await?,
        })
    }

    /// What is different there, a line for each.
    #[must_use]
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let mut lines = self.marked.differences(&now.marked);
        lines.extend(self.all.difference(&now.all).map(|key| format!("{key} is missing")));
        lines.extend(now.all.difference(&self.all).map(|key| format!("{key} is left over")));
        if self.memory != now.memory {
            lines.push(format!("the newest record is {:?}, not {:?}", now.memory, self.memory));
        }
        lines
    }

    /// The same, with definitions left out: they never go back.
    pub(super) fn differences_but_definitions(&self, now: &Self) -> Vec<String> {
        let mut lines = self.differences(now);
        lines.retain(|line| !line.starts_with("CustomResourceDefinition"));
        lines
    }
}

/// The names of everything in the cluster that somebody meant to be there.
async fn all(client: &Client) -> TestResult<BTreeSet<String>> {
    let mut keys = BTreeSet::new();
    for group in Discovery::new(client.clone()).run().await?.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if capabilities.supports_operation(verbs::LIST) && !PASSING.contains(&resource.kind.as_str()) {
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
        // A definition that has gone since it was discovered.
        Err(kube::Error::Api(status)) if status.is_not_found() => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let key = |object: &PartialObjectMeta<DynamicObject>| {
        format!("{} {}/{}", resource.kind, object.namespace().unwrap_or_default(), object.name_any())
    };
    Ok(listed.iter().map(key).collect())
}

/// The newest record of the operator's memory, and its verdict.
async fn newest(client: &Client) -> TestResult<Option<String>> {
    let revisions: Api<ControllerRevision> = Api::namespaced(client.clone(), OPERATOR_NAMESPACE);
    let listed = revisions.list(&ListParams::default()).await?;
    let newest = listed.items.into_iter().max_by_key(|revision| revision.revision);
    Ok(newest.map(|revision| {
        let verdict = revision.annotations().get("meshwright.dev/verdict").cloned().unwrap_or_default();
        format!("{} {verdict}", revision.name_any())
    }))
}
