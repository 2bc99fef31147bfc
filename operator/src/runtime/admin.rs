//! The admin server: `/livez`, `/readyz` and `/metrics` over plain HTTP.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use clap::Args;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;
use super::ready::Readiness;

// Limits how long open client connections delay the shutdown.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Command line flags of the admin server.
#[derive(Args, Clone, Copy, Debug)]
pub struct AdminArgs {
    /// Address that serves /livez, /readyz and /metrics, for example the pod's IPv4 or IPv6 address
    #[arg(long, env = "MESHWRIGHT_ADMIN_ADDRESS", default_value = "0.0.0.0", value_name = "IP")]
    admin_address: IpAddr,
    /// Port that serves /livez, /readyz and /metrics
    #[arg(long, env = "MESHWRIGHT_ADMIN_PORT", default_value_t = 8080, value_name = "PORT")]
    admin_port: u16,
}

impl AdminArgs {
    /// Returns the address and port to listen on.
    #[must_use]
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.admin_address, self.admin_port)
    }
}

/// The admin server failed.
#[derive(Debug, Error)]
pub enum AdminError {
    /// Binding the address failed.
    #[error("the admin server can't listen on {address}; is another process using the port?")]
    Bind {
        /// The configured address.
        address: SocketAddr,
        /// The I/O error.
        #[source]
        source: std::io::Error,
    },
    /// The server stopped unexpectedly.
    #[error("the admin server failed")]
    Serve(#[source] std::io::Error),
}

/// Liveness signal of a loop. Clones share the last beat.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    start: Instant,
    last: Arc<AtomicU64>,
    stale_after: Duration,
}

impl Heartbeat {
    /// Returns a heartbeat that becomes stale when no beat follows within `stale_after`.
    #[must_use]
    pub fn new(stale_after: Duration) -> Self {
        Self { start: Instant::now(), last: Arc::default(), stale_after }
    }

    /// Records an iteration of the loop.
    pub fn beat(&self) {
        self.beat_at(Instant::now());
    }

    fn beat_at(&self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.start).as_millis();
        self.last.store(u64::try_from(elapsed).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn is_stale(&self, now: Instant) -> bool {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        now.saturating_duration_since(self.start).saturating_sub(last) > self.stale_after
    }
}

/// State of the admin server. Clones share the state.
#[derive(Clone, Debug)]
pub struct Admin {
    readiness: Readiness,
    metrics: Metrics,
    heartbeat: Arc<RwLock<Option<Heartbeat>>>,
}

impl Admin {
    /// Returns a state without a heartbeat, for which `/livez` always succeeds.
    #[must_use]
    pub fn new(readiness: Readiness, metrics: Metrics) -> Self {
        Self { readiness, metrics, heartbeat: Arc::default() }
    }

    /// Makes `/livez` fail when the heartbeat is stale. A standby has no heartbeat until it becomes the leader.
    pub fn set_heartbeat(&self, heartbeat: Heartbeat) {
        *self.heartbeat.write().unwrap_or_else(PoisonError::into_inner) = Some(heartbeat);
    }

    fn is_live(&self, now: Instant) -> bool {
        let heartbeat = self.heartbeat.read().unwrap_or_else(PoisonError::into_inner);
        heartbeat.as_ref().is_none_or(|heartbeat| !heartbeat.is_stale(now))
    }

    fn router(self) -> Router {
        Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(self)
    }
}

/// An admin server that is bound to its address and does not serve yet.
#[derive(Debug)]
pub struct AdminServer {
    listener: TcpListener,
    admin: Admin,
}

impl AdminServer {
    /// Binds the address. Port 0 selects a free port.
    pub async fn bind(address: SocketAddr, admin: Admin) -> Result<Self, AdminError> {
        let listener = TcpListener::bind(address).await.map_err(|source| AdminError::Bind { address, source })?;
        Ok(Self { listener, admin })
    }

    /// Returns the bound address.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is cancelled. Pass a token that is cancelled after the drain, so that the kubelet's probes
    /// succeed during the drain.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), AdminError> {
        let closing = stop.clone();
        let server = axum::serve(self.listener, self.admin.router()).with_graceful_shutdown(stop.cancelled_owned());
        tokio::select! {
            ended = server => ended.map_err(AdminError::Serve),
            () = async { closing.cancelled().await; tokio::time::sleep(CLOSE_TIMEOUT).await } => Ok(()),
        }
    }
}

async fn livez(State(admin): State<Admin>) -> Response {
    if admin.is_live(Instant::now()) {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the reconcile loop is not responding\n").into_response()
    }
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let pending = admin.readiness.pending();
    if pending.is_empty() {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for: {}\n", pending.join(", "))).into_response()
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match admin.metrics.encode() {
        Ok(text) => ([(CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("can't encode the metrics: {error}\n")).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use super::*;

    async fn get(address: SocketAddr, path: &'static str) -> (u16, String) {
        let response = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).unwrap();
            response
        })
        .await
        .unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    struct RunningServer {
        address: SocketAddr,
        readiness: Readiness,
        admin: Admin,
        stop: CancellationToken,
        task: tokio::task::JoinHandle<Result<(), AdminError>>,
    }

    async fn start() -> RunningServer {
        let readiness = Readiness::new(CancellationToken::new());
        let admin = Admin::new(readiness.clone(), Metrics::new());
        let server = AdminServer::bind(([127, 0, 0, 1], 0).into(), admin.clone()).await.unwrap();
        let (address, stop) = (server.local_addr().unwrap(), CancellationToken::new());
        let task = tokio::spawn(server.serve(stop.clone()));
        RunningServer { address, readiness, admin, stop, task }
    }

    #[tokio::test]
    async fn readyz_names_pending_handles() {
        let RunningServer { address, readiness, .. } = start().await;
        let (first, second) = (readiness.handle("installations"), readiness.handle("objects"));
        assert_eq!(get(address, "/readyz").await, (503, "waiting for: installations, objects\n".to_owned()));
        first.release();
        second.release();
        assert_eq!(get(address, "/readyz").await.0, 200);
    }

    #[tokio::test]
    async fn livez_fails_when_heartbeat_is_stale() {
        let RunningServer { address, admin, .. } = start().await;
        assert_eq!(get(address, "/livez").await.0, 200);
        let stale = Heartbeat { start: Instant::now(), last: Arc::default(), stale_after: Duration::ZERO };
        admin.set_heartbeat(Heartbeat::new(Duration::from_hours(1)));
        assert_eq!(get(address, "/livez").await.0, 200);
        admin.set_heartbeat(stale);
        assert_eq!(get(address, "/livez").await.0, 503);
    }

    #[test]
    fn heartbeat_becomes_stale_after_timeout() {
        let heartbeat = Heartbeat::new(Duration::from_mins(1));
        let at = |seconds| heartbeat.start + Duration::from_secs(seconds);
        assert!(!heartbeat.is_stale(at(60)));
        assert!(heartbeat.is_stale(at(61)));
        heartbeat.beat_at(at(50));
        assert!(!heartbeat.is_stale(at(110)));
        assert!(heartbeat.is_stale(at(111)));
    }

    #[tokio::test]
    async fn serves_metrics_until_cancelled() {
        let RunningServer { address, stop, task, .. } = start().await;
        let (status, body) = get(address, "/metrics").await;
        assert_eq!(status, 200);
        assert!(body.contains("meshwright_leader 0"), "{body}");
        stop.cancel();
        task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn bind_error_names_the_address() {
        let RunningServer { address, readiness, .. } = start().await;
        let error = AdminServer::bind(address, Admin::new(readiness, Metrics::new())).await.unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }
}
