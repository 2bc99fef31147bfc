//! Pulls releases from registries in the background: one attempt per request at a time, with retries.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use meshwright_api::version::VersionRequest;
use semver::Version;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tracing::{info, warn};

use super::super::backoff::backoff;
use crate::apply::{Changes, ErrorClass};
use crate::catalog::oci::{self, Credentials, PullError, PullOptions, RegistrySource};
use crate::catalog::{Catalog, ChartName, Digest, ReleaseFacts, error_chain};

/// Retry interval for a release that no registry has: shorter than the resync of the spec that requests it.
const NOT_FOUND_INTERVAL: Duration = Duration::from_mins(4);

/// The longest duration of a pull, including its wait for others, which a slow registry must not block.
const PULL_DEADLINE: Duration = Duration::from_mins(3);

/// A registry with the directory that caches its releases.
#[derive(Clone, Debug)]
pub(super) struct CachedRegistry {
    pub(super) source: RegistrySource,
    pub(super) cache: PathBuf,
}

/// A release that an installation requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PullRequest {
    pub(super) installation: String,
    /// The spec's generation: a minor is resolved once per generation.
    pub(super) generation: i64,
    pub(super) request: VersionRequest,
    /// Digests that the charts must have, by name.
    pub(super) charts: BTreeMap<String, String>,
}

/// The result of a pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PullOutcome {
    /// The release is on disk.
    OnDisk,
    /// No registry has the release.
    NotFound,
    /// A registry is unreachable, or its release is invalid.
    Failed(String),
}

/// Progress of a pull request.
#[derive(Default)]
struct PullState {
    running: bool,
    outcome: Option<PullOutcome>,
    failures: u32,
    /// The earliest time of the next attempt.
    not_before: Option<Instant>,
}

/// Runs pull requests and requeues their installations.
pub(super) struct RegistryPoller {
    registries: Vec<CachedRegistry>,
    /// Directories of all catalogs and caches.
    directories: Vec<PathBuf>,
    plain_http: bool,
    changes: Changes,
    requests: Mutex<HashMap<PullRequest, PullState>>,
    /// Serializes pulls, since two of the same release would conflict on disk.
    pull_lock: tokio::sync::Mutex<()>,
}

impl RegistryPoller {
    pub(super) fn new(
        registries: Vec<CachedRegistry>,
        directories: Vec<PathBuf>,
        plain_http: bool,
        changes: Changes,
    ) -> Self {
        let (requests, pull_lock) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { registries, directories, plain_http, changes, requests, pull_lock }
    }

