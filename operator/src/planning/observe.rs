//! I/O: reads the objects of a plan. It only sends read requests.

use std::sync::Arc;

use futures::{StreamExt as _, stream};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use meshwright_api::MeshInstallation;
use serde_json::Value;

use super::objects::LiveObjects;
use crate::apply::{RawObject, absent, api};
use crate::mesh::kind::Kind;
use crate::mesh::object::{DesiredObject, INSTALLATION_LABEL, ObjectKey};
use crate::mesh::observed::ObservedObject;
use crate::mesh::revision::RevisionRecord;
use crate::mesh::revisions::Revision;
use crate::mesh::tags::Injector;
use crate::proxies::{self, ServingProxies};
use crate::runtime::requests::{api_error_message, pages, within_deadline};

/// Number of concurrent requests.
const CONCURRENCY: usize = 16;
/// Page size of lists.
const PAGE: u32 = 500;

/// Live objects can't be read.
#[derive(Debug, thiserror::Error)]
#[error("can't read live resources:\n  {}", .failures.join("\n  "))]
pub struct ReadObjectsError {
    failures: Vec<String>,
}

/// Reads the resources of an installation. The error lists all missing permissions.
pub async fn read_owned(client: &Client, installation: &str) -> Result<LiveObjects, ReadObjectsError> {
    read_labelled(client, &format!("{INSTALLATION_LABEL}={installation}")).await
}

/// Reads the resources with a label, of all kinds that a mesh has.
pub async fn read_labelled(client: &Client, label: &str) -> Result<LiveObjects, ReadObjectsError> {
    let lists = stream::iter(Kind::ALL).map(|kind| labelled_of(client, kind, label));
    let lists: Vec<_> = lists.buffered(CONCURRENCY).collect().await;
    together(lists)
}

/// Reads the injection webhooks of all installations.
pub async fn injectors(client: &Client) -> Result<Vec<Injector>, ReadObjectsError> {
    let found = labelled_of(client, Kind::MutatingWebhookConfiguration, INSTALLATION_LABEL).await;
    let found = together(vec![found])?;
    Ok(found
        .iter()
        .filter_map(|(key, object)| Injector::of(key, &ObservedObject::of(key.kind, object, None, None)))
        .collect())
}

/// Reads the proxies of serving pods, which delay a change of the version. They are empty if the version stays.
pub async fn serving_proxies(
    client: &Client,
    wanted: &MeshInstallation,
    records: &[RevisionRecord],
    notes: &mut Vec<String>,
) -> Vec<ServingProxies> {
    if records.last().is_none_or(|last| last.inputs.spec.version == wanted.spec.version) {
        return Vec::new();
    }
    let own = Revision::of(&wanted.spec).label().to_owned();
    let named = records.iter().filter_map(|record| record.inputs.revision.clone());
    let revisions: Vec<String> = std::iter::once(own).chain(named).collect();
    match proxies::list(client).await {
        Ok(index) => index.serving(&revisions),
        Err(error) => {
            let error = api_error_message(&error);
            notes.push(format!("pods can't be read, so proxies that delay the upgrade are unknown here: {error}"));
            Vec::new()
        }
    }
}

/// Reads the desired resources that aren't in `found` yet.
pub async fn read_missing(
    client: &Client,
    found: &mut LiveObjects,
    desired: &[Arc<DesiredObject>],
) -> Result<(), ReadObjectsError> {
    let open: Vec<ObjectKey> = desired.iter().map(|d| &d.key).filter(|key| !found.contains_key(key)).cloned().collect();
    let reads: Vec<_> = stream::iter(&open).map(|key| read_one(client, key)).buffered(CONCURRENCY).collect().await;
    found.extend(together(reads)?);
    Ok(())
}

fn together<I>(answers: Vec<Result<I, String>>) -> Result<LiveObjects, ReadObjectsError>
where
    I: IntoIterator<Item = (ObjectKey, Value)>,
{
    let mut found = LiveObjects::new();
    let mut failures = Vec::new();
    for answer in answers {
        match answer {
            Ok(objects) => found.extend(objects),
            Err(error) => failures.push(error),
        }
    }
    if failures.is_empty() { Ok(found) } else { Err(ReadObjectsError { failures }) }
}

async fn labelled_of(client: &Client, kind: Kind, label: &str) -> Result<Vec<(ObjectKey, Value)>, String> {
    let api: Api<RawObject> = Api::all_with(client.clone(), &kind.api_resource());
    let mut all = Vec::new();
    let listed = pages(&api, ListParams::default().labels(label).limit(PAGE), |object| {
        let key = ObjectKey { kind, namespace: object.namespace(), name: object.name_any() };
        all.push((key, object.into_value()));
    });
    match listed.await {
        Ok(()) => Ok(all),
        Err(error) if absent(&error) => Ok(all),
        Err(error) => Err(format!("{}: {}", kind.plural(), api_error_message(&error))),
    }
}

async fn read_one(client: &Client, key: &ObjectKey) -> Result<Option<(ObjectKey, Value)>, String> {
    match within_deadline(api(client, key).get_opt(&key.name)).await {
        Ok(object) => Ok(object.map(|object| (key.clone(), object.into_value()))),
        Err(error) if absent(&error) => Ok(None),
        Err(error) => Err(format!("{key}: {}", api_error_message(&error))),
    }
}
