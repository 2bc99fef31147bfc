//! Asks registries in the background: each question once at a time, and again after a pause where the answer may change.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use meshwright_api::version::VersionRequest;
use semver::Version;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tracing::{info, warn};

use super::super::backoff::pause;
use crate::apply::{Changes, ErrorClass};
use crate::catalog::oci::{self, Credentials, Pull, PullError, Source};
use crate::catalog::{Catalog, ChartName, Digest, Facts, explain};

/// A release that no registry has is asked for again after this long: sooner than a spec that waits for it is looked at.
const LACKING: Duration = Duration::from_mins(4);

/// A question takes no longer than this, with its wait for others: a registry that answers byte by byte must not hold them up.
const LONGEST: Duration = Duration::from_mins(3);

/// A registry, and where its releases are kept.
#[derive(Clone, Debug)]
pub(super) struct Registry {
    pub(super) source: Source,
    pub(super) cache: PathBuf,
}

/// What an installation needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) installation: String,
    /// Of its spec: a minor is asked for once per spec.
    pub(super) generation: i64,
    pub(super) request: VersionRequest,
    /// Digests of the charts that it has to have, by name.
    pub(super) charts: BTreeMap<String, String>,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is on disk now.
    Here,
    /// No registry has it.
    Lacking,
    /// A registry could not be asked, or what it has is no good.
    Failed(String),
}

/// How far a question has come.
#[derive(Default)]
struct State {
    asking: bool,
    answer: Option<Answer>,
    failures: u32,
    /// Not to be asked again before this.
    rests_until: Option<Instant>,
}

/// Asks registries.
pub(super) struct Asker {
    registries: Vec<Registry>,
    /// All directories with releases.
    directories: Vec<PathBuf>,
    plain_http: bool,
    changes: Changes,
    questions: Mutex<HashMap<Question, State>>,
    /// One pull at a time: two of one release would be in each other's way.
    turn: tokio::sync::Mutex<()>,
}

impl Asker {
    pub(super) fn new(
        registries: Vec<Registry>,
        directories: Vec<PathBuf>,
        plain_http: bool,
        changes: Changes,
    ) -> Self {
        let (questions, turn) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { registries, directories, plain_http, changes, questions, turn }
    }

    /// The registries, in words.
    pub(super) fn names(&self) -> String {
        self.registries.iter().map(|registry| registry.source.to_string()).collect::<Vec<_>>().join(", ")
    }

    fn questions(&self) -> MutexGuard<'_, HashMap<Question, State>> {
        // Single insertions and removals: nothing is half-done after a panic.
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forget(&self, installation: &str) {
        self.questions().retain(|question, _| question.installation != installation);
    }

    /// The newest answer, if there is one. Where it isn't final, the question is on its way when this returns, or rests;
    /// a new answer calls for a reconcile.
    pub(super) fn ask(self: &Arc<Self>, question: Question) -> Option<Answer> {
        let mut questions = self.questions();
        questions
            .retain(|known, _| known.installation != question.installation || known.generation == question.generation);
        let state = questions.entry(question.clone()).or_default();
        let answer = state.answer.clone();
        if state.is_due(Instant::now()) {
            state.asking = true;
            let (asker, runtime) = (Arc::clone(self), Handle::current());
            // Unpacking and parsing take tens of milliseconds: not on the threads that serve watches.
            tokio::task::spawn_blocking(move || {
                let answer = runtime.block_on(timeout(LONGEST, asker.find(&question)));
                let answer =
                    answer.unwrap_or_else(|_| Answer::Failed(format!("{} gave no answer in time", asker.names())));
                asker.note(&question, answer);
            });
        }
        answer
    }

    fn note(&self, question: &Question, answer: Answer) {
        let installation = question.installation.clone();
        let mut questions = self.questions();
        if answer == Answer::Here && matches!(question.request, VersionRequest::Exact(_)) {
            // The disk tells from now on.
            questions.remove(question);
        } else if let Some(state) = questions.get_mut(question) {
            state.note(answer, Instant::now(), &installation);
        }
        drop(questions);
        self.changes.note(installation);
    }

    async fn find(&self, question: &Question) -> Answer {
        let _turn = self.turn.lock().await;
        let found = match &question.request {
            VersionRequest::Exact(version) => self.pull(version, &question.charts).await,
            minor @ VersionRequest::Minor { .. } => match self.newest(minor).await {
                Ok(Some(version)) => self.pull(&version, &question.charts).await,
                Ok(None) => Ok(Answer::Lacking),
                Err(failed) => Err(failed),
            },
        };
        found.unwrap_or_else(|message| {
            warn!(installation = question.installation, message, "a registry failed");
            Answer::Failed(message)
        })
    }

