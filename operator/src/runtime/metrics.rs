//! Prometheus metrics of the operator.
//!
//! To bound cardinality, label values come from small closed sets (enums, or the kinds that the catalog renders). The
//! only object names among them are those of `MeshInstallations`, of which a cluster has a few.

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

use super::conditions::{ConditionCollector, ConditionSource};
use super::leader::LeaderState;

/// Result of a reconcile, the label `result` of `meshwright_reconciles_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReconcileResult {
    /// No object was written.
    Unchanged,
    /// Objects were written without errors.
    Changed,
    /// The spec is invalid; not retried until it changes.
    Invalid,
    /// A dependency of the mesh is not ready yet.
    Waiting,
    /// Another client wrote the same object concurrently.
    Conflict,
    /// The API server or the network failed; retried with backoff.
    Transient,
    /// The operator lacks a permission.
    Forbidden,
    /// A bug in the operator.
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

/// Verb of a write to the API server, the label `verb` of `meshwright_api_writes_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteVerb {
    /// Server-side apply, which creates or updates.
    Apply,
    /// Create of an object that is not applied, such as an Event.
    Create,
    /// Merge patch or JSON patch.
    Patch,
    /// Delete of one object.
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

/// Result of an injection check, the label `result` of `meshwright_injection_checks_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InjectionCheckResult {
    /// The dry-run pod was injected.
    Injected,
    /// The dry-run pod was admitted without a sidecar.
    NotInjected,
    /// istiod has not loaded its current configuration.
    NotLoaded,
    /// The API server could not call the injection webhook, or the webhook denied the pod.
    WebhookFailed,
    /// Another admission plugin or webhook denied the pod, or the namespace is excluded from injection.
    DeniedByOther,
}

impl InjectionCheckResult {
    const fn label(self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::NotInjected => "not_injected",
            Self::NotLoaded => "not_loaded",
            Self::WebhookFailed => "webhook_failed",
            Self::DeniedByOther => "denied_by_other",
        }
    }
}

type Label = [(&'static str, &'static str); 1];
/// Limit of distinct values of the label `version`: images are chosen by users.
const MAX_PROXY_VERSIONS: usize = 30;
/// Limit of a version in bytes; longer ones are counted as `other`.
const MAX_LABEL_VALUE: usize = 128;
const OTHER_VERSIONS: &str = "other";

