//! Clients of the Kubernetes API, with the time limits that a controller needs.
//!
//! kube's own defaults never time out a request and retry some answers up to 15 times inside one call, which hides
//! an API server in trouble from the controller's backoff. Requests here fail within seconds and are never repeated
//! behind the caller's back; those of commands, which have nobody to come back later, once.

use std::time::Duration;

use axum::http::HeaderValue;
use axum::http::header::USER_AGENT;
use kube::client::retry::{InvalidBackoff, RetryPolicy};
use kube::config::InferConfigError;
use kube::{Client, Config};
use thiserror::Error;
use tower::BoxError;
use tower::retry::Retry;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
// The server ends a watch after 290 s unless it is asked otherwise. A connection that is silent for longer is dead;
// the limit also covers the lists that a watcher makes.
const WATCH_TIMEOUT: Duration = Duration::from_secs(310);
// Before a command repeats what an overloaded API server has turned away.
const RETRY_DELAY: Duration = Duration::from_secs(1);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(2);
const AGENT: &str = concat!("meshwright/", env!("CARGO_PKG_VERSION"));

/// No client could be made.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Neither a kubeconfig nor a pod's service account was found.
    #[error("no cluster to talk to: give KUBECONFIG, or run in a pod with a service account")]
    InferConfig(#[source] Box<InferConfigError>),
    /// The configuration was found and can't be used.
    #[error("can't make a client for the cluster at {url}")]
    BuildClient {
        /// The API server's address.
        url: String,
        /// What is wrong with the configuration.
        #[source]
        source: Box<kube::Error>,
    },
    /// The program's own delays are faulty.
    #[error("can't make a client that asks twice")]
    Retry(#[source] InvalidBackoff),
}

/// Clients of one cluster. Clones share connections.
#[derive(Clone)]
pub struct Clients {
    /// For everything that is one request and one answer: fails when no byte comes for 30 seconds.
    pub requests: Client,
    /// For watches only, which may be silent for minutes.
    pub watches: Client,
    /// The namespace of the kubeconfig's context or of the pod.
    pub namespace: String,
}

impl Clients {
    /// Clients of the cluster that `KUBECONFIG` or `~/.kube/config` names, or else of the one that this pod is in.
    pub async fn infer() -> Result<Self, ConnectError> {
        let config = Config::infer().await.map_err(|source| ConnectError::InferConfig(Box::new(source)))?;
        Self::from_config(config)
    }

    /// Clients of the cluster that `config` describes; its time limits and retries are replaced. Needs a tokio runtime.
    pub fn from_config(config: Config) -> Result<Self, ConnectError> {
        let build = |config: Config| {
            let url = config.cluster_url.to_string();
            Client::try_from(config).map_err(|source| ConnectError::BuildClient { url, source: Box::new(source) })
        };
        Ok(Self {
            requests: build(limited(config.clone(), REQUEST_TIMEOUT))?,
            namespace: config.default_namespace.clone(),
            watches: build(limited(config, WATCH_TIMEOUT))?,
        })
    }

    /// The same for a command: a request that an overloaded API server turns away is made a second time.
    pub fn patient(config: Config) -> Result<Self, ConnectError> {
        let mut clients = Self::from_config(config)?;
        clients.requests = patient(clients.requests, &clients.namespace).map_err(ConnectError::Retry)?;
        Ok(clients)
    }
}

fn patient(client: Client, namespace: &str) -> Result<Client, InvalidBackoff> {
    let policy = RetryPolicy::new(RETRY_DELAY, RETRY_DELAY_MAX, 1, false)?;
    let once = tower::service_fn(move |request| {
        let client = client.clone();
        async move { client.send(request).await.map_err(BoxError::from) }
    });
    Ok(Client::new(Retry::new(policy, once), namespace))
}

fn limited(mut config: Config, read_timeout: Duration) -> Config {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(read_timeout);
    config.write_timeout = Some(REQUEST_TIMEOUT);
    // Otherwise the time that a pooled connection lay idle counts against the next answer.
    config.reset_reader_on_write = true;
    config.default_retry = false;
    config.headers.retain(|(name, _)| name != USER_AGENT);
    config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
    // kubectl takes a proxy without a scheme for one by HTTP.
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

    use axum::http::{Request, Response};
    use kube::client::Body;

    use super::*;

    const VERSION: &str = r#"{"major":"1","minor":"36","gitVersion":"v1.36.3","gitCommit":"","gitTreeState":"",
        "buildDate":"","goVersion":"","compiler":"","platform":""}"#;

    #[tokio::test]
    async fn a_proxy_needs_no_scheme() {
        for (given, taken) in [("proxy:3128", "http://proxy:3128/"), ("https://proxy:3128", "https://proxy:3128/")] {
            let mut config = config("https://cluster.example.com");
            config.proxy_url = Some(given.parse().unwrap());
            let limited = limited(config, REQUEST_TIMEOUT);
            assert_eq!(limited.proxy_url.as_ref().map(ToString::to_string).as_deref(), Some(taken));
            assert!(Clients::from_config(limited).is_ok());
        }
    }

    fn config(url: &str) -> Config {
        Config::new(url.parse().unwrap())
    }

    #[test]
    fn nothing_is_retried_behind_the_callers_back_and_everything_has_a_limit() {
        let requests = limited(config("http://127.0.0.1:1"), REQUEST_TIMEOUT);
        assert!(!requests.default_retry);
        assert_eq!(requests.connect_timeout, Some(Duration::from_secs(5)));
        assert_eq!(requests.read_timeout, Some(Duration::from_secs(30)));
        assert!(requests.reset_reader_on_write);
        // A shorter limit would cut watches that the server keeps open and silent for 290 s.
        assert!(WATCH_TIMEOUT > Duration::from_secs(290));
    }

    #[tokio::test(start_paused = true)]
    async fn a_commands_request_is_made_once_more_when_it_is_turned_away() {
        for (refusals, asked) in [(1, 2), (9, 2)] {
            let count = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&count);
            let server = tower::service_fn(move |_: Request<Body>| {
                let turned_away = counted.fetch_add(1, Ordering::SeqCst) < refusals;
                let answer = if turned_away { (429, "") } else { (200, VERSION) };
                let (status, body) = answer;
                let response = Response::builder().status(status).body(Body::from(body.as_bytes().to_vec())).unwrap();
                std::future::ready(Ok::<_, BoxError>(response))
            });
            let client = patient(Client::new(server, "default"), "default").unwrap();
            assert_eq!(client.apiserver_version().await.is_ok(), refusals == 1);
            assert_eq!(count.load(Ordering::SeqCst), asked);
        }
    }

    #[tokio::test]
    async fn an_overloaded_server_is_asked_once_and_told_who_asks() {
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
        // A second attempt would find nobody who accepts, and hang until the connection times out.
        let answer = Clients::from_config(config(&url)).unwrap().requests.apiserver_version().await;
        assert!(answer.is_err());
        let head = server.join().unwrap();
        assert!(head.contains(&format!("user-agent: meshwright/{}", env!("CARGO_PKG_VERSION"))), "{head:?}");
    }
}
