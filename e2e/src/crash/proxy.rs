//! Proxy between the operator and the API server. It forwards requests, including watches, submits writes to the gate,
//! and injects faults.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use kube::Client;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::faults::{FaultRules, InjectedError};
use super::gate::{CompletedWrite, WriteGate};
use super::link::{Connection, Link, LinkListener};
use super::requests::{RequestVerb, is_mesh_object, is_write, verb};
use super::watch_events;

/// Listens on loopback until it is dropped.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    pub(super) link: Link,
    pub(super) faults: FaultRules,
    _task: JoinSet<()>,
}

impl Proxy {
    /// Forwards requests with the credentials of `upstream`.
    pub(super) async fn start(upstream: Client, gate: Arc<WriteGate>) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (link, faults) = (Link::default(), FaultRules::default());
        let state = ProxyState { upstream, gate, faults: faults.clone() };
        let router = Router::new().fallback(handle).with_state(Arc::new(state));
        let listener = LinkListener { listener, link: link.clone() };
        let mut task = JoinSet::new();
        task.spawn(async move {
            // Never returns.
            let _ = axum::serve(listener, router.into_make_service_with_connect_info::<Connection>()).await;
        });
        Ok(Self { address, link, faults, _task: task })
    }
}

struct ProxyState {
    upstream: Client,
    gate: Arc<WriteGate>,
    faults: FaultRules,
}

async fn handle(
    State(state): State<Arc<ProxyState>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let body = match to_bytes(body, usize::MAX).await {
        Ok(body) => body,
        Err(error) => return failed(&error),
    };
    let decision = state.faults.decide(&parts.method, &parts.uri);
    if !decision.latency.is_zero() {
        tokio::time::sleep(decision.latency).await;
    }
    match decision.error {
        None => {}
        Some(InjectedError::ConnectionClosed) => {
            connection.cut();
            return std::future::pending().await;
        }
        Some(error @ InjectedError::FailedAfter) => {
            state.forward(parts, body).await;
            return injected(error);
        }
        Some(error) => return injected(error),
    }
    let response = state.forward(parts, body).await;
    match decision.server_version {
        Some(version) => with_version(response, &version).await,
        None => response,
    }
}

impl ProxyState {
    /// Sends a request to the API server; a write only when the gate admits it.
    async fn forward(self: Arc<Self>, parts: Parts, body: Bytes) -> Response {
        if !is_write(&parts.method, &parts.uri) {
            return self.send(parts, body).await;
        }
        let number = self.gate.admit().await;
        // A separate task completes the write even if the operator is killed and the connection closes.
        let sent = tokio::spawn(async move {
            let request = format!("{} {}", parts.method, parts.uri.path());
            let mesh_object = is_mesh_object(parts.uri.path());
            let response = self.send(parts, body).await;
            let write = response.status().is_success().then_some(CompletedWrite { request, mesh_object });
            self.gate.complete(number, write).then_some(response)
        });
        match sent.await {
            Ok(Some(response)) => response,
            Ok(None) => std::future::pending().await,
            Err(error) => failed(&error),
        }
    }

    async fn send(&self, parts: Parts, body: Bytes) -> Response {
        let path = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let mut request = http::Request::new(kube::client::Body::from(body));
        *request.method_mut() = parts.method.clone();
        match path.parse() {
            Ok(uri) => *request.uri_mut() = uri,
            Err(error) => return failed(&error),
        }
        *request.headers_mut() = without(parts.headers, &[HOST, AUTHORIZATION, CONTENT_LENGTH, CONNECTION]);
        match self.upstream.send(request).await {
            Ok(response) => {
                let (mut head, body) = response.into_parts();
                head.headers = without(head.headers, &[TRANSFER_ENCODING, CONNECTION]);
                let mut body = Body::new(body);
                if verb(&parts.method, &parts.uri) == RequestVerb::Watch && head.status.is_success() {
                    body = watch_events::forward(body, parts.method, parts.uri, self.faults.clone());
                }
                Response::from_parts(head, body)
            }
            Err(error) => failed(&error),
        }
    }
}

/// Removes connection-specific headers.
fn without(mut headers: HeaderMap, names: &[http::HeaderName]) -> HeaderMap {
    for name in names {
        headers.remove(name);
    }
    headers
}

fn failed(error: &dyn std::fmt::Display) -> Response {
    let mut response = Response::new(Body::from(error.to_string()));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

/// The response of an API server with this error.
fn injected(error: InjectedError) -> Response {
    let (code, reason) = match error {
        InjectedError::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
        InjectedError::Conflict => (StatusCode::CONFLICT, "Conflict"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code.as_u16(),
        "reason": reason, "message": format!("injected by the lab: {error:?}"),
    });
    let mut response = Response::new(Body::from(status.to_string()));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if code == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Replaces the version in a response to `/version`.
async fn with_version(response: Response, version: &str) -> Response {
    let (mut parts, body) = response.into_parts();
    let body = match to_bytes(body, usize::MAX).await {
        Ok(body) => body,
        Err(error) => return failed(&error),
    };
    let mut info: Value = match serde_json::from_slice(&body) {
        Ok(info) => info,
        Err(error) => return failed(&error),
    };
    let mut numbers = version.trim_start_matches('v').split('.');
    if let Some(info) = info.as_object_mut() {
        info.insert("gitVersion".to_owned(), version.into());
        info.insert("major".to_owned(), numbers.next().into());
        info.insert("minor".to_owned(), numbers.next().into());
    }
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(info.to_string()))
}
