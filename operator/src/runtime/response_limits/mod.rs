//! Bounds what other clients' objects can cost: responses are scanned as they arrive, and an object that is too large or
//! nested too deep is replaced by a stub. kube reads a list as a whole, so that one such object would make all others
//! unreadable.
//!
//! A stub lacks only the fields that exceed limits, and otherwise counts as the object: its metadata shows whose it is.

mod item;
mod lexer;
mod replaced;
mod request;
mod scanner;

use axum::body::Bytes;
use axum::http::{Method, Uri};

use super::body_filter::{BodyFilter, FilterResponses};
use request::RequestTarget;
use scanner::Scanner;

pub use replaced::{ObjectIdentity, ReplacedObject, ReplacedObjects};

/// Scans the responses of a client.
#[derive(Clone, Debug)]
pub struct ResponseLimits {
    replaced: ReplacedObjects,
    bounds_pages: bool,
    is_for_watches: bool,
}

impl ResponseLimits {
    /// Limits of each object and of each page of a list, for an operator. Records the objects that exceed them.
    #[must_use]
    pub const fn for_operator(replaced: ReplacedObjects) -> Self {
        Self { replaced, bounds_pages: true, is_for_watches: false }
    }

    /// Limits of each object only, for commands, which may take as much memory as a list needs.
    #[must_use]
    pub const fn for_commands(replaced: ReplacedObjects) -> Self {
        Self { replaced, bounds_pages: false, is_for_watches: false }
    }

    /// The same for a client that lists objects only to watch them.
    #[must_use]
    pub fn for_watches(&self) -> Self {
        Self { is_for_watches: true, ..self.clone() }
    }
}

impl FilterResponses for ResponseLimits {
    type Filter = Scan;

    fn filter(&self, method: &Method, uri: &Uri) -> Option<Scan> {
        let target = RequestTarget::of(method, uri)?;
        let budget = target.budget().filter(|_| self.bounds_pages);
        let scanner = Scanner::new(target.format, target.limits(), budget);
        let Self { replaced, is_for_watches, .. } = self.clone();
        Some(Scan { scanner, resource: target.resource.to_owned(), replaced, is_for_watches })
    }
}

/// A scan of one response.
#[derive(Debug)]
pub struct Scan {
    scanner: Scanner,
    resource: String,
    replaced: ReplacedObjects,
    is_for_watches: bool,
}

impl BodyFilter for Scan {
    fn data(&mut self, chunk: Bytes) -> Bytes {
        let (mut output, mut seen) = (Vec::with_capacity(chunk.len()), Vec::new());
        self.scanner.scan(&chunk, &mut output, &mut seen);
        self.replaced.note(&self.resource, seen, self.is_for_watches);
        output.into()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{Request, Response};
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};
    use kube::Client;
    use kube::api::{Api, ListParams};
    use kube::client::{Body as ClientBody, ClientBuilder};
    use serde_json::{Value, json};
    use tower::BoxError;

    use super::*;
    use crate::mesh::object::REPLACED_ANNOTATION;
    use crate::runtime::body_filter::BodyFilterLayer;

    /// A client whose server always responds with this body.
    fn client(body: &Value, replaced: &ReplacedObjects) -> Client {
        let body = body.to_string();
        let server = tower::service_fn(move |_: Request<ClientBody>| {
            std::future::ready(Ok::<_, BoxError>(Response::new(ClientBody::from(body.clone().into_bytes()))))
        });
        ClientBuilder::new(server, "default")
            .with_layer(&BodyFilterLayer(ResponseLimits::for_operator(replaced.clone())))
            .build()
    }

    fn list(kind: &str, items: &Value) -> Value {
        json!({"apiVersion": "v1", "kind": kind, "metadata": {"resourceVersion": "1"}, "items": items})
    }

    fn nested(levels: usize) -> Value {
        (0..levels).fold(json!({}), |inner, _| json!({"f:a": inner}))
    }

    #[tokio::test]
    async fn deep_object_does_not_hide_others() {
        let entry = json!({"manager": "tenant", "operation": "Apply", "fieldsV1": nested(180)});
        let items = json!([
            {"metadata": {"name": "a", "namespace": "tenant", "uid": "1", "managedFields": [entry]}, "data": {"a": "1"}},
            {"metadata": {"name": "b", "namespace": "tenant", "uid": "2", "labels": {"a": "b"}}, "data": nested(180)},
            {"metadata": {"name": "istio", "namespace": "istio-system", "uid": "3"}, "data": {"mesh": "a"}},
        ]);
        let replaced = ReplacedObjects::default();
        let maps: Api<ConfigMap> = Api::all(client(&list("ConfigMapList", &items), &replaced));
        let found = maps.list(&ListParams::default()).await.unwrap().items;
        assert_eq!(found[0].data.as_ref().unwrap()["a"], "1");
        let metadata = &found[1].metadata;
        assert!(metadata.annotations.as_ref().unwrap().contains_key(REPLACED_ANNOTATION));
        assert_eq!((metadata.labels.as_ref().unwrap()["a"].as_str(), &found[1].data), ("b", &None));
        assert_eq!(found[2].data.as_ref().unwrap()["mesh"], "a");
        assert_eq!(replaced.counts(), [("configmaps".to_owned(), 1)]);
    }

    #[tokio::test]
    async fn deep_object_can_be_read_by_name() {
        let object = json!({"metadata": {"name": "a", "uid": "1"}, "data": nested(180)});
        let maps: Api<ConfigMap> = Api::default_namespaced(client(&object, &ReplacedObjects::default()));
        assert_eq!(maps.get("a").await.unwrap().metadata.uid.as_deref(), Some("1"));
    }

    #[tokio::test]
    async fn drops_managed_fields_of_pods() {
        let items =
            json!([{"metadata": {"name": "a", "managedFields": [{"manager": "kubelet"}]}, "spec": {"containers": []}}]);
        let pods: Api<Pod> = Api::all(client(&list("PodList", &items), &ReplacedObjects::default()));
        let found = pods.list(&ListParams::default()).await.unwrap().items;
        assert_eq!((found[0].metadata.name.as_deref(), &found[0].metadata.managed_fields), (Some("a"), &None));
    }
}
