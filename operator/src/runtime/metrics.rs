//! What the process counts and measures, in the form that Prometheus reads.
//!
//! Labels come from small closed sets (enums, or the kinds that the catalog renders), never from names of objects; but for
//! those of `MeshInstallations`, of which a cluster has a few.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::conditions::{ConditionSource, Conditions};
use super::leader::LeaderState;

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReconcileResult {
    /// Nothing had to be written.
    Unchanged,
    /// Something was written, without an error.
    Changed,
    /// The installation's spec is at fault; nothing is tried until it changes.
    Invalid,
    /// Something that the mesh needs isn't there yet.
    Waiting,
    /// Somebody else wrote at the same time.
    Conflict,
    /// The API server or the network failed; tried again.
    Transient,
    /// The API server refused a right.
    Forbidden,
    /// A fault of the operator itself.
    Internal,
}

impl ReconcileResult {
    const fn label(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Changed => "changed",
            Self::Invalid => "invalid",
            Self::Waiting => "waiting",
            Self::Conflict => "conflict",
            Self::Transient => "transient",
            Self::Forbidden => "forbidden",
            Self::Internal => "internal",
        }
    }
}

/// A write to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteVerb {
    /// A server-side apply.
    Apply,
    /// A create of what only lasts: Events, node port questions.
    Create,
    /// A merge or JSON patch.
    Patch,
    /// A delete.
    Delete,
}

impl WriteVerb {
    const fn label(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Create => "create",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

/// What a dry-run pod told about injection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// The pod came back with its proxy.
    Proved,
    /// The pod came back without one.
    NotInjected,
    /// The injector's webhook could not be called, or refused the pod.
    WebhookFailed,
    /// Somebody else refused the pod, or the namespace keeps injectors away.
    RefusedByOther,
}

impl ProbeResult {
    const fn label(self) -> &'static str {
        match self {
            Self::Proved => "proved",
            Self::NotInjected => "not_injected",
            Self::WebhookFailed => "webhook_failed",
            Self::RefusedByOther => "refused_by_other",
        }
    }
}

type Label = [(&'static str, &'static str); 1];
/// So many versions of proxies are told one by one.
const PROXY_VERSIONS: usize = 30;
const OTHER_VERSIONS: &str = "other";

type KindLabel = [(&'static str, String); 1];

/// All metrics of the process. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    reconciles: Family<Label, Counter>,
    reconcile_seconds: Histogram,
    writes: Family<Label, Counter>,
    heals: Family<KindLabel, Counter>,
    probes: Family<Label, Counter>,
    leader: Gauge,
    watched: Family<KindLabel, Gauge>,
    proxies: Family<KindLabel, Gauge>,
    proxy_versions: Arc<Mutex<BTreeSet<String>>>,
    conditions: Conditions,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics that have counted nothing yet.
    #[must_use]
    pub fn new() -> Self {
        // From a reconcile that finds nothing to do (milliseconds) to one against a server in trouble.
        let buckets = [0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];
        let mut metrics = Self {
            registry: Arc::default(),
            reconciles: Family::default(),
            reconcile_seconds: Histogram::new(buckets),
            writes: Family::default(),
            heals: Family::default(),
            probes: Family::default(),
            leader: Gauge::default(),
            watched: Family::default(),
            proxies: Family::default(),
            proxy_versions: Arc::default(),
            conditions: Conditions::default(),
        };
        metrics.registry = Arc::new(metrics.registry());
        metrics
    }

    fn registry(&self) -> Registry {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process));
        let ours = registry.sub_registry_with_prefix("meshwright");
        ours.register("reconciles", "Reconciles by how they ended", self.reconciles.clone());
        ours.register_with_unit(
            "reconcile_duration",
            "Time of a reconcile",
            Unit::Seconds,
            self.reconcile_seconds.clone(),
        );
        ours.register("api_writes", "Writes to the Kubernetes API by verb", self.writes.clone());
        ours.register("heals", "Objects brought back after a foreign edit or delete, by kind", self.heals.clone());
        ours.register("injection_probes", "Dry-run pods by what they proved", self.probes.clone());
        ours.register("leader", "1 while this process leads", self.leader.clone());
        ours.register("watched_objects", "Objects held by watches, by kind", self.watched.clone());
        ours.register("proxies", "Pods with a proxy, by its version", self.proxies.clone());
        ours.register_collector(Box::new(self.conditions.clone()));
        registry
    }

    /// Counts a reconcile and its time.
    pub fn reconciled(&self, result: ReconcileResult, took: Duration) {
        self.reconciles.get_or_create(&[("result", result.label())]).inc();
        self.reconcile_seconds.observe(took.as_secs_f64());
    }

    /// Counts a write to an object of the mesh, whatever the API server answers.
    pub fn wrote(&self, verb: WriteVerb) {
        self.writes.get_or_create(&[("verb", verb.label())]).inc();
    }

    /// Counts an object that was brought back; `kind` is one that the operator applies.
    pub fn healed(&self, kind: &str) {
        self.heals.get_or_create(&[("kind", kind.to_owned())]).inc();
    }

    /// Counts what a dry-run pod told.
    pub fn probed(&self, result: ProbeResult) {
        self.probes.get_or_create(&[("result", result.label())]).inc();
    }

    /// Tells whether this process leads.
    pub fn set_leader(&self, state: &LeaderState) {
        self.leader.set(i64::from(matches!(state, LeaderState::Leading)));
    }

    /// Tells how many objects of a kind the watches hold.
    pub fn set_watched(&self, kind: &str, objects: usize) {
        self.watched.get_or_create(&[("kind", kind.to_owned())]).set(i64::try_from(objects).unwrap_or(i64::MAX));
    }

    /// Tells how many proxies there are of each version. Versions come from images, which anybody can name: those beyond
    /// the most frequent are told as one.
    pub fn set_proxies(&self, versions: &BTreeMap<String, usize>) {
        let mut by_count: Vec<(&String, &usize)> = versions.iter().collect();
        by_count.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let mut told: BTreeMap<&str, usize> = BTreeMap::new();
        for (n, (version, pods)) in by_count.into_iter().enumerate() {
            *told.entry(if n < PROXY_VERSIONS { version } else { OTHER_VERSIONS }).or_default() += pods;
        }
        // One assignment at the end: nothing is half-done after a panic.
        let mut known = self.proxy_versions.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in known.iter().filter(|version| !told.contains_key(version.as_str())) {
            self.proxies.remove(&[("version", gone.clone())]);
        }
        for (version, pods) in &told {
            let label = [("version", (*version).to_owned())];
            self.proxies.get_or_create(&label).set(i64::try_from(*pods).unwrap_or(i64::MAX));
        }
        *known = told.into_keys().map(str::to_owned).collect();
    }

    /// Says where the conditions of all installations are to be read, whenever somebody asks.
    pub fn read_conditions_from(&self, source: ConditionSource) {
        self.conditions.read_from(source);
    }

    /// All metrics as `OpenMetrics` text.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Figures of the process that are read when somebody asks, under the names that every Prometheus client uses.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: Option<u64>| {
            let Some(value) = value.and_then(|value| i64::try_from(value).ok()) else { return Ok(()) };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        gauge("process_resident_memory_bytes", "Resident set", resident_bytes(&status))?;
        gauge("process_open_fds", "Open file descriptors", open_files())
    }
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

