//! Retries of single requests. One failed request would otherwise end a whole reconcile: with one error in ten requests,
//! an install of a hundred objects would hardly ever complete.

use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use kube::client::Body;
use kube::client::retry::RetryPolicy;
use tokio::time::{Instant, Sleep, sleep};
use tower::BoxError;
use tower::retry::Policy;

use super::leader::LeaseNotHeldError;

/// Retries of one request; after that, the reconcile fails and is repeated with backoff.
const MAX_RETRIES: u32 = 4;
/// The same for a conflict, which may last: another field manager owns a field, or the request has an old
/// resourceVersion.
const MAX_CONFLICT_RETRIES: u32 = 2;
/// Upper bound of the delay before the first retry, which doubles with each one.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// If the API server asks for a longer delay, the request fails, so that the controller can do something else.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(5);
/// No retry starts later than this: a webhook or an API server that does not respond takes longer with every attempt.
const MAX_TIME: Duration = Duration::from_secs(10);

/// Retries requests that failed for reasons other than their content: an overloaded or failing API server, a connection
/// that was closed, a conflict with a concurrent write. The operator's writes can be repeated even if the API server has
/// executed them: server-side apply, deletes with preconditions, and creates under fixed names.
#[derive(Clone, Debug, Default)]
pub(super) struct TransientRetries {
    retries: u32,
    started: Option<Instant>,
}

impl TransientRetries {
    /// The delay before the next attempt; `None` if there is none.
    fn delay<B>(&self, request: &Request<Body>, result: &Result<Response<B>, BoxError>) -> Option<Duration> {
        let backoff =
            FIRST_DELAY.saturating_mul(2_u32.saturating_pow(self.retries)).mul_f64(0.5 + fastrand::f64() / 2.0);
        match result {
            Ok(response) if self.is_transient(request, response.status()) => match retry_after(response.headers()) {
                Some(wanted) if wanted > MAX_RETRY_AFTER => None,
                // Requests that were rejected together are not repeated together.
                Some(wanted) => Some(backoff.max(wanted + FIRST_DELAY.mul_f64(fastrand::f64()))),
                None => Some(backoff),
            },
            Ok(_) => None,
            Err(error) => (!is_json_patch(request) && !error.is::<LeaseNotHeldError>()).then_some(backoff),
        }
    }

    /// Whether a repeated request may succeed, and does no harm if this one was executed.
    fn is_transient(&self, request: &Request<Body>, status: StatusCode) -> bool {
        match status {
            // The API server has not executed the request.
            StatusCode::TOO_MANY_REQUESTS => true,
            // This is also the response to a pod of an injection check if the webhook fails: a result, not a failure.
            StatusCode::INTERNAL_SERVER_ERROR => !is_json_patch(request) && !is_check(request),
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                !is_json_patch(request)
            }
            // A create responds so if the object exists, a delete if it is another object than expected.
            StatusCode::CONFLICT => {
                request.method() == Method::PATCH && !is_json_patch(request) && self.retries < MAX_CONFLICT_RETRIES
            }
            _ => false,
        }
    }
}

impl<B> Policy<Request<Body>, Response<B>, BoxError> for TransientRetries {
    type Future = Sleep;

    fn retry(
        &mut self,
        request: &mut Request<Body>,
        result: &mut Result<Response<B>, BoxError>,
    ) -> Option<Self::Future> {
        let is_late = self.started.is_some_and(|started| started.elapsed() > MAX_TIME);
        if self.retries >= MAX_RETRIES || is_late || is_watch(request) {
            return None;
        }
        let delay = self.delay(request, result)?;
        self.retries += 1;
        Some(sleep(delay))
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        if self.retries == 0 {
            self.started = Some(Instant::now());
        }
        let mut policy = RetryPolicy::default();
        <RetryPolicy as Policy<Request<Body>, Response<B>, BoxError>>::clone_request(&mut policy, request)
    }
}

/// A watch is restarted by its watcher, from a later version.
fn is_watch(request: &Request<Body>) -> bool {
    has_parameter(request, "watch=")
}

/// Whether the request creates a pod or Service in a dry run, to see whether the API server accepts it.
fn is_check(request: &Request<Body>) -> bool {
    request.method() == Method::POST && has_parameter(request, "dryRun=")
}

/// The operations of a JSON patch depend on the state that was read, and may not apply to their own result.
fn is_json_patch(request: &Request<Body>) -> bool {
    request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json-patch+json")
}

