//! Probes: carried out as a kubelet does, and counted the same way.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::http;

/// A kubelet is in no hurry; a test is. What isn't ready is asked this often whether it is, if the period is longer.
const HURRY: Duration = Duration::from_millis(200);

/// One probe of a container, with what it has seen so far.
#[derive(Debug)]
struct Prober {
    target: Target,
    /// Only for readiness: the other probes' failures cost the process its life, and count as slowly as they should.
    hurried: bool,
    initial_delay: Duration,
    period: Duration,
    timeout: Duration,
    tally: Tally,
}

#[derive(Debug, PartialEq, Eq)]
enum Target {
    Http {
        address: String,
        path: String,
    },
    Tcp {
        address: String,
    },
    /// Commands and gRPC aren't played: they succeed.
    Always,
}

impl Prober {
    /// `None` if the container has no such probe.
    fn new(kind: Kind, container: &Container, pod_ip: &str) -> Option<Self> {
        let probe = match kind {
            Kind::Startup => container.startup_probe.as_ref(),
            Kind::Readiness => container.readiness_probe.as_ref(),
            Kind::Liveness => container.liveness_probe.as_ref(),
        }?;
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(value.and_then(|value| u64::try_from(value).ok()).filter(|v| *v > 0).unwrap_or(default))
        };
        Some(Self {
            target: target(probe, container, pod_ip),
            hurried: kind == Kind::Readiness,
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            tally: Tally::new(probe.success_threshold.unwrap_or(1), probe.failure_threshold.unwrap_or(3)),
        })
    }

    /// Waits until it is time, tries once, and says what is now known: `Some(true)` it holds, `Some(false)` it has
    /// failed too often, `None` neither yet. `held` is asked before and after a try; while it says so, nothing counts.
    async fn next(&mut self, held: &impl Fn() -> bool) -> Option<bool> {
        loop {
            tokio::time::sleep(self.pause()).await;
            if held() {
                continue;
            }
            let tried = tokio::time::timeout(self.timeout, self.target.attempt()).await;
            if held() {
                continue;
            }
            return self.tally.count(tried.unwrap_or(false));
        }
    }

    fn pause(&self) -> Duration {
        let full = if self.tally.last.is_none() { self.initial_delay } else { self.period };
        let hurry = self.hurried && self.tally.verdict != Some(true);
        if hurry { full.min(HURRY) } else { full }
    }
}

/// Which of a container's probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Startup,
    Readiness,
    Liveness,
}

/// A container's probes at work; they stop when this is dropped.
pub(super) struct Probes<Held> {
    readiness: Option<Prober>,
    liveness: Option<Prober>,
    held: Held,
    sender: mpsc::Sender<(Kind, bool)>,
    verdicts: mpsc::Receiver<(Kind, bool)>,
    tasks: JoinSet<()>,
}

impl<Held: Fn() -> bool + Clone + Send + Sync + 'static> Probes<Held> {
    /// Starts them; the others wait for the startup probe's first success. While `held` says so, no try counts.
    pub(super) fn start(container: &Container, pod_ip: &str, held: Held) -> Self {
        let prober = |kind| Prober::new(kind, container, pod_ip);
        let (sender, verdicts) = mpsc::channel(8);
        let (readiness, liveness) = (prober(Kind::Readiness), prober(Kind::Liveness));
        let mut started = Self { readiness, liveness, held, sender, verdicts, tasks: JoinSet::new() };
        match prober(Kind::Startup) {
            Some(startup) => started.spawn(Kind::Startup, startup),
            None => started.spawn_others(),
        }
        started
    }

    /// The next verdict that differs from the one before of its kind; never, without probes.
    pub(super) async fn next(&mut self) -> (Kind, bool) {
        let Some(verdict) = self.verdicts.recv().await else { return std::future::pending().await };
        if verdict == (Kind::Startup, true) {
            self.tasks.abort_all();
            self.spawn_others();
        }
        verdict
    }

    fn spawn_others(&mut self) {
        for (kind, prober) in [(Kind::Readiness, self.readiness.take()), (Kind::Liveness, self.liveness.take())] {
            if let Some(prober) = prober {
                self.spawn(kind, prober);
            }
        }
    }

    fn spawn(&mut self, kind: Kind, mut prober: Prober) {
        let (sender, held) = (self.sender.clone(), self.held.clone());
        self.tasks.spawn(async move {
            let mut before = None;
            loop {
                let now = prober.next(&held).await;
                if let Some(verdict) = now.filter(|_| now != before)
                    && sender.send((kind, verdict)).await.is_err()
                {
                    return;
                }
                before = now;
            }
        });
    }
}

fn target(probe: &Probe, container: &Container, pod_ip: &str) -> Target {
    if let Some(http) = &probe.http_get {
        let host = http.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| pod_ip.to_owned());
        let path = http.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned());
        return Target::Http { address: format!("{host}:{}", port(&http.port, container)), path };
    }
    match &probe.tcp_socket {
        Some(tcp) => Target::Tcp { address: format!("{pod_ip}:{}", port(&tcp.port, container)) },
        None => Target::Always,
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

impl Target {
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

/// Successes and failures in a row against their thresholds.
#[derive(Debug)]
struct Tally {
    success_threshold: i32,
    failure_threshold: i32,
    last: Option<bool>,
    in_a_row: i32,
    verdict: Option<bool>,
}

impl Tally {
    fn new(success_threshold: i32, failure_threshold: i32) -> Self {
        Self { success_threshold, failure_threshold, last: None, in_a_row: 0, verdict: None }
    }

    fn count(&mut self, success: bool) -> Option<bool> {
        self.in_a_row = if self.last == Some(success) { self.in_a_row + 1 } else { 1 };
        self.last = Some(success);
        let threshold = if success { self.success_threshold } else { self.failure_threshold };
        if self.in_a_row >= threshold {
            self.verdict = Some(success);
        }
        self.verdict
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_verdict_stands_until_enough_tries_in_a_row_say_otherwise() {
        let mut tally = Tally::new(1, 3);
        let seen: Vec<_> = [false, true, false, false, true, false, false, false].map(|ok| tally.count(ok)).to_vec();
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(seen, [None, yes, yes, yes, yes, yes, yes, no]);
    }

    #[test]
    fn a_named_port_is_looked_up_in_the_container() {
        let container: Container = serde_json::from_value(json!({
            "name": "c", "ports": [{"name": "admin", "containerPort": 8081}],
            "readinessProbe": {"httpGet": {"path": "/readyz", "port": "admin"}},
        }))
        .unwrap();
        let prober = Prober::new(Kind::Readiness, &container, "10.99.0.1").unwrap();
        let expected = Target::Http { address: "10.99.0.1:8081".into(), path: "/readyz".into() };
        assert_eq!(prober.target, expected);
        assert!(Prober::new(Kind::Liveness, &container, "10.99.0.1").is_none());
    }
}
