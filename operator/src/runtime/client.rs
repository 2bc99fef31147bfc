//! Clients of the Kubernetes API with timeouts suitable for a controller.
//!
//! By default, kube sets no request timeout and retries some responses up to 15 times within one call, which hides an
//! overloaded API server from the controller's backoff. The clients here fail within seconds and don't retry; those for
//! reconciles retry for a second or two. Commands, which have no reconcile loop, retry once.

use std::time::Duration;

use axum::http::header::USER_AGENT;
use axum::http::{HeaderValue, Method, Request, Response};
use kube::client::retry::{InvalidBackoff, RetryPolicy};
use kube::client::{Body, ClientBuilder};
use kube::config::InferConfigError;
use kube::{Client, Config};
use thiserror::Error;
use tower::BoxError;
use tower::retry::{Policy, Retry};

use super::body_filter::BodyFilterLayer;
use super::leader::LeaseFence;
use super::response_limits::{ReplacedObjects, ResponseLimits};
use super::retry::{TransientRetries, has_parameter};
use super::watch_activity::WatchActivity;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
// The API server ends our watches after 85 s, and kube restarts one that is silent for 90 s. This timeout also applies to
// the list requests of a watcher, and until a watch starts.
const WATCH_TIMEOUT: Duration = Duration::from_secs(100);
// Delay before a command retries a request that an overloaded API server rejected.
const RETRY_DELAY: Duration = Duration::from_secs(1);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(2);
const USER_AGENT_VALUE: &str = concat!("meshwright/", env!("CARGO_PKG_VERSION"));

