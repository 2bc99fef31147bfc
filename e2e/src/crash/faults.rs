//! Faults that the proxy injects. Rules are data: the first rule that matches a request decides. Pure, except for the
//! shared state.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Method, Uri};

use super::requests::{RequestVerb, can_conflict, resource, verb};

/// An error that the proxy responds with instead of the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InjectedError {
    /// 429 with `Retry-After: 1`; the request is not executed.
    TooManyRequests,
    /// 500; the request is not executed.
    FailedBefore,
    /// 500; the request is executed.
    FailedAfter,
    /// 409 with the reason `Conflict`, only for writes; the request is not executed.
    Conflict,
    /// The connection is closed without a response; the request is not executed.
    ConnectionClosed,
}

impl InjectedError {
    /// Errors with which an API server responds.
    pub const RESPONSES: [Self; 4] = [Self::TooManyRequests, Self::FailedBefore, Self::FailedAfter, Self::Conflict];
}

/// What happens to the events of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WatchFault {
    /// They arrive as usual.
    #[default]
    None,
    /// They arrive later, in the same order.
    Lag(Duration),
    /// Nothing arrives any more, and the connection stays open, even after the rule is removed.
    Silent,
}

/// The requests that are disturbed, and how.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FaultRule {
    /// Start of the path; empty for all paths.
    pub path_prefix: String,
    /// Plural name of the resource; `None` for all.
    pub resource: Option<String>,
    /// What the request does; empty for everything.
    pub verbs: Vec<RequestVerb>,
    /// Fraction of the requests that fail.
    pub error_rate: f64,
    /// Errors of the failing requests, which are equally frequent. Those that a request can't have are left out.
    pub errors: Vec<InjectedError>,
    /// Delay before a request is executed.
    pub latency: Duration,
    /// What happens to watches, including those that were started before.
    pub watches: WatchFault,
    /// `gitVersion` in the response to `/version`.
    pub server_version: Option<String>,
}

impl FaultRule {
    /// Requests fail at this rate with the errors of an API server, and are delayed.
    #[must_use]
    pub fn unreliable(error_rate: f64, latency: Duration) -> Self {
        Self { error_rate, errors: InjectedError::RESPONSES.to_vec(), latency, ..Self::default() }
    }

    fn matches(&self, method: &Method, uri: &Uri) -> bool {
        uri.path().starts_with(&self.path_prefix)
            && self.resource.as_ref().is_none_or(|wanted| wanted == resource(uri.path()))
            && (self.verbs.is_empty() || self.verbs.contains(&verb(method, uri)))
    }

    /// The error of the request with this random number.
    fn error(&self, random: u64, method: &Method, uri: &Uri) -> Option<InjectedError> {
        let [a, b, c, d, high @ ..] = random.to_le_bytes();
        let fraction = f64::from(u32::from_le_bytes([a, b, c, d])) / f64::from(u32::MAX);
        let possible = |error: &&InjectedError| **error != InjectedError::Conflict || can_conflict(method, uri);
        let errors: Vec<_> = self.errors.iter().filter(possible).collect();
        let index = usize::try_from(u32::from_le_bytes(high)).unwrap_or_default().checked_rem(errors.len())?;
        errors.get(index).map(|error| **error).filter(|_| fraction < self.error_rate)
    }
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct FaultDecision {
    pub(super) error: Option<InjectedError>,
    pub(super) latency: Duration,
    pub(super) server_version: Option<String>,
}

/// The rules of a proxy, which can be changed while it runs. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct FaultRules(Arc<Mutex<RuleState>>);

#[derive(Debug, Default)]
struct RuleState {
    seed: u64,
    rules: Vec<FaultRule>,
    /// Number of requests by method and path: the result for the n-th one doesn't depend on the order of others.
    requests: HashMap<(Method, String), u64>,
    injected: usize,
}

impl FaultRules {
    fn lock(&self) -> MutexGuard<'_, RuleState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the rules, and resets the counts.
    pub fn set(&self, seed: u64, rules: Vec<FaultRule>) {
        *self.lock() = RuleState { seed, rules, ..RuleState::default() };
    }