/// Whether the request's query has a parameter with this start.
pub(super) fn has_parameter(request: &Request<Body>, start: &str) -> bool {
    request.uri().query().unwrap_or_default().split('&').any(|parameter| parameter.starts_with(start))
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use k8s_openapi::api::core::v1::{ConfigMap, Pod};
    use kube::Client;
    use kube::api::{Api, Patch, PatchParams, PostParams};
    use serde_json::json;

    use super::*;
    use crate::runtime::client::retrying;

    /// A client whose server first responds with `status` for so many times, and the number of requests.
    fn client(failures: u32, status: u16, after: Option<&'static str>) -> (Client, Arc<AtomicU32>) {
        let requests = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&requests);
        let server = tower::service_fn(move |_: Request<Body>| {
            let fails = count.fetch_add(1, Ordering::SeqCst) < failures;
            let mut response = Response::builder().status(if fails { status } else { 200 });
            if let Some(after) = after {
                response = response.header(RETRY_AFTER, after);
            }
            let body = Body::from(if fails { Vec::new() } else { b"{\"metadata\":{}}".to_vec() });
            std::future::ready(response.body(body).map_err(BoxError::from))
        });
        (retrying(Client::new(server, "default"), "default", TransientRetries::default()), requests)
    }

    async fn apply(client: Client) -> bool {
        let maps: Api<ConfigMap> = Api::default_namespaced(client);
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
        maps.patch("a", &PatchParams::apply("test"), &Patch::Apply(object)).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn retries_transient_failures() {
        for status in [429, 500, 502, 503, 504, 409] {
            let (client, requests) = client(2, status, None);
            assert!(apply(client).await, "{status}");
            assert_eq!(requests.load(Ordering::SeqCst), 3, "{status}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_after_some_retries() {
        let (client, requests) = client(99, 500, None);
        assert!(!apply(client).await);
        assert_eq!(requests.load(Ordering::SeqCst), 1 + MAX_RETRIES);
    }

    #[tokio::test(start_paused = true)]
    async fn does_not_retry_rejections() {
        for status in [400, 401, 403, 404, 422] {
            let (client, requests) = client(1, status, None);
            assert!(!apply(client).await, "{status}");
            assert_eq!(requests.load(Ordering::SeqCst), 1, "{status}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn honours_retry_after() {
        let started = Instant::now();
        let (client, _) = client(1, 429, Some("3"));
        assert!(apply(client).await);
        assert_eq!(started.elapsed().as_secs(), 3);
        let (client, requests) = self::client(1, 429, Some("60"));
        assert!(!apply(client).await);
        assert_eq!(requests.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn failed_webhook_of_check_is_a_result() {
        for (status, expected) in [(500, 1), (429, 2)] {
            let (client, requests) = client(1, status, None);
            let pods: Api<Pod> = Api::default_namespaced(client);
            let params = PostParams { dry_run: true, ..PostParams::default() };
            assert_eq!(pods.create(&params, &Pod::default()).await.is_ok(), expected == 2, "{status}");
            assert_eq!(requests.load(Ordering::SeqCst), expected, "{status}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn executed_json_patch_is_not_repeated() {
        for (status, expected) in [(500, 1), (503, 1), (409, 1), (429, 2)] {
            let (client, requests) = client(1, status, None);
            let maps: Api<ConfigMap> = Api::default_namespaced(client);
            let patch =
                Patch::Json::<()>(serde_json::from_value(json!([{"op": "remove", "path": "/data/a"}])).unwrap());
            assert_eq!(maps.patch("a", &PatchParams::default(), &patch).await.is_ok(), expected == 2, "{status}");
            assert_eq!(requests.load(Ordering::SeqCst), expected, "{status}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lasting_conflict_fails_soon() {
        let (client, requests) = client(99, 409, None);
        assert!(!apply(client).await);
        assert_eq!(requests.load(Ordering::SeqCst), 1 + MAX_CONFLICT_RETRIES);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_failure_is_not_repeated() {
        let requests = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&requests);
        let server = tower::service_fn(move |_: Request<Body>| {
            count.fetch_add(1, Ordering::SeqCst);
            async {
                sleep(MAX_TIME * 2).await;
                Response::builder().status(500).body(Body::empty()).map_err(BoxError::from)
            }
        });
        let client = retrying(Client::new(server, "default"), "default", TransientRetries::default());
        assert!(!apply(client).await);
        assert_eq!(requests.load(Ordering::SeqCst), 1);
    }
}
