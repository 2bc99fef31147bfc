//! Container probes, executed and counted like in the kubelet.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::http;

/// Maximum period of a readiness probe until the first success, so that tests don't wait for long periods.
const READINESS_POLL: Duration = Duration::from_millis(200);

/// A probe of a container and its results so far.
#[derive(Debug)]
struct Prober {
    target: ProbeTarget,
    /// Only for readiness probes: failures of other probes kill the process, so their period must not be shortened.
    polls_faster: bool,
    initial_delay: Duration,
    period: Duration,
    timeout: Duration,
    counts: ProbeCounts,
}

#[derive(Debug, PartialEq, Eq)]
enum ProbeTarget {
    Http {
        address: String,
        path: String,
    },
    Tcp {
        address: String,
    },
    /// exec and gRPC probes aren't executed; they succeed.
    Always,
}

impl Prober {
    /// Returns `None` if the container has no such probe.
    fn new(kind: ProbeKind, container: &Container, pod_ip: &str) -> Option<Self> {
        let probe = match kind {
            ProbeKind::Startup => container.startup_probe.as_ref(),
            ProbeKind::Readiness => container.readiness_probe.as_ref(),
            ProbeKind::Liveness => container.liveness_probe.as_ref(),
        }?;
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(value.and_then(|value| u64::try_from(value).ok()).filter(|v| *v > 0).unwrap_or(default))
        };
        Some(Self {
            target: target(probe, container, pod_ip),
            polls_faster: kind == ProbeKind::Readiness,
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            counts: ProbeCounts::new(probe.success_threshold.unwrap_or(1), probe.failure_threshold.unwrap_or(3)),
        })
    }

    /// Waits for the period and executes the probe. Returns `Some` after a threshold was reached, `None` before.
    /// Ignores results while `is_paused` returns true.
    async fn next(&mut self, is_paused: &impl Fn() -> bool) -> Option<bool> {
        loop {
            tokio::time::sleep(self.pause()).await;
            if is_paused() {
                continue;
            }
            let result = tokio::time::timeout(self.timeout, self.target.attempt()).await;
            if is_paused() {
                continue;
            }
            return self.counts.add(result.unwrap_or(false));
        }
    }

    fn pause(&self) -> Duration {
        let full = if self.counts.last.is_none() { self.initial_delay } else { self.period };
        let faster = self.polls_faster && self.counts.result != Some(true);
        if faster { full.min(READINESS_POLL) } else { full }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProbeKind {
    Startup,
    Readiness,
    Liveness,
}

/// The running probes of a container; they stop when this is dropped.
pub(super) struct Probes<Paused> {
    readiness: Option<Prober>,
    liveness: Option<Prober>,
    is_paused: Paused,
    sender: mpsc::Sender<(ProbeKind, bool)>,
    results: mpsc::Receiver<(ProbeKind, bool)>,
    tasks: JoinSet<()>,
}

impl<Paused: Fn() -> bool + Clone + Send + Sync + 'static> Probes<Paused> {
    /// Starts the probes. Readiness and liveness wait for the startup probe's success. Results are ignored while
    /// `is_paused` returns true.
    pub(super) fn start(container: &Container, pod_ip: &str, is_paused: Paused) -> Self {
        let prober = |kind| Prober::new(kind, container, pod_ip);
        let (sender, results) = mpsc::channel(8);
        let (readiness, liveness) = (prober(ProbeKind::Readiness), prober(ProbeKind::Liveness));
        let mut started = Self { readiness, liveness, is_paused, sender, results, tasks: JoinSet::new() };
        match prober(ProbeKind::Startup) {
            Some(startup) => started.spawn(ProbeKind::Startup, startup),
            None => started.spawn_others(),
        }
        started
    }

    /// Waits for the next change of a probe's result; forever without probes.
    pub(super) async fn next(&mut self) -> (ProbeKind, bool) {
        let Some(result) = self.results.recv().await else { return std::future::pending().await };
        if result == (ProbeKind::Startup, true) {
            self.tasks.abort_all();
            self.spawn_others();
        }
        result
    }

    fn spawn_others(&mut self) {
        for (kind, prober) in
            [(ProbeKind::Readiness, self.readiness.take()), (ProbeKind::Liveness, self.liveness.take())]
        {
            if let Some(prober) = prober {
                self.spawn(kind, prober);
            }
        }
    }

    fn spawn(&mut self, kind: ProbeKind, mut prober: Prober) {
        let (sender, is_paused) = (self.sender.clone(), self.is_paused.clone());
        self.tasks.spawn(async move {
            let mut before = None;
            loop {
                let now = prober.next(&is_paused).await;
                if let Some(result) = now.filter(|_| now != before)
                    && sender.send((kind, result)).await.is_err()
                {
                    return;
                }
                before = now;
            }
        });
    }
}

fn target(probe: &Probe, container: &Container, pod_ip: &str) -> ProbeTarget {
    if let Some(http) = &probe.http_get {
        let host = http.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| pod_ip.to_owned());
        let path = http.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned());
        return ProbeTarget::Http { address: format!("{host}:{}", port(&http.port, container)), path };
    }
    match &probe.tcp_socket {
        Some(tcp) => ProbeTarget::Tcp { address: format!("{pod_ip}:{}", port(&tcp.port, container)) },
        None => ProbeTarget::Always,
    }
}

fn port(port: &IntOrString, container: &Container) -> i32 {
    match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            let named = ports.find(|port| port.name.as_deref() == Some(name)).map(|port| port.container_port);
            named.or_else(|| name.parse().ok()).unwrap_or_default()
        }
    }
}

impl ProbeTarget {
    async fn attempt(&self) -> bool {
        match self {
            Self::Http { address, path } => {
                http::get(address, path).await.is_ok_and(|(code, _)| (200..400).contains(&code))
            }
            Self::Tcp { address } => TcpStream::connect(address).await.is_ok(),
            Self::Always => true,
        }
    }
}

/// Consecutive successes or failures and their thresholds.
#[derive(Debug)]
struct ProbeCounts {
    success_threshold: i32,
    failure_threshold: i32,
    last: Option<bool>,
    consecutive: i32,
    result: Option<bool>,
}

impl ProbeCounts {
    fn new(success_threshold: i32, failure_threshold: i32) -> Self {
        Self { success_threshold, failure_threshold, last: None, consecutive: 0, result: None }
    }

    fn add(&mut self, success: bool) -> Option<bool> {
        self.consecutive = if self.last == Some(success) { self.consecutive + 1 } else { 1 };
        self.last = Some(success);
        let threshold = if success { self.success_threshold } else { self.failure_threshold };
        if self.consecutive >= threshold {
            self.result = Some(success);
        }
        self.result
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn result_changes_at_threshold() {
        let mut counts = ProbeCounts::new(1, 3);
        let results: Vec<_> = [false, true, false, false, true, false, false, false].map(|ok| counts.add(ok)).to_vec();
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(results, [None, yes, yes, yes, yes, yes, yes, no]);
    }

    #[test]
    fn resolves_named_port() {
        let container: Container = serde_json::from_value(json!({
            "name": "c", "ports": [{"name": "admin", "containerPort": 8081}],
            "readinessProbe": {"httpGet": {"path": "/readyz", "port": "admin"}},
        }))
        .unwrap();
        let prober = Prober::new(ProbeKind::Readiness, &container, "10.99.0.1").unwrap();
        let expected = ProbeTarget::Http { address: "10.99.0.1:8081".into(), path: "/readyz".into() };
        assert_eq!(prober.target, expected);
        assert!(Prober::new(ProbeKind::Liveness, &container, "10.99.0.1").is_none());
    }
}