fn open_files() -> Option<u64> {
    u64::try_from(std::fs::read_dir("/proc/self/fd").ok()?.count()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_told_by_label() {
        let metrics = Metrics::new();
        metrics.reconciled(ReconcileResult::Unchanged, Duration::from_millis(3));
        metrics.reconciled(ReconcileResult::Changed, Duration::from_millis(300));
        metrics.wrote(WriteVerb::Apply);
        metrics.healed("Deployment");
        metrics.probed(ProbeResult::RefusedByOther);
        metrics.set_leader(&LeaderState::Leading);
        metrics.set_watched("Pod", 12);
        let text = metrics.encode().unwrap();
        for line in [
            r#"meshwright_reconciles_total{result="unchanged"} 1"#,
            r#"meshwright_reconcile_duration_seconds_bucket{le="0.005"} 1"#,
            "meshwright_reconcile_duration_seconds_count 2",
            r#"meshwright_api_writes_total{verb="apply"} 1"#,
            r#"meshwright_heals_total{kind="Deployment"} 1"#,
            r#"meshwright_injection_probes_total{result="refused_by_other"} 1"#,
            "meshwright_leader 1",
            r#"meshwright_watched_objects{kind="Pod"} 12"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn proxies_are_told_by_version_and_those_that_are_gone_no_longer() {
        let metrics = Metrics::new();
        let told = |versions: &[(String, usize)]| {
            metrics.set_proxies(&versions.iter().cloned().collect());
            let text = metrics.encode().unwrap();
            text.lines().filter(|line| line.starts_with("meshwright_proxies{")).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(told(&[("1.31.2".into(), 7)]), [r#"meshwright_proxies{version="1.31.2"} 7"#]);
        assert_eq!(told(&[("1.32.0".into(), 2)]), [r#"meshwright_proxies{version="1.32.0"} 2"#]);
        let many: Vec<(String, usize)> = (0..40).map(|n| (format!("1.{n}.0"), 1)).collect();
        let lines = told(&many);
        assert_eq!(lines.len(), 31);
        assert!(lines.contains(&r#"meshwright_proxies{version="other"} 10"#.to_owned()), "{lines:?}");
        assert_eq!(told(&[]), Vec::<String>::new());
    }

    #[test]
    fn the_resident_set_is_read_from_the_kernels_status() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t   12345 kB\nVmData: 1 kB\n"), Some(12_641_280));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
        assert!(Metrics::new().encode().unwrap().contains("process_open_fds "));
    }
}