    /// Ends all faults except silent watches.
    pub fn clear(&self) {
        self.lock().rules.clear();
    }

    /// Number of errors since the rules were set.
    #[must_use]
    pub fn injected(&self) -> usize {
        self.lock().injected
    }

    pub(super) fn decide(&self, method: &Method, uri: &Uri) -> FaultDecision {
        let mut state = self.lock();
        let RuleState { seed, rules, requests, injected } = &mut *state;
        let Some(rule) = rules.iter().find(|rule| rule.matches(method, uri)) else { return FaultDecision::default() };
        let number = requests.entry((method.clone(), uri.path().to_owned())).or_default();
        *number += 1;
        // This hasher has no random keys.
        let mut hasher = DefaultHasher::new();
        (*seed, *number, method, uri.path()).hash(&mut hasher);
        let error = rule.error(hasher.finish(), method, uri);
        *injected += usize::from(error.is_some());
        FaultDecision { error, latency: rule.latency, server_version: rule.server_version.clone() }
    }

    /// What happens to an event of a watch that arrives now.
    pub(super) fn watch_fault(&self, method: &Method, uri: &Uri) -> WatchFault {
        let state = self.lock();
        state.rules.iter().find(|rule| rule.matches(method, uri)).map(|rule| rule.watches).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "/api/v1/namespaces/shop/configmaps/web";

    fn errors(rules: &FaultRules, method: &Method, path: &str, requests: usize) -> Vec<Option<InjectedError>> {
        let uri: Uri = path.parse().unwrap();
        (0..requests).map(|_| rules.decide(method, &uri).error).collect()
    }

    #[test]
    fn errors_have_rate_and_are_reproducible() {
        let rules = FaultRules::default();
        let rule = || vec![FaultRule::unreliable(0.25, Duration::from_millis(200))];
        rules.set(7, rule());
        let first = errors(&rules, &Method::PATCH, MAPS, 4000);
        assert!((900..1100).contains(&rules.injected()), "{}", rules.injected());
        for error in InjectedError::RESPONSES {
            assert!(first.iter().filter(|found| **found == Some(error)).count() > 180, "{error:?}");
        }
        rules.set(7, rule());
        errors(&rules, &Method::GET, MAPS, 10);
        assert_eq!(errors(&rules, &Method::PATCH, MAPS, 4000), first, "other requests don't matter");
        rules.set(8, rule());
        assert_ne!(errors(&rules, &Method::PATCH, MAPS, 4000), first);
    }

    #[test]
    fn only_writes_conflict() {
        let rules = FaultRules::default();
        let errors_of = [InjectedError::Conflict].to_vec();
        rules.set(1, vec![FaultRule { error_rate: 1.0, errors: errors_of, ..FaultRule::default() }]);
        let review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        assert_eq!(errors(&rules, &Method::GET, MAPS, 3), [None; 3]);
        assert_eq!(errors(&rules, &Method::POST, review, 3), [None; 3]);
        assert_eq!(errors(&rules, &Method::PATCH, MAPS, 3), [Some(InjectedError::Conflict); 3]);
    }

    #[test]
    fn first_matching_rule_decides() {
        let version = |version: &str| FaultRule { server_version: Some(version.into()), ..FaultRule::default() };
        let rules = FaultRules::default();
        rules.set(
            1,
            vec![
                FaultRule { path_prefix: "/version".into(), ..version("first") },
                FaultRule { resource: Some("pods".into()), verbs: vec![RequestVerb::Watch], ..version("second") },
                version("last"),
            ],
        );
        let decided = |path: &str| rules.decide(&Method::GET, &path.parse().unwrap()).server_version.unwrap();
        assert_eq!(decided("/version"), "first");
        assert_eq!(decided("/api/v1/pods?watch=true"), "second");
        assert_eq!(decided("/api/v1/pods"), "last");
        rules.clear();
        assert_eq!(rules.decide(&Method::GET, &"/version".parse().unwrap()), FaultDecision::default());
    }
}
