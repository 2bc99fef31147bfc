//! Reads what exists of an installation from the API server: the watches of an operator that has just become the leader
//! may lag behind, and they don't report an object without our label.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, ListParams, ObjectMeta};
use serde_json::json;

use super::{Reader, api};
use crate::apply::error::{ApplyError, absent};
use crate::mesh::kind::Kind;
use crate::mesh::object::{INSTALLATION_LABEL, ObjectKey};
use crate::mesh::observed::{ObservedObject, ObservedObjects};
use crate::runtime::requests::within_deadline;

/// Concurrent reads of metadata, which is small.
const CONCURRENCY: usize = 8;
/// Objects per page. Other users' objects may have up to 256 KiB of annotations.
const PAGE: u32 = 50;

impl Reader {
    /// Reads the metadata of these objects, and all of injection webhooks, which decide about tags. Objects that don't
    /// exist are omitted.
    pub async fn read_metadata(
        &self,
        keys: impl IntoIterator<Item = ObjectKey>,
    ) -> Result<ObservedObjects, ApplyError> {
        let reads = stream::iter(keys).map(|key| async move {
            if key.kind == Kind::MutatingWebhookConfiguration {
                let found = self.get(&key).await?;
                return Ok(found.map(|object| {
                    let observed = ObservedObject::of(key.kind, &object, None, None);
                    (key, observed)
                }));
            }
            let found = within_deadline(api(&self.client, &key).get_metadata_opt(&key.name)).await;
            match found {
                Ok(found) => Ok(found.map(|found| observed(key, &found.metadata))),
                Err(error) if absent(&error) => Ok(None),
                Err(source) => Err(ApplyError::Read { key, source: Box::new(source) }),
            }
        });
        let found: Vec<Option<_>> = reads.buffer_unordered(CONCURRENCY).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Lists the metadata of all objects with the label of an installation.
    pub async fn list_labelled(&self, installation: &str) -> Result<ObservedObjects, ApplyError> {
        let mut found = ObservedObjects::new();
        for kind in Kind::ALL {
            let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind.api_resource());
            let mut params = ListParams::default().labels(&format!("{INSTALLATION_LABEL}={installation}")).limit(PAGE);
            loop {
                let page = match within_deadline(api.list_metadata(&params)).await {
                    Ok(page) => page,
                    Err(error) if absent(&error) => break,
                    Err(source) => {
                        let key = ObjectKey { kind, namespace: None, name: "*".into() };
                        return Err(ApplyError::Read { key, source: Box::new(source) });
                    }
                };
                found.extend(page.items.into_iter().map(|object| {
                    let namespace = object.namespace().filter(|_| kind.namespaced());
                    observed(ObjectKey { kind, namespace, name: object.name_any() }, &object.metadata)
                }));
                match page.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => params = params.continue_token(&token),
                    None => break,
                }
            }
        }
        Ok(found)
    }
}

/// An object of which only metadata is known.
fn observed(key: ObjectKey, metadata: &ObjectMeta) -> (ObjectKey, ObservedObject) {
    let observed = ObservedObject::of(key.kind, &json!({"metadata": metadata}), None, None);
    (key, observed)
}

#[cfg(test)]
mod tests {
    use axum::http::{Request, Response};
    use kube::Client;
    use kube::client::Body;
    use serde_json::Value;
    use tower::BoxError;

    use super::*;
    use crate::apply::Inventory;

    /// A reader for a server with this response to each path and query.
    fn reader(answer: fn(&str) -> Value) -> Reader {
        let server = tower::service_fn(move |request: Request<Body>| async move {
            let answer = answer(&request.uri().to_string());
            let code = answer.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
            let response = Response::builder().status(code.unwrap_or(200));
            response.body(Body::from(answer.to_string().into_bytes())).map_err(BoxError::from)
        });
        Reader::new(Client::new(server, "default"), Inventory::default())
    }

    fn not_found() -> Value {
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404})
    }

    fn object(name: &str, labels: &Value) -> Value {
        let metadata = json!({"name": name, "namespace": "edge", "uid": "x", "resourceVersion": "7", "labels": labels});
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
    }

    #[tokio::test]
    async fn omits_objects_that_do_not_exist() {
        let reader = reader(|uri| {
            let label = json!({"meshwright.dev/component": "istiod"});
            if uri.starts_with("/api/v1/namespaces/edge/services/a") { object("a", &label) } else { not_found() }
        });
        let key = |name: &str| ObjectKey { kind: Kind::Service, namespace: Some("edge".into()), name: name.into() };
        let found = reader.read_metadata([key("a"), key("b")]).await.unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), [&key("a")]);
        assert_eq!(found[&key("a")].resource_version, 7);
    }

    #[tokio::test]
    async fn lists_all_kinds_and_pages() {
        let reader = reader(|uri| {
            assert!(uri.contains("limit=50") && uri.contains("labelSelector=meshwright.dev"), "{uri}");
            if !uri.starts_with("/api/v1/services") && !uri.starts_with("/apis/apps/v1/deployments") {
                return not_found();
            }
            let (name, token) = if uri.contains("continue=more") { ("second", "") } else { ("first", "more") };
            json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                "metadata": {"continue": token}, "items": [object(name, &json!({}))]})
        });
        let found = reader.list_labelled("mesh").await.unwrap();
        let names: Vec<(Kind, &str)> = found.keys().map(|key| (key.kind, key.name.as_str())).collect();
        let expected = [
            (Kind::Service, "first"),
            (Kind::Service, "second"),
            (Kind::Deployment, "first"),
            (Kind::Deployment, "second"),
        ];
        assert_eq!(names, expected);
    }
}
