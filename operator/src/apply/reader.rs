//! Reads objects that the watches do not cover.

mod metadata;

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DynamicObject, ListParams};
use kube::{Client, ResourceExt as _};
use meshwright_api::{CaSource, CaStatus};
use serde_json::Value;

use super::ca_secret::provided_certificates;
use super::error::{ApplyError, absent};
use super::inventory::Inventory;
use super::raw_object::RawObject;
use crate::mesh::ca;
use crate::mesh::cluster_scoped::depends_on;
use crate::mesh::external_ca;
use crate::mesh::kind::Kind;
use crate::mesh::object::{DesiredObject, ObjectKey};
use crate::mesh::observed::{Drift, ObservedObject, ObservedObjects};
use crate::mesh::revisions::REVISION_LABEL;
use crate::runtime::requests::{pages, within_deadline};

/// Concurrent reads. CRDs are large; few concurrent reads limit peak memory.
const CONCURRENCY: usize = 6;
/// After this many failed reads no more are sent: the API server is unavailable.
const MAX_FAILED: usize = 3;

/// Reads live objects from the API server.
#[derive(Clone)]
pub struct Reader {
    client: Client,
    inventory: Inventory,
}

/// The API of an object's kind, in its namespace if it has one.
pub(crate) fn api(client: &Client, key: &ObjectKey) -> Api<RawObject> {
    let resource = key.kind.api_resource();
    match &key.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

impl Reader {
    /// Creates a reader that stores objects in the inventory.
    #[must_use]
    pub const fn new(client: Client, inventory: Inventory) -> Self {
        Self { client, inventory }
    }

    /// Completes the inventory for these objects: reads those that it does not know, since objects without our labels
    /// are not watched, and those that were observed before their desired state was known. A failed read fails all, but
    /// what was read stays known: the next attempt reads the rest.
    pub async fn complete(&self, installation: &str, desired: &[Arc<DesiredObject>]) -> Result<(), ApplyError> {
        let known = self.inventory.snapshot(installation, desired);
        let open = desired
            .iter()
            .filter(|d| match known.get(&d.key) {
                Some(live) => live.drift == Drift::Unchecked || !live.is_watched(),
                None => !self.inventory.is_absent(&d.key),
            })
            .map(|d| (d.key.clone(), known.get(&d.key).is_some_and(ObservedObject::is_watched)))
            .collect::<Vec<_>>();
        let reads = stream::iter(open).map(|(key, watched)| self.read(key, watched));
        let mut reads = reads.buffer_unordered(CONCURRENCY);
        let mut failed = Vec::new();
        while failed.len() < MAX_FAILED
            && let Some(result) = reads.next().await
        {
            failed.extend(result.err());
        }
        failed.into_iter().next().map_or(Ok(()), Err)
    }

    /// Reads objects and compares them with the desired ones, without updating the inventory.
    pub async fn read_all(&self, desired: &[Arc<DesiredObject>]) -> Result<ObservedObjects, ApplyError> {
        let reads = stream::iter(desired.iter().cloned()).map(|desired| async move {
            let key = desired.key.clone();
            let found = self.get(&key).await?;
            Ok(found.map(|object| (key.clone(), ObservedObject::of(key.kind, &object, Some(&desired), None))))
        });
        let found: Vec<Option<_>> = reads.buffered(CONCURRENCY).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Reads one object. For a watched one, the watch may report its deletion before a response that still contains it.
    async fn read(&self, key: ObjectKey, watched: bool) -> Result<(), ApplyError> {
        let before = self.inventory.version(&key);
        match self.get(&key).await? {
            Some(object) if watched => self.inventory.refresh(&key, &object),
            Some(object) => self.inventory.read(&key, &object),
            None => self.inventory.record_absent(&key, &before),
        }
        Ok(())
    }

    /// Reads one object; `None` if it or its kind does not exist.
    async fn get(&self, key: &ObjectKey) -> Result<Option<Value>, ApplyError> {
        match within_deadline(api(&self.client, key).get_opt(&key.name)).await {
            Ok(found) => Ok(found.map(RawObject::into_value)),
            Err(error) if absent(&error) => Ok(None),
            Err(source) => Err(ApplyError::Read { key: key.clone(), source: Box::new(source) }),
        }
    }
}

const UNFINISHED: &str = "status.phase!=Succeeded,status.phase!=Failed";
/// Objects per page; namespaces and pods are counted up to this number.
const PAGE: u32 = 500;
/// The most namespaces that an Event names.
const NAMED: usize = 5;
/// Objects that istiod creates for itself in the mesh's namespace.
const ISTIOD_LEFTOVERS: [(&str, &str); 6] = [
    ("Secret", "istio-ca-secret"),
    ("ConfigMap", "istio-ca-root-cert"),
    ("ConfigMap", "istio-leader"),
    ("ConfigMap", "istio-namespace-controller-election"),
    ("ConfigMap", "istio-gateway-status-leader"),
    ("ConfigMap", "istio-ip-autoallocate"),
];

impl Reader {
    /// Namespaces that reference a tag, and the number of pods. Objects that can't be listed are omitted.
    pub async fn users_of(&self, tag: &str) -> Vec<String> {
        let params = ListParams::default().labels(&format!("{REVISION_LABEL}={tag}")).limit(PAGE);
        let namespaces = kube::core::ApiResource::erase::<k8s_openapi::api::core::v1::Namespace>(&());
        let namespaces: Api<DynamicObject> = Api::all_with(self.client.clone(), &namespaces);
        let found = within_deadline(namespaces.list_metadata(&params)).await.map(|page| page.items).unwrap_or_default();
        let mut users: Vec<String> = found
            .iter()
            .take(NAMED)
            .filter_map(|ns| Some(format!("namespace {}", ns.metadata.name.as_ref()?)))
            .collect();
        if found.len() > NAMED {
            users.push(format!("{} namespaces more", found.len() - NAMED));
        }
        let pods = kube::core::ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&());
        let pods: Api<DynamicObject> = Api::all_with(self.client.clone(), &pods);
        match within_deadline(pods.list_metadata(&params.fields(UNFINISHED))).await {
            Ok(page) if page.items.is_empty() => {}
            Ok(page) if page.metadata.continue_.is_some() => users.push(format!("more than {} pods", page.items.len())),
            Ok(page) => users.push(format!("{} pods", page.items.len())),
            Err(_) => {}
        }
        users
    }

    /// All webhook configurations that make the API server reject objects if one of these Services is unavailable.
    pub async fn webhooks_of(&self, services: &[&ObjectKey]) -> Result<Vec<ObjectKey>, ApplyError> {
        let mut found = Vec::new();
        for kind in [Kind::MutatingWebhookConfiguration, Kind::ValidatingWebhookConfiguration] {
            let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind.api_resource());
            let key = |name: String| ObjectKey { kind, namespace: None, name };
            let listed = pages(&api, ListParams::default().limit(PAGE), |object| {
                if depends_on(&object.data, services) {
                    found.push(key(object.name_any()));
                }
            });
            listed.await.map_err(|source| ApplyError::Read { key: key("*".into()), source: Box::new(source) })?;
        }
        Ok(found)
    }

    /// Objects that istiod has created for itself and that remain in the mesh's namespace.
    pub async fn leftovers(&self, namespace: &str) -> Vec<String> {
        let mut found = Vec::new();
        for (kind, name) in ISTIOD_LEFTOVERS {
            let resource = kube::core::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk("", "v1", kind));
            let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
            // For a report only, so objects that can't be read are omitted.
            if matches!(within_deadline(api.get_metadata_opt(name)).await, Ok(Some(_))) {
                found.push(format!("{kind} {namespace}/{name}"));
            }
        }
        found
    }

    /// The mesh's certificate authority: the root certificate that istiod publishes, and the intermediate certificates
    /// of a CA that the user provides. `None` if they can't be read. An external CA may publish its root certificate in
    /// istiod's place.
    pub async fn certificate_authority(&self, namespace: &str, is_external: bool) -> Option<CaStatus> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let published = within_deadline(api.get_opt("istio-ca-root-cert")).await.ok()?;
        let root = published.and_then(|published| ca::parse_status(published.data?.get("root-cert.pem")?));
        if is_external {
            return Some(external_ca::status(root));
        }
        let root = root?;
        if root.source == CaSource::SelfSigned {
            return Some(root);
        }
        Some(ca::with_intermediates(root, &provided_certificates(&self.client, namespace).await?))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{Request, Response};
    use kube::client::Body;
    use semver::Version;
    use serde_json::json;
    use tower::BoxError;

    use super::*;
    use crate::mesh::object::{Component, Owner};

    /// A reader for a server that responds with `answer`, or never if that is `None`.
    fn reader(answer: fn(&str) -> Option<Value>) -> Reader {
        let server = tower::service_fn(move |request: Request<Body>| async move {
            let Some(answer) = answer(&request.uri().to_string()) else { return std::future::pending().await };
            Ok::<_, BoxError>(Response::new(Body::from(answer.to_string().into_bytes())))
        });
        Reader::new(Client::new(server, "default"), Inventory::default())
    }

    #[tokio::test(start_paused = true)]
    async fn reads_time_out() {
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "istiod"}});
        let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: Version::new(1, 32, 0) };
        let desired = Arc::new(DesiredObject::from_rendered(role, &Component::Istiod, &owner, "istio-system").unwrap());
        let read = tokio::time::timeout(std::time::Duration::from_mins(2), async {
            reader(|_| None).read_all(&[desired]).await
        });
        assert!(read.await.unwrap().is_err());
    }

    #[tokio::test]
    async fn lists_all_pages_of_webhooks() {
        let reader = reader(|uri| {
            let page = |name: &str, token: &str| {
                let client = json!({"service": {"namespace": "istio-system", "name": "istiod"}});
                json!({
                    "apiVersion": "v1", "kind": "List", "metadata": {"continue": token},
                    "items": [{"metadata": {"name": name}, "webhooks": [{"clientConfig": client}]}],
                })
            };
            assert!(uri.contains("limit="), "{uri}");
            Some(if uri.contains("continue=more") { page("second", "") } else { page("first", "more") })
        });
        let service = ObjectKey { kind: Kind::Service, namespace: Some("istio-system".into()), name: "istiod".into() };
        let found = reader.webhooks_of(&[&service]).await.unwrap();
        let names: Vec<&str> = found.iter().map(|key| key.name.as_str()).collect();
        assert_eq!(names, ["first", "second", "first", "second"]);
    }
}