    /// The registries' addresses for messages.
    pub(super) fn names(&self) -> String {
        self.registries.iter().map(|registry| registry.source.to_string()).collect::<Vec<_>>().join(", ")
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PullRequest, PullState>> {
        // Every critical section leaves the map consistent, even after a panic.
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forget(&self, installation: &str) {
        self.lock().retain(|request, _| request.installation != installation);
    }

    /// Returns the newest outcome, if any, and starts an attempt if one is due. Its outcome requeues the installation.
    pub(super) fn poll(self: &Arc<Self>, request: PullRequest) -> Option<PullOutcome> {
        let mut requests = self.lock();
        requests
            .retain(|known, _| known.installation != request.installation || known.generation == request.generation);
        let state = requests.entry(request.clone()).or_default();
        let outcome = state.outcome.clone();
        if state.is_due(Instant::now()) {
            state.running = true;
            let (poller, runtime) = (Arc::clone(self), Handle::current());
            // Unpacking and parsing take tens of milliseconds, which would block the threads that serve watches.
            tokio::task::spawn_blocking(move || {
                let outcome = runtime.block_on(timeout(PULL_DEADLINE, poller.find(&request)));
                let outcome = outcome
                    .unwrap_or_else(|_| PullOutcome::Failed(format!("{} did not respond in time", poller.names())));
                poller.note(&request, outcome);
            });
        }
        outcome
    }

    fn note(&self, request: &PullRequest, outcome: PullOutcome) {
        let installation = request.installation.clone();
        let mut requests = self.lock();
        if outcome == PullOutcome::OnDisk && matches!(request.request, VersionRequest::Exact(_)) {
            // From now on the release is found on disk.
            requests.remove(request);
        } else if let Some(state) = requests.get_mut(request) {
            state.note(outcome, Instant::now(), &installation);
        }
        drop(requests);
        self.changes.note(installation);
    }

    async fn find(&self, request: &PullRequest) -> PullOutcome {
        let _lock = self.pull_lock.lock().await;
        let found = match &request.request {
            VersionRequest::Exact(version) => self.pull(version, &request.charts).await,
            minor @ VersionRequest::Minor { .. } => match self.newest(minor).await {
                Ok(Some(version)) => self.pull(&version, &request.charts).await,
                Ok(None) => Ok(PullOutcome::NotFound),
                Err(failed) => Err(failed),
            },
        };
        found.unwrap_or_else(|message| {
            warn!(installation = request.installation, message, "pulling a release failed");
            PullOutcome::Failed(message)
        })
    }

    /// The newest release of a minor among all registries.
    async fn newest(&self, minor: &VersionRequest) -> Result<Option<Version>, String> {
        let mut newest = None;
        for CachedRegistry { source, .. } in &self.registries {
            let failed = |error: &dyn std::error::Error| {
                format!("listing releases of {minor} in {source} failed: {}", error_chain(error))
            };
            let credentials = Credentials::from_docker(source.registry()).map_err(|error| failed(&error))?;
            let versions =
                oci::versions(source, &credentials, self.plain_http).await.map_err(|error| failed(&error))?;
            newest = newest.max(versions.into_iter().filter(|version| minor.accepts(version)).max());
        }
        Ok(newest)
    }

    /// Pulls a release from the first registry that has it, unless it is on disk in the meantime.
    async fn pull(&self, version: &Version, charts: &BTreeMap<String, String>) -> Result<PullOutcome, String> {
        let exact = VersionRequest::Exact(version.clone());
        if Catalog::open(&self.directories).is_ok_and(|catalog| catalog.resolve(&exact).is_ok()) {
            return Ok(PullOutcome::OnDisk);
        }
        let facts = ReleaseFacts::bundled().map_err(|error| error_chain(&error))?;
        let (contents, mut first_error) = (contents(charts), None);
        for CachedRegistry { source, cache } in &self.registries {
            let failed = |error: &dyn std::error::Error| {
                format!("pulling Istio {version} from {source} failed: {}", error_chain(error))
            };
            let credentials = Credentials::from_docker(source.registry()).map_err(|error| failed(&error))?;
            let options = PullOptions {
                from: source,
                version,
                pins: &BTreeMap::new(),
                chart_digests: &contents,
                facts: &facts,
                credentials: &credentials,
                plain_http: self.plain_http,
                catalog: cache,
                replace: true,
            };
            match oci::pull(&options).await {
                Ok(pulled) => {
                    let charts = pulled.origins.into_values().collect::<Vec<_>>().join(" ");
                    info!(%version, charts, "pulled a release");
                    return Ok(PullOutcome::OnDisk);
                }
                Err(PullError::Missing { artifact }) => info!(%version, artifact, "not in the registry"),
                Err(error) => first_error = first_error.or(Some(failed(&error))),
            }
        }
        first_error.map_or(Ok(PullOutcome::NotFound), Err)
    }
}

/// Parses recorded digests; those that another operator version wrote in an unknown format are ignored.
fn contents(charts: &BTreeMap<String, String>) -> BTreeMap<ChartName, Digest> {
    let known = |name: &ChartName| Some((*name, charts.get(name.as_str())?.parse().ok()?));
    ChartName::ALL.iter().filter_map(known).collect()
}

impl PullState {
    /// Whether an attempt is due.
    fn is_due(&self, now: Instant) -> bool {
        !self.running && self.outcome != Some(PullOutcome::OnDisk) && self.not_before.is_none_or(|until| until <= now)
    }

    fn note(&mut self, outcome: PullOutcome, now: Instant, installation: &str) {
        self.failures = if matches!(outcome, PullOutcome::Failed(_)) { self.failures.saturating_add(1) } else { 0 };
        let delay = match outcome {
            PullOutcome::OnDisk => None,
            PullOutcome::NotFound => Some(NOT_FOUND_INTERVAL),
            PullOutcome::Failed(_) => Some(backoff(ErrorClass::Transient, self.failures, installation)),
        };
        self.not_before = delay.and_then(|delay| now.checked_add(delay));
        self.outcome = Some(outcome);
        self.running = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_do_not_overlap_and_back_off() {
        let (mut state, now) = (PullState::default(), Instant::now());
        assert!(state.is_due(now));
        state.running = true;
        assert!(!state.is_due(now));
        let mut last = Duration::ZERO;
        for _ in 0..4 {
            state.note(PullOutcome::Failed("down".into()), now, "mesh");
            let delay = state.not_before.unwrap() - now;
            assert!(delay > last && !state.is_due(now) && state.is_due(now + delay));
            last = delay;
        }
        state.note(PullOutcome::NotFound, now, "mesh");
        assert!(!state.is_due(now + Duration::from_mins(3)) && state.is_due(now + NOT_FOUND_INTERVAL));
        state.note(PullOutcome::OnDisk, now, "mesh");
        assert!(!state.is_due(now + NOT_FOUND_INTERVAL));
    }

    #[test]
    fn recorded_digests_pin_charts() {
        let digest = Digest::of(&BTreeMap::new());
        let charts = [("istiod", digest.as_str()), ("base", "strange"), ("other", digest.as_str())];
        let charts = charts.into_iter().map(|(name, digest)| (name.to_owned(), digest.to_owned())).collect();
        assert_eq!(contents(&charts), BTreeMap::from([(ChartName::Istiod, digest)]));
    }
}