    /// The newest release of a minor that a registry has.
    async fn newest(&self, minor: &VersionRequest) -> Result<Option<Version>, String> {
        let mut newest = None;
        for Registry { source, .. } in &self.registries {
            let failed = |error: &dyn std::error::Error| {
                format!("{source} can't be asked which releases of {minor} it has: {}", explain(error))
            };
            let credentials = Credentials::from_docker(source.registry()).map_err(|error| failed(&error))?;
            let versions =
                oci::versions(source, &credentials, self.plain_http).await.map_err(|error| failed(&error))?;
            newest = newest.max(versions.into_iter().filter(|version| minor.accepts(version)).max());
        }
        Ok(newest)
    }

    /// Pulls a release from the first registry that can give it, unless it is on disk by now.
    async fn pull(&self, version: &Version, charts: &BTreeMap<String, String>) -> Result<Answer, String> {
        let exact = VersionRequest::Exact(version.clone());
        if Catalog::open(&self.directories).is_ok_and(|catalog| catalog.resolve(&exact).is_ok()) {
            return Ok(Answer::Here);
        }
        let facts = Facts::bundled().map_err(|error| explain(&error))?;
        let (contents, mut trouble) = (contents(charts), None);
        for Registry { source, cache } in &self.registries {
            let failed = |error: &dyn std::error::Error| {
                format!("Istio {version} can't be had from {source}: {}", explain(error))
            };
            let credentials = Credentials::from_docker(source.registry()).map_err(|error| failed(&error))?;
            let request = Pull {
                from: source,
                version,
                pins: &BTreeMap::new(),
                contents: &contents,
                facts: &facts,
                credentials: &credentials,
                plain_http: self.plain_http,
                catalog: cache,
                replace: true,
            };
            match oci::pull(&request).await {
                Ok(pulled) => {
                    let charts = pulled.origins.into_values().collect::<Vec<_>>().join(" ");
                    info!(%version, charts, "pulled a release");
                    return Ok(Answer::Here);
                }
                Err(PullError::Missing { artifact }) => info!(%version, artifact, "a registry lacks a release"),
                Err(error) => trouble = trouble.or(Some(failed(&error))),
            }
        }
        trouble.map_or(Ok(Answer::Lacking), Err)
    }
}

/// Digests as they are remembered; what another version of this operator may have written counts for nothing.
fn contents(charts: &BTreeMap<String, String>) -> BTreeMap<ChartName, Digest> {
    let known = |name: &ChartName| Some((*name, charts.get(name.as_str())?.parse().ok()?));
    ChartName::ALL.iter().filter_map(known).collect()
}

impl State {
    /// Whether to ask now.
    fn is_due(&self, now: Instant) -> bool {
        !self.asking && self.answer != Some(Answer::Here) && self.rests_until.is_none_or(|until| until <= now)
    }

    fn note(&mut self, answer: Answer, now: Instant, installation: &str) {
        self.failures = if matches!(answer, Answer::Failed(_)) { self.failures.saturating_add(1) } else { 0 };
        let rest = match answer {
            Answer::Here => None,
            Answer::Lacking => Some(LACKING),
            Answer::Failed(_) => Some(pause(ErrorClass::Transient, self.failures, installation)),
        };
        self.rests_until = rest.and_then(|rest| now.checked_add(rest));
        self.answer = Some(answer);
        self.asking = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_asked_once_at_a_time_and_again_after_a_pause_that_grows() {
        let (mut state, now) = (State::default(), Instant::now());
        assert!(state.is_due(now));
        state.asking = true;
        assert!(!state.is_due(now));
        let mut last = Duration::ZERO;
        for _ in 0..4 {
            state.note(Answer::Failed("down".into()), now, "mesh");
            let rest = state.rests_until.unwrap() - now;
            assert!(rest > last && !state.is_due(now) && state.is_due(now + rest));
            last = rest;
        }
        state.note(Answer::Lacking, now, "mesh");
        assert!(!state.is_due(now + Duration::from_mins(3)) && state.is_due(now + LACKING));
        state.note(Answer::Here, now, "mesh");
        assert!(!state.is_due(now + LACKING));
    }

    #[test]
    fn digests_that_are_remembered_say_what_a_chart_must_be() {
        let digest = Digest::of(&BTreeMap::new());
        let charts = [("istiod", digest.as_str()), ("base", "strange"), ("other", digest.as_str())];
        let charts = charts.into_iter().map(|(name, digest)| (name.to_owned(), digest.to_owned())).collect();
        assert_eq!(contents(&charts), BTreeMap::from([(ChartName::Istiod, digest)]));
    }
}