type KindLabel = [(&'static str, String); 1];

/// All metrics of the process. Clones share their values.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    reconciles: Family<Label, Counter>,
    reconcile_seconds: Histogram,
    writes: Family<Label, Counter>,
    drift_reverts: Family<KindLabel, Counter>,
    injection_checks: Family<Label, Counter>,
    leader: Gauge,
    watched: Family<KindLabel, Gauge>,
    watch_ages: Family<KindLabel, Gauge>,
    aged_resources: Arc<Mutex<BTreeSet<String>>>,
    proxies: Family<KindLabel, Gauge>,
    proxy_versions: Arc<Mutex<BTreeSet<String>>>,
    conditions: ConditionCollector,
    oversized: Family<KindLabel, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Returns metrics with all values at zero.
    #[must_use]
    pub fn new() -> Self {
        // From a reconcile without writes (milliseconds) to one against an overloaded API server.
        let buckets = [0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];
        let mut metrics = Self {
            registry: Arc::default(),
            reconciles: Family::default(),
            reconcile_seconds: Histogram::new(buckets),
            writes: Family::default(),
            drift_reverts: Family::default(),
            injection_checks: Family::default(),
            leader: Gauge::default(),
            watched: Family::default(),
            watch_ages: Family::default(),
            aged_resources: Arc::default(),
            proxies: Family::default(),
            proxy_versions: Arc::default(),
            conditions: ConditionCollector::default(),
            oversized: Family::default(),
        };
        metrics.registry = Arc::new(metrics.registry());
        metrics
    }

    fn registry(&self) -> Registry {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessCollector));
        let prefixed = registry.sub_registry_with_prefix("meshwright");
        prefixed.register("reconciles", "Number of reconciles by result", self.reconciles.clone());
        prefixed.register_with_unit(
            "reconcile_duration",
            "Duration of a reconcile",
            Unit::Seconds,
            self.reconcile_seconds.clone(),
        );
        prefixed.register("api_writes", "Number of write requests to the API server by verb", self.writes.clone());
        prefixed.register(
            "drift_reverts",
            "Number of times drift in an object was reverted or a deleted object was recreated, by kind",
            self.drift_reverts.clone(),
        );
        prefixed.register(
            "injection_checks",
            "Number of injection checks (dry-run pods) by result",
            self.injection_checks.clone(),
        );
        prefixed.register("leader", "1 if this replica is the leader, otherwise 0", self.leader.clone());
        prefixed.register("watched_objects", "Number of objects in watch caches by kind", self.watched.clone());
        prefixed.register_with_unit(
            "watch_age",
            "Time since a watch last delivered data: an event, a bookmark or a regular end, by resource",
            Unit::Seconds,
            self.watch_ages.clone(),
        );
        prefixed.register("proxies", "Number of pods with a proxy by proxy version", self.proxies.clone());
        prefixed.register(
            "oversized_objects",
            "Number of objects that are read only in part because they exceed limits, by resource",
            self.oversized.clone(),
        );
        prefixed.register_collector(Box::new(self.conditions.clone()));
        registry
    }

    /// Counts a reconcile and observes its duration.
    pub fn count_reconcile(&self, result: ReconcileResult, duration: Duration) {
        self.reconciles.get_or_create(&[("result", result.label())]).inc();
        self.reconcile_seconds.observe(duration.as_secs_f64());
    }

    /// Counts a write request for an object of the mesh, whether or not it succeeds.
    pub fn count_write(&self, verb: WriteVerb) {
        self.writes.get_or_create(&[("verb", verb.label())]).inc();
    }

    /// Counts a reverted or recreated object; `kind` is one that the operator applies.
    pub fn count_drift_revert(&self, kind: &str) {
        self.drift_reverts.get_or_create(&[("kind", kind.to_owned())]).inc();
    }

    /// Counts an injection check.
    pub fn count_injection_check(&self, result: InjectionCheckResult) {
        self.injection_checks.get_or_create(&[("result", result.label())]).inc();
    }

    /// Sets whether this process is the leader.
    pub fn set_leader(&self, state: &LeaderState) {
        self.leader.set(i64::from(matches!(state, LeaderState::Leading)));
    }

    /// Sets the number of objects of a kind in the watch caches.
    pub fn set_watched(&self, kind: &str, objects: usize) {
        self.watched.get_or_create(&[("kind", kind.to_owned())]).set(i64::try_from(objects).unwrap_or(i64::MAX));
    }

    /// Sets the time since the watches of each resource last delivered data.
    pub fn set_watch_ages(&self, ages: &BTreeMap<String, Duration>) {
        let mut previous = self.aged_resources.lock().unwrap_or_else(PoisonError::into_inner);
        for ended in previous.iter().filter(|resource| !ages.contains_key(*resource)) {
            self.watch_ages.remove(&[("resource", ended.clone())]);
        }
        for (resource, age) in ages {
            let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
            self.watch_ages.get_or_create(&[("resource", resource.clone())]).set(seconds);
        }
        *previous = ages.keys().cloned().collect();
    }

    /// Sets the number of pods by proxy version. Versions come from images, which any user can choose; all but the most
    /// frequent ones are counted as `other`.
    pub fn set_proxies(&self, versions: &BTreeMap<String, usize>) {
        let mut by_count: Vec<(&String, &usize)> = versions.iter().collect();
        by_count.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let mut reported: BTreeMap<&str, usize> = BTreeMap::new();
        for (n, (version, pods)) in by_count.into_iter().enumerate() {
            let is_listed = n < MAX_PROXY_VERSIONS && version.len() <= MAX_LABEL_VALUE;
            *reported.entry(if is_listed { version } else { OTHER_VERSIONS }).or_default() += pods;
        }
        // Assigned once, at the end, so that a panic leaves it consistent.
        let mut previous = self.proxy_versions.lock().unwrap_or_else(PoisonError::into_inner);
        for stale in previous.iter().filter(|version| !reported.contains_key(version.as_str())) {
            self.proxies.remove(&[("version", stale.clone())]);
        }
        for (version, pods) in &reported {
            let label = [("version", (*version).to_owned())];
            self.proxies.get_or_create(&label).set(i64::try_from(*pods).unwrap_or(i64::MAX));
        }
        *previous = reported.into_keys().map(str::to_owned).collect();
    }

    /// Sets the source from which each scrape reads the conditions of all installations.
    pub fn set_condition_source(&self, source: ConditionSource) {
        self.conditions.set_source(source);
    }

    /// Sets the number of objects that exceed the limits of responses.
    pub fn set_oversized(&self, resource: &str, objects: usize) {
        self.oversized
            .get_or_create(&[("resource", resource.to_owned())])
            .set(i64::try_from(objects).unwrap_or(i64::MAX));
    }

    /// Encodes all metrics as `OpenMetrics` text.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Process metrics under the names of the Prometheus client libraries, read on each scrape.
