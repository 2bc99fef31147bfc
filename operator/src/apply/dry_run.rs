//! Sends objects in a dry run: the API server runs admission and validation, and stores nothing.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use kube::Client;
use kube::api::PatchParams;
use tokio::time::{Instant, timeout_at};

use super::applier::apply_object;
use super::error::{ApplyError, ErrorClass, absent};
use super::reader::api;
use crate::mesh::dry_run::{DryRunRejection, DryRunRequest};
use crate::mesh::effective::{depends_on_live, effective};
use crate::mesh::kind::Kind;
use crate::mesh::object::{DesiredObject, FIELD_MANAGER, ObjectKey};
use crate::runtime::requests::within_deadline;

/// Limit of concurrent requests, as for reads.
const CONCURRENCY: usize = 8;
/// CRDs are large; few concurrent requests limit peak memory.
const CRD_CONCURRENCY: usize = 4;
/// Deadline of all requests together.
const DEADLINE: Duration = Duration::from_mins(1);
/// After this many failed requests no more are sent: the API server or a webhook is unavailable.
const MAX_FAILED: usize = 3;

/// The API server's responses. Objects that are in none of the lists were not checked because of [`Self::failure`].
#[derive(Debug, Default)]
pub struct DryRunResults {
    /// Objects that the API server accepts.
    pub accepted: Vec<Arc<DesiredObject>>,
    /// Objects that the API server rejects.
    pub rejected: Vec<(Arc<DesiredObject>, DryRunRejection)>,
    /// Objects that a dry run can't check: their kind is not served yet, a webhook has no dry runs, or the node port is
    /// taken, which the rollout may free.
    pub unsupported: Vec<Arc<DesiredObject>>,
    /// Why objects were not checked: an error that says nothing about them, such as a timeout.
    pub failure: Option<String>,
}

/// What a response says about an object.
#[derive(Debug)]
enum DryRunResponse {
    Admitted,
    Unsupported,
    Rejected(ApplyError),
    Failed(ApplyError),
}

/// Sends objects in a dry run.
pub async fn dry_run(client: &Client, requests: Vec<DryRunRequest>) -> DryRunResults {
    let deadline = Instant::now() + DEADLINE;
    let is_crd = |request: &DryRunRequest| request.desired.key.kind == Kind::CustomResourceDefinition;
    let (crds, others): (Vec<_>, Vec<_>) = requests.into_iter().partition(is_crd);
    let (mut results, mut failed) = (DryRunResults::default(), 0);
    for (requests, concurrency) in [(crds, CRD_CONCURRENCY), (others, CONCURRENCY)] {
        let sent = stream::iter(requests).map(|request| async move {
            let response = send(client, &request).await;
            (request.desired, response)
        });
        let mut responses = sent.buffered(concurrency);
        while failed < MAX_FAILED {
            match timeout_at(deadline, responses.next()).await {
                Ok(Some((desired, response))) => {
                    failed += usize::from(matches!(response, DryRunResponse::Failed(_)));
                    results.add(desired, response);
                }
                Ok(None) => break,
                Err(_) => {
                    let message = format!("the API server did not respond within {} s", DEADLINE.as_secs());
                    results.failure.get_or_insert(message);
                    return results;
                }
            }
        }
    }
    results
}

impl DryRunResults {
    fn add(&mut self, desired: Arc<DesiredObject>, response: DryRunResponse) {
        match response {
            DryRunResponse::Admitted => self.accepted.push(desired),
            DryRunResponse::Unsupported => self.unsupported.push(desired),
            DryRunResponse::Rejected(error) => {
                let (key, class, message) = (desired.key.clone(), error.class(), error.to_string());
                self.rejected.push((desired, DryRunRejection { key, class, message }));
            }
            DryRunResponse::Failed(error) => {
                self.failure.get_or_insert(error.to_string());
            }
        }
    }
}

async fn send(client: &Client, request: &DryRunRequest) -> DryRunResponse {
    let DesiredObject { key, .. } = request.desired.as_ref();
    let mut wanted = request.desired.value();
    if request.exists && depends_on_live(&wanted) {
        match within_deadline(api(client, key).get_opt(&key.name)).await {
            Ok(Some(live)) => wanted = effective(wanted, &live.into_value()),
            Ok(None) => {}
            Err(source) => {
                return DryRunResponse::Failed(ApplyError::Read { key: key.clone(), source: Box::new(source) });
            }
        }
    }
    let params = PatchParams { dry_run: true, ..PatchParams::apply(FIELD_MANAGER).force() };
    match apply_object(client, key, wanted, &params).await {
        Ok(_) => DryRunResponse::Admitted,
        Err(source) => classify(key, source),
    }
}

fn classify(key: &ObjectKey, source: kube::Error) -> DryRunResponse {
    if absent(&source) || is_unsupported_by_webhook(&source) {
        return DryRunResponse::Unsupported;
    }
    let error = ApplyError::Apply { key: key.clone(), source: Box::new(source) };
    match error.class() {
        // Node ports are assigned and freed during the rollout, which a dry run doesn't see.
        _ if error.port_rejection().is_some() => DryRunResponse::Unsupported,
        ErrorClass::Forbidden | ErrorClass::Invalid => DryRunResponse::Rejected(error),
        ErrorClass::Conflict | ErrorClass::Transient => DryRunResponse::Failed(error),
    }
}