/// Creating the clients failed.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// No kubeconfig and no pod service account was found.
    #[error("no cluster configured: set KUBECONFIG or run in a pod with a service account")]
    InferConfig(#[source] Box<InferConfigError>),
    /// The configuration is invalid.
    #[error("can't create a client for the cluster at {url}")]
    BuildClient {
        /// URL of the API server.
        url: String,
        /// The error in the configuration.
        #[source]
        source: Box<kube::Error>,
    },
    /// The built-in retry delays are invalid.
    #[error("can't create a client with retries")]
    Retry(#[source] InvalidBackoff),
}

/// Clients for a cluster. Clones share connections.
#[derive(Clone)]
pub struct Clients {
    /// Client for single requests. A request fails when no data arrives for 30 seconds.
    pub requests: Client,
    /// Client for watches, which may be idle for minutes.
    pub watches: Client,
    /// Namespace of the kubeconfig's context or of the pod.
    pub namespace: String,
    /// Objects that responses did not have, since they exceed limits.
    pub replaced: ReplacedObjects,
    /// When watches last delivered data.
    pub watch_activity: WatchActivity,
}

impl Clients {
    /// Creates clients for the cluster of `KUBECONFIG` or `~/.kube/config`, or for the cluster of this pod.
    pub async fn infer() -> Result<Self, ConnectError> {
        let config = Config::infer().await.map_err(|source| ConnectError::InferConfig(Box::new(source)))?;
        Self::from_config(config)
    }

    /// Creates clients from a configuration; its timeouts and retries are replaced. Requires a tokio runtime.
    pub fn from_config(config: Config) -> Result<Self, ConnectError> {
        Self::with_limits(config, ResponseLimits::for_operator)
    }

    fn with_limits(config: Config, limits: fn(ReplacedObjects) -> ResponseLimits) -> Result<Self, ConnectError> {
        let (replaced, watch_activity) = (ReplacedObjects::default(), WatchActivity::default());
        let limits = limits(replaced.clone());
        let build = |config: Config, limits: &ResponseLimits| {
            let url = config.cluster_url.to_string();
            match ClientBuilder::try_from(config) {
                Ok(builder) => Ok({
                    let limits = BodyFilterLayer(limits.clone());
                    builder.with_layer(&limits).with_layer(&BodyFilterLayer(watch_activity.clone())).build()
                }),
                Err(source) => Err(ConnectError::BuildClient { url, source: Box::new(source) }),
            }
        };
        Ok(Self {
            requests: build(with_timeouts(config.clone(), REQUEST_TIMEOUT), &limits)?,
            namespace: config.default_namespace.clone(),
            watches: build(with_timeouts(config, WATCH_TIMEOUT), &limits.for_watches())?,
            replaced,
            watch_activity: watch_activity.clone(),
        })
    }

    /// The clients for reconciles: `requests` retries after transient failures, and sends writes only while the lease
    /// is held. Leader election has its own schedule.
    #[must_use]
    pub fn for_reconciles(&self, fence: LeaseFence) -> Self {
        let client = self.requests.clone();
        let send = tower::service_fn(move |request: Request<Body>| {
            let (client, fence) = (client.clone(), fence.clone());
            async move {
                let is_write = is_write(&request);
                let response = async { client.send(request).await.map_err(BoxError::from) };
                if is_write { fence.guard(response).await } else { response.await }
            }
        });
        let requests = Client::new(Retry::new(TransientRetries::default(), send), self.namespace.as_str());
        Self { requests, ..self.clone() }
    }

    /// Creates clients for commands: `requests` retries once if the API server is overloaded.
    pub fn with_retry(config: Config) -> Result<Self, ConnectError> {
        let mut clients = Self::with_limits(config, ResponseLimits::for_commands)?;
        clients.requests = with_retry(clients.requests, &clients.namespace).map_err(ConnectError::Retry)?;
        Ok(clients)
    }
}

fn with_retry(client: Client, namespace: &str) -> Result<Client, InvalidBackoff> {
    let policy = RetryPolicy::new(RETRY_DELAY, RETRY_DELAY_MAX, 1, false)?;
    Ok(retrying(client, namespace, policy))
}

/// A client that repeats requests as `policy` decides.
pub(super) fn retrying<P>(client: Client, namespace: &str, policy: P) -> Client
where
    P: Policy<Request<Body>, Response<Body>, BoxError, Future: Send> + Clone + Send + 'static,
{
    let send = tower::service_fn(move |request| {
        let client = client.clone();
        async move { client.send(request).await.map_err(BoxError::from) }
    });
    Client::new(Retry::new(policy, send), namespace)
}

/// Whether the request may change an object. Access reviews count, but a process without the lease needs none.
fn is_write(request: &Request<Body>) -> bool {
    let changes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(request.method());
    changes && !has_parameter(request, "dryRun=")
}

fn with_timeouts(mut config: Config, read_timeout: Duration) -> Config {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(read_timeout);
    config.write_timeout = Some(REQUEST_TIMEOUT);
    // Otherwise the idle time of a pooled connection counts towards the timeout of the next response.
    config.reset_reader_on_write = true;
    config.default_retry = false;
    config.headers.retain(|(name, _)| name != USER_AGENT);
    config.headers.push((USER_AGENT, HeaderValue::from_static(USER_AGENT_VALUE)));
    // Like kubectl, use HTTP for a proxy URL without a scheme.
    if let Some(proxy) = config.proxy_url.as_ref().filter(|proxy| proxy.scheme().is_none())
        && let Ok(with_scheme) = format!("http://{proxy}").parse()
    {
        config.proxy_url = Some(with_scheme);
    }
    config
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{Api, DeleteParams, Patch, PatchParams};

    use super::*;

    const VERSION: &str = r#"{"major":"1","minor":"36","gitVersion":"v1.36.3","gitCommit":"","gitTreeState":"",
        "buildDate":"","goVersion":"","compiler":"","platform":""}"#;

    #[tokio::test]
    async fn accepts_proxy_url_without_scheme() {
        for (given, expected) in [("proxy:3128", "http://proxy:3128/"), ("https://proxy:3128", "https://proxy:3128/")] {
            let mut config = config("https://cluster.example.com");
            config.proxy_url = Some(given.parse().unwrap());
            let with_timeouts = with_timeouts(config, REQUEST_TIMEOUT);
            assert_eq!(with_timeouts.proxy_url.as_ref().map(ToString::to_string).as_deref(), Some(expected));
            assert!(Clients::from_config(with_timeouts).is_ok());
        }
    }

    fn config(url: &str) -> Config {
        Config::new(url.parse().unwrap())
    }

    #[test]
    fn requests_have_timeouts_and_no_retries() {
        let requests = with_timeouts(config("http://127.0.0.1:1"), REQUEST_TIMEOUT);
        assert!(!requests.default_retry);
        assert_eq!(requests.connect_timeout, Some(Duration::from_secs(5)));
        assert_eq!(requests.read_timeout, Some(Duration::from_secs(30)));
        assert!(requests.reset_reader_on_write);
        // A shorter timeout would interrupt idle watches.
        assert!(WATCH_TIMEOUT > Duration::from_secs(90));
    }

    #[tokio::test(start_paused = true)]
    async fn commands_retry_once_when_overloaded() {
        for (rejections, expected_requests) in [(1, 2), (9, 2)] {
            let count = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&count);
            let server = tower::service_fn(move |_: Request<Body>| {
                let reject = counted.fetch_add(1, Ordering::SeqCst) < rejections;
                let (status, body) = if reject { (429, "") } else { (200, VERSION) };
                let response = Response::builder().status(status).body(Body::from(body.as_bytes().to_vec())).unwrap();
                std::future::ready(Ok::<_, BoxError>(response))
            });
            let client = with_retry(Client::new(server, "default"), "default").unwrap();
            assert_eq!(client.apiserver_version().await.is_ok(), rejections == 1);
            assert_eq!(count.load(Ordering::SeqCst), expected_requests);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn writes_require_the_lease() {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let server = tower::service_fn(move |_: Request<Body>| {
            counted.fetch_add(1, Ordering::SeqCst);
            std::future::ready(Ok::<_, BoxError>(Response::new(Body::from(b"{\"metadata\":{}}".to_vec()))))
        });
        let client = Client::new(server, "default");
        let (requests, watches) = (client.clone(), client);
        let replaced = ReplacedObjects::default();
        let (namespace, watch_activity) = ("default".to_owned(), WatchActivity::default());
        let clients = Clients { requests, watches, namespace, replaced, watch_activity };
        let fence = LeaseFence::open();
        let maps: Api<ConfigMap> = Api::default_namespaced(clients.for_reconciles(fence.clone()).requests);
        let patch = Patch::Merge(serde_json::json!({"data": {"a": "b"}}));
        assert!(maps.patch("a", &PatchParams::default(), &patch).await.is_ok());
        fence.close();
        assert!(maps.patch("a", &PatchParams::default(), &patch).await.is_err());
        assert!(maps.delete("a", &DeleteParams::default()).await.is_err());
        assert_eq!(count.load(Ordering::SeqCst), 1);
        let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
        assert!(maps.patch("a", &dry_run, &patch).await.is_ok() && maps.get("a").await.is_ok());
        assert_eq!(count.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn sends_one_request_with_user_agent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let head: Vec<String> =
                BufReader::new(&stream).lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
            (&stream)
                .write_all(b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .unwrap();
            head
        });
        // The server accepts one connection, so a second request would time out.
        let result = Clients::from_config(config(&url)).unwrap().requests.apiserver_version().await;
        assert!(result.is_err());
        let head = server.join().unwrap();
        assert!(head.contains(&format!("user-agent: meshwright/{}", env!("CARGO_PKG_VERSION"))), "{head:?}");
    }
}