#[derive(Debug)]
struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut write_gauge = |name: &str, help: &str, value: Option<u64>| {
            let Some(value) = value.and_then(|value| i64::try_from(value).ok()) else { return Ok(()) };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        write_gauge("process_resident_memory_bytes", "Resident memory size in bytes", resident_bytes(&status))?;
        write_gauge("process_open_fds", "Number of open file descriptors", open_file_descriptors())
    }
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

fn open_file_descriptors() -> Option<u64> {
    u64::try_from(std::fs::read_dir("/proc/self/fd").ok()?.count()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_counters_with_their_labels() {
        let metrics = Metrics::new();
        metrics.count_reconcile(ReconcileResult::Unchanged, Duration::from_millis(3));
        metrics.count_reconcile(ReconcileResult::Changed, Duration::from_millis(300));
        metrics.count_write(WriteVerb::Apply);
        metrics.count_drift_revert("Deployment");
        metrics.count_injection_check(InjectionCheckResult::DeniedByOther);
        metrics.set_leader(&LeaderState::Leading);
        metrics.set_watched("Pod", 12);
        let text = metrics.encode().unwrap();
        for line in [
            r#"meshwright_reconciles_total{result="unchanged"} 1"#,
            r#"meshwright_reconcile_duration_seconds_bucket{le="0.005"} 1"#,
            "meshwright_reconcile_duration_seconds_count 2",
            r#"meshwright_api_writes_total{verb="apply"} 1"#,
            r#"meshwright_drift_reverts_total{kind="Deployment"} 1"#,
            r#"meshwright_injection_checks_total{result="denied_by_other"} 1"#,
            "meshwright_leader 1",
            r#"meshwright_watched_objects{kind="Pod"} 12"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn drops_proxy_versions_without_pods() {
        let metrics = Metrics::new();
        let lines_of = |versions: &[(String, usize)]| {
            metrics.set_proxies(&versions.iter().cloned().collect());
            let text = metrics.encode().unwrap();
            text.lines().filter(|line| line.starts_with("meshwright_proxies{")).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(lines_of(&[("1.31.2".into(), 7)]), [r#"meshwright_proxies{version="1.31.2"} 7"#]);
        assert_eq!(lines_of(&[("1.32.0".into(), 2)]), [r#"meshwright_proxies{version="1.32.0"} 2"#]);
        let many: Vec<(String, usize)> = (0..40).map(|n| (format!("1.{n}.0"), 1)).collect();
        let lines = lines_of(&many);
        assert_eq!(lines.len(), 31);
        assert!(lines.contains(&r#"meshwright_proxies{version="other"} 10"#.to_owned()), "{lines:?}");
        let long = [("1.31.2-".to_owned() + &"a".repeat(1_000_000), 3)];
        assert_eq!(lines_of(&long), [r#"meshwright_proxies{version="other"} 3"#]);
        assert_eq!(lines_of(&[]), Vec::<String>::new());
    }

    #[test]
    fn drops_ages_of_ended_watches() {
        let metrics = Metrics::new();
        let lines_of = |ages: &[(&str, u64)]| {
            let age = |(resource, seconds): &(&str, u64)| ((*resource).to_owned(), Duration::from_secs(*seconds));
            metrics.set_watch_ages(&ages.iter().map(age).collect());
            let text = metrics.encode().unwrap();
            text.lines().filter(|line| line.starts_with("meshwright_watch_age")).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(lines_of(&[("pods", 90)]), [r#"meshwright_watch_age_seconds{resource="pods"} 90"#]);
        assert_eq!(lines_of(&[]), Vec::<String>::new());
    }

    #[test]
    fn reads_resident_memory_from_proc_status() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t   12345 kB\nVmData: 1 kB\n"), Some(12_641_280));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
        assert!(Metrics::new().encode().unwrap().contains("process_open_fds "));
    }
}