/// The API server rejects every dry run that a webhook with unknown side effects would see.
fn is_unsupported_by_webhook(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 400 && status.message.contains("does not support dry run"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::http::{Method, Request, Response, StatusCode};
    use kube::client::Body;
    use semver::Version;
    use serde_json::{Value, json};
    use tower::BoxError;

    use super::*;
    use crate::mesh::object::{Component, Owner};

    fn request(kind: &str, name: &str) -> DryRunRequest {
        let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: Version::new(1, 32, 0) };
        let object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}});
        let desired = DesiredObject::from_rendered(object, &Component::Istiod, &owner, "istio-system").unwrap();
        DryRunRequest { desired: Arc::new(desired), exists: false }
    }

    fn rejection(code: u16, reason: &str, message: &str) -> (u16, Value) {
        (code, json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}))
    }

    /// The results of a dry run, and the number of requests, for a server with this response by the object's name; it
    /// never responds if that is `None`.
    async fn results(
        requests: Vec<DryRunRequest>,
        respond: fn(&str) -> Option<(u16, Value)>,
    ) -> (DryRunResults, usize) {
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&sent);
        let server = tower::service_fn(move |request: Request<Body>| {
            counter.fetch_add(1, Ordering::Relaxed);
            async move {
                let query = request.uri().query().unwrap_or_default();
                assert!(request.method() == Method::PATCH && query.contains("dryRun=All"), "{request:?}");
                let name = request.uri().path().rsplit('/').next().unwrap_or_default();
                let Some((code, body)) = respond(name) else { return std::future::pending().await };
                let mut response = Response::new(Body::from(body.to_string().into_bytes()));
                *response.status_mut() = StatusCode::from_u16(code).unwrap();
                Ok::<_, BoxError>(response)
            }
        });
        let client = Client::new(server, "default");
        let results = dry_run(&client, requests).await;
        (results, sent.load(Ordering::Relaxed))
    }

    fn names(objects: &[Arc<DesiredObject>]) -> Vec<&str> {
        objects.iter().map(|object| object.key.name.as_str()).collect()
    }

    #[tokio::test]
    async fn distinguishes_rejections_from_missing_support() {
        let respond = |name: &str| {
            Some(match name {
                "policy" => rejection(422, "Invalid", "ValidatingAdmissionPolicy 'x' denied request"),
                "quota" => rejection(403, "Forbidden", "exceeded quota"),
                "namespace" => rejection(404, "NotFound", "namespaces \"istio-system\" not found"),
                "webhook" => rejection(400, "BadRequest", "admission webhook \"x\" does not support dry run"),
                "port" => rejection(
                    422,
                    "Invalid",
                    "spec.ports[0].nodePort: Invalid value: 30401: provided port is already allocated",
                ),
                _ => (200, json!({"metadata": {"name": name}})),
            })
        };
        let maps = ["fine", "policy", "quota", "namespace", "webhook"].map(|name| request("ConfigMap", name));
        let all = maps.into_iter().chain([request("Service", "port")]).collect();
        let (found, sent) = results(all, respond).await;
        assert_eq!((sent, names(&found.accepted)), (6, vec!["fine"]));
        assert_eq!(names(&found.unsupported), ["namespace", "webhook", "port"]);
        let rejected: Vec<_> = found.rejected.iter().map(|(_, found)| (found.class, found.message.as_str())).collect();
        let policy = "applying ConfigMap istio-system/policy failed: ValidatingAdmissionPolicy 'x' denied request";
        let quota = "applying ConfigMap istio-system/quota failed: exceeded quota";
        assert_eq!(rejected, [(ErrorClass::Invalid, policy), (ErrorClass::Forbidden, quota)]);
        assert_eq!(found.failure, None);
    }

    #[tokio::test]
    async fn stops_while_api_server_is_overloaded() {
        let all = (0..40).map(|n| request("ConfigMap", &format!("m{n}"))).collect();
        let (found, sent) = results(all, |_| Some(rejection(429, "TooManyRequests", "too many requests"))).await;
        assert!(sent <= CONCURRENCY + MAX_FAILED, "{sent} requests");
        assert!(found.rejected.is_empty() && found.accepted.is_empty(), "{found:?}");
        assert!(found.failure.is_some_and(|message| message.contains("too many requests")));
    }

    #[tokio::test(start_paused = true)]
    async fn ends_at_deadline() {
        let all = (0..40).map(|n| request("ConfigMap", &format!("m{n}"))).collect();
        let limit = DEADLINE + Duration::from_secs(1);
        let (found, _) = tokio::time::timeout(limit, results(all, |_| None)).await.unwrap();
        assert!(found.rejected.is_empty() && found.failure.is_some(), "{found:?}");
    }
}
