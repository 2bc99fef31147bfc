//! I/O: reads the objects that a plan is about. Nothing is asked of the API server but reads.

use std::sync::Arc;

use futures::{StreamExt as _, stream};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use serde_json::Value;

use super::objects::Objects;
use crate::apply::{RawObject, absent, api};
use crate::mesh::kind::Kind;
use crate::mesh::live::Live;
use crate::mesh::object::{Desired, INSTALLATION_LABEL, ObjectKey};
use crate::mesh::tags::Injector;
use crate::runtime::requests::{pages, why, within_deadline};

/// Requests at a time.
const CONCURRENCY: usize = 16;
/// Objects listed at a time.
const PAGE: u32 = 500;

/// Objects can't be read, so that nothing can be said of them.
#[derive(Debug, thiserror::Error)]
#[error("what is there now can't be read:\n  {}", .failures.join("\n  "))]
pub struct ReadObjectsError {
    failures: Vec<String>,
}

/// Reads what carries the installation's mark. Every right that is missing is named in the error.
pub async fn marked(client: &Client, installation: &str) -> Result<Objects, ReadObjectsError> {
    labelled(client, &format!("{INSTALLATION_LABEL}={installation}")).await
}

/// Reads what carries a label, of the kinds that a mesh consists of.
pub async fn labelled(client: &Client, label: &str) -> Result<Objects, ReadObjectsError> {
    let lists = stream::iter(Kind::ALL).map(|kind| labelled_of(client, kind, label));
    let lists: Vec<_> = lists.buffered(CONCURRENCY).collect().await;
    together(lists)
}

/// Reads the injection webhooks of all installations.
pub async fn injectors(client: &Client) -> Result<Vec<Injector>, ReadObjectsError> {
    let found = labelled_of(client, Kind::MutatingWebhookConfiguration, INSTALLATION_LABEL).await;
    let found = together(vec![found])?;
    Ok(found.iter().filter_map(|(key, object)| Injector::of(key, &Live::of(key.kind, object, None, None))).collect())
}

/// Reads what else has the name of a desired object.
pub async fn complete(client: &Client, found: &mut Objects, desired: &[Arc<Desired>]) -> Result<(), ReadObjectsError> {
    let open: Vec<ObjectKey> = desired.iter().map(|d| &d.key).filter(|key| !found.contains_key(key)).cloned().collect();
    let reads: Vec<_> = stream::iter(&open).map(|key| one(client, key)).buffered(CONCURRENCY).collect().await;
    found.extend(together(reads)?);
    Ok(())
}

fn together<I>(answers: Vec<Result<I, String>>) -> Result<Objects, ReadObjectsError>
where
    I: IntoIterator<Item = (ObjectKey, Value)>,
{
    let mut found = Objects::new();
    let mut failures = Vec::new();
    for answer in answers {
        match answer {
            Ok(objects) => found.extend(objects),
            Err(why) => failures.push(why),
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
        Err(error) => Err(format!("{}: {}", kind.plural(), why(&error))),
    }
}

async fn one(client: &Client, key: &ObjectKey) -> Result<Option<(ObjectKey, Value)>, String> {
    match within_deadline(api(client, key).get_opt(&key.name)).await {
        Ok(object) => Ok(object.map(|object| (key.clone(), object.into_value()))),
        Err(error) if absent(&error) => Ok(None),
        Err(error) => Err(format!("{key}: {}", why(&error))),
    }
}
