//! What stands between the operator and the API server: passes everything on as it is, watches too, and asks the gate
//! about writes.

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

use super::gate::{Gate, Write};
use super::requests::{is_of_mesh, is_write};

/// Listens on loopback; ends when it is dropped.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    _work: JoinSet<()>,
}

impl Proxy {
    /// Passes on to a server, with the rights of `upstream`.
    pub(super) async fn start(upstream: Client, gate: Arc<Gate>) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback(pass).with_state(Arc::new(Way { upstream, gate }));
        let mut work = JoinSet::new();
        work.spawn(async move {
            // Accepting doesn't end by itself.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, _work: work })
    }
}

struct Way {
    upstream: Client,
    gate: Arc<Gate>,
}

async fn pass(State(way): State<Arc<Way>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = match to_bytes(body, usize::MAX).await {
        Ok(body) => body,
        Err(error) => return failed(&error),
    };
    if !is_write(&parts.method, &parts.uri) {
        return way.send(parts, body).await;
    }
    let number = way.gate.pass().await;
    // On a task of its own: what was sent is carried out, though nobody may be left to be told.
    let sent = tokio::spawn(async move {
        let request = format!("{} {}", parts.method, parts.uri.path());
        let of_mesh = is_of_mesh(parts.uri.path());
        let answer = way.send(parts, body).await;
        let write = answer.status().is_success().then_some(Write { request, of_mesh });
        way.gate.answered(number, write).then_some(answer)
    });
    match sent.await {
        Ok(Some(answer)) => answer,
        Ok(None) => std::future::pending().await,
        Err(error) => failed(&error),
    }
}

impl Way {
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
            Ok(answer) => {
                let (mut parts, body) = answer.into_parts();
                parts.headers = without(parts.headers, &[TRANSFER_ENCODING, CONNECTION]);
                Response::from_parts(parts, Body::new(body))
            }
            Err(error) => failed(&error),
        }
    }
}

/// Without what belongs to one connection.
fn without(mut headers: HeaderMap, names: &[http::HeaderName]) -> HeaderMap {
    for name in names {
        headers.remove(name);
    }
    headers
}

fn failed(error: &dyn std::fmt::Display) -> Response {
    let mut answer = Response::new(Body::from(error.to_string()));
    *answer.status_mut() = StatusCode::BAD_GATEWAY;
    answer
}
