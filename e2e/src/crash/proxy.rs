//! Proxy between the operator and the API server. It forwards everything, including watches, and submits writes to the
//! gate.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use kube::Client;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::gate::{CompletedWrite, WriteGate};
use super::requests::{is_mesh_object, is_write};

/// Listens on loopback until it is dropped.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    _task: JoinSet<()>,
}

impl Proxy {
    /// Forwards requests with the credentials of `upstream`.
    pub(super) async fn start(upstream: Client, gate: Arc<WriteGate>) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback(handle).with_state(Arc::new(ProxyState { upstream, gate }));
        let mut task = JoinSet::new();
        task.spawn(async move {
            // Never returns.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, _task: task })
    }
}

struct ProxyState {
    upstream: Client,
    gate: Arc<WriteGate>,
}

async fn handle(State(state): State<Arc<ProxyState>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = match to_bytes(body, usize::MAX).await {
        Ok(body) => body,
        Err(error) => return failed(&error),
    };
    if !is_write(&parts.method, &parts.uri) {
        return state.send(parts, body).await;
    }
    let number = state.gate.admit().await;
    // A separate task completes the write even if the operator is killed and the connection closes.
    let sent = tokio::spawn(async move {
        let request = format!("{} {}", parts.method, parts.uri.path());
        let mesh_object = is_mesh_object(parts.uri.path());
        let response = state.send(parts, body).await;
        let write = response.status().is_success().then_some(CompletedWrite { request, mesh_object });
        state.gate.complete(number, write).then_some(response)
    });
    match sent.await {
        Ok(Some(response)) => response,
        Ok(None) => std::future::pending().await,
        Err(error) => failed(&error),
    }
}

impl ProxyState {
    async fn send(&self, parts: Parts, body: Bytes) -> Response {
        let path = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let mut request = http::Request::new(kube::client::Body::from(body));
        *request.method_mut() = parts.method;
        match path.parse() {
            Ok(uri) => *request.uri_mut() = uri,
            Err(error) => return failed(&error),
        }
        *request.headers_mut() = without(parts.headers, &[HOST, AUTHORIZATION, CONTENT_LENGTH, CONNECTION]);
        match self.upstream.send(request).await {
            Ok(response) => {
                let (mut parts, body) = response.into_parts();
                parts.headers = without(parts.headers, &[TRANSFER_ENCODING, CONNECTION]);
                Response::from_parts(parts, Body::new(body))
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
