//! Runs injection checks in the background, since a webhook that times out takes ten seconds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt as _};
use tracing::{debug, info};

use super::changes::Changes;
use super::raw_object::RawObject;
use crate::mesh::injection_check::{
    InjectionCheckPod, InjectionOutcome, InjectionTemplate, classify_denial, excluded_by, pod, read_created_pod,
};
use crate::mesh::loaded_configuration::ExpectedConfiguration;
use crate::mesh::object::FIELD_MANAGER;
use crate::runtime::metrics::{InjectionCheckResult, Metrics};

/// The newest injection check of an installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedInjection {
    /// Hash of the webhooks, endpoints and configuration that were checked.
    pub inputs: String,
    /// The result of the check.
    pub outcome: InjectionOutcome,
    /// When the check finished.
    pub at: Instant,
}

/// Runs checks, one at a time per installation, and requeues the installation when the outcome changes.
#[derive(Clone)]
pub struct InjectionChecker {
    client: Client,
    interval: Duration,
    changed: Changes,
    metrics: Metrics,
    state: Arc<Mutex<HashMap<String, CheckSlot>>>,
}

#[derive(Default)]
struct CheckSlot {
    checked: Option<CheckedInjection>,
    running: bool,
    failures: u32,
    /// Start of an uninterrupted sequence of denials by the injector.
    denied_since: Option<Instant>,
    /// The earliest retry after an inconclusive check.
    not_before: Option<Instant>,
}

/// Retry interval after a first failed check; it doubles up to [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(15);
/// Retry interval after consecutive failures.
fn retry(failures: u32) -> Duration {
    (FIRST_RETRY * 2u32.saturating_pow(failures.min(8))).min(LONGEST_RETRY)
}

/// Denials for this long are permanent. The injector watches its configuration, so that a change is effective at once;
/// but a terminating istiod may respond for up to 10 s more with its last configuration.
const CONFIRMATION_PERIOD: Duration = Duration::from_secs(15);

/// The kubelet updates mounted ConfigMaps within about a minute and a half, and istiod reads them then.
const LOADING_PERIOD: Duration = Duration::from_mins(3);

/// Longer than the API server's maximum timeout of a webhook, 30 s.
const DRY_RUN_DEADLINE: Duration = Duration::from_secs(35);

impl InjectionChecker {
    /// Creates a checker that repeats successful checks after `interval`.
    #[must_use]
    pub fn new(client: Client, interval: Duration, changed: Changes, metrics: Metrics) -> Self {
        Self { client, interval, changed, metrics, state: Arc::default() }
    }

    /// Returns the newest check, and when to call again. Starts a new check if there is none, if the inputs have
    /// changed, or if the interval is over, which is shorter after a failure. An image that `is_expected` denies also
    /// counts as a failure, since istiod may not have read its new configuration yet. With an `expected` configuration,
    /// which is read only for a new check, the check succeeds once istiod has loaded it.
    #[must_use]
    pub fn consult(
        &self,
        installation: &str,
        check_pods: Vec<InjectionCheckPod>,
        inputs: &str,
        is_expected: impl Fn(&str) -> bool,
        expected: impl FnOnce() -> Option<ExpectedConfiguration>,
    ) -> (Option<CheckedInjection>, Duration) {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = state.entry(installation.to_owned()).or_default();
        let due = slot.checked.as_ref().map_or(now, |checked| {
            if checked.inputs != inputs {
                return now;
            }
            checked.at
                + match &checked.outcome {
                    InjectionOutcome::Injected(image) if is_expected(image) => self.interval,
                    _ => retry(slot.failures),
                }
        });
        let due = slot.not_before.map_or(due, |earliest| due.max(earliest));
        if due <= now && !slot.running {
            slot.running = true;
            self.start(installation.to_owned(), check_pods, inputs.to_owned(), expected());
        }
        (slot.checked.clone(), due.saturating_duration_since(now).max(FIRST_RETRY))
    }

    /// Whether the newest check succeeded.
    #[must_use]
    pub fn is_verified(&self, installation: &str) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let checked = state.get(installation).and_then(|slot| slot.checked.as_ref());
        checked.is_some_and(|checked| matches!(checked.outcome, InjectionOutcome::Injected(_)))
    }

    /// Drops the state of an installation.
    pub fn forget(&self, installation: &str) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).remove(installation);
    }

    /// The proxy image that the newest check found, if it succeeded.
    #[must_use]
    pub fn image(&self, installation: &str) -> Option<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &state.get(installation)?.checked.as_ref()?.outcome {
            InjectionOutcome::Injected(image) => Some(image.clone()),
            _ => None,
        }
    }

    fn start(
        &self,
        installation: String,
        check_pods: Vec<InjectionCheckPod>,
        inputs: String,
        expected: Option<ExpectedConfiguration>,
    ) {
        let checker = self.clone();
        tokio::spawn(async move {
            let outcome = checker.run_all(&check_pods, expected.as_ref()).await;
            checker.finish(&installation, inputs, outcome);
        });
    }

    fn finish(&self, installation: &str, inputs: String, outcome: Option<InjectionOutcome>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(slot) = state.get_mut(installation) else { return };
        slot.running = false;
        let Some(outcome) = outcome else {
            slot.failures = slot.failures.saturating_add(1);
            slot.not_before = Some(Instant::now() + retry(slot.failures));
            return;
        };
        slot.not_before = None;
        let has_same_inputs = slot.checked.as_ref().is_some_and(|checked| checked.inputs == inputs);
        let since = slot.denied_since.filter(|_| has_same_inputs);
        let (outcome, since) = confirm_denial(outcome, since, Instant::now());
        slot.denied_since = since;
        self.metrics.count_injection_check(result(&outcome));
        slot.failures = failures(slot.failures, has_same_inputs, &outcome);
        let is_new = slot.checked.as_ref().is_none_or(|old| old.outcome != outcome || old.inputs != inputs);
        if is_new {
            info!(installation, outcome = outcome.name(), "injection check");
            self.changed.note(installation.to_owned());
        }
        slot.checked = Some(CheckedInjection { inputs, outcome, at: Instant::now() });
    }

    /// Checks the revision first, then its tags, of which only failures count. All have the same istiod, so that the
    /// configuration is compared once.
    async fn run_all(
        &self,
        check_pods: &[InjectionCheckPod],
        expected: Option<&ExpectedConfiguration>,
    ) -> Option<InjectionOutcome> {
        let (first, tags) = check_pods.split_first()?;
        let outcome = self.run(first, expected).await?;
        if matches!(outcome, InjectionOutcome::Injected(_)) {
            for check_pod in tags {
                if let Some(failure) = self.run(check_pod, None).await?.for_tag(&check_pod.name) {
                    return Some(failure);
                }
            }
        }
        Some(outcome)
    }

    /// Runs a dry run, and a second one with the gateway template if Pod Security denies the sidecar's pod.
    async fn run(
        &self,
        check_pod: &InjectionCheckPod,
        expected: Option<&ExpectedConfiguration>,
    ) -> Option<InjectionOutcome> {
        let outcome = self.dry_run(check_pod, InjectionTemplate::Sidecar, expected).await?;
        if outcome.is_denied_by_pod_security()
            && let Some(second @ (InjectionOutcome::Injected(_) | InjectionOutcome::NotLoaded { .. })) =
                self.dry_run(check_pod, InjectionTemplate::Gateway, expected).await
        {
            return Some(second);
        }
        if outcome == InjectionOutcome::NotInjected {
            return self.explain_missing(check_pod).await;
        }
        Some(outcome)
    }

    /// Distinguishes an injector that skips pods from a namespace whose labels exclude it.
    async fn explain_missing(&self, check_pod: &InjectionCheckPod) -> Option<InjectionOutcome> {
        let namespace = check_pod.namespace.as_str();
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        match tokio::time::timeout(DRY_RUN_DEADLINE, namespaces.get_metadata(namespace)).await {
            Ok(Ok(found)) => {
                Some(excluded_by(found.labels(), &check_pod.name).map_or(InjectionOutcome::NotInjected, |label| {
                    InjectionOutcome::NamespaceExcluded { namespace: namespace.to_owned(), label }
                }))
            }
            Ok(Err(error)) => {
                debug!(error = %error, namespace, "reading the namespace's labels failed");
                None
            }
            Err(_) => None,
        }
    }

    async fn dry_run(
        &self,
        check_pod: &InjectionCheckPod,
        template: InjectionTemplate,
        expected: Option<&ExpectedConfiguration>,
    ) -> Option<InjectionOutcome> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"));
        let pods: Api<RawObject> = Api::namespaced_with(self.client.clone(), &check_pod.namespace, &resource);
        let wanted = RawObject::from(pod(check_pod, template, expected));
        let params = PostParams { dry_run: true, field_manager: Some(FIELD_MANAGER.into()) };
        match tokio::time::timeout(DRY_RUN_DEADLINE, pods.create(&params, &wanted)).await {
            Ok(Ok(created)) => Some(read_created_pod(&created.into_value(), expected)),
            Ok(Err(kube::Error::Api(status))) => {
                let unloaded = expected.and_then(|expected| expected.unknown_template(&status.message));
                unloaded
                    .map(|what| InjectionOutcome::NotLoaded { what, lasting: false })
                    .or_else(|| classify_denial(status.code, &status.message))
            }
            Ok(Err(error)) => {
                debug!(error = %error, "the injection check is inconclusive");
                None
            }
            Err(_) => Some(InjectionOutcome::WebhookFailed("the API server did not respond within 35 s".into())),
        }
    }
}

/// Counts consecutive failures with the same inputs. Failures of an istiod that was replaced don't delay the checks of
/// the new one.
fn failures(before: u32, has_same_inputs: bool, outcome: &InjectionOutcome) -> u32 {
    match outcome {
        InjectionOutcome::Injected(_) => 0,
        _ if has_same_inputs => before.saturating_add(1),
        _ => 1,
    }
}

/// Marks a denial by the injector, or a configuration that istiod has not loaded, as lasting after a while. `since` is the
/// first such outcome.
fn confirm_denial(
    outcome: InjectionOutcome,
    since: Option<Instant>,
    now: Instant,
) -> (InjectionOutcome, Option<Instant>) {
    match outcome {
        InjectionOutcome::InjectorDenied { why, .. } => {
            let since = since.unwrap_or(now);
            (
                InjectionOutcome::InjectorDenied { why, lasting: now.duration_since(since) >= CONFIRMATION_PERIOD },
                Some(since),
            )
        }
        InjectionOutcome::NotLoaded { what, .. } => {
            let since = since.unwrap_or(now);
            (InjectionOutcome::NotLoaded { what, lasting: now.duration_since(since) >= LOADING_PERIOD }, Some(since))
        }
        other => (other, None),
    }
}

const fn result(outcome: &InjectionOutcome) -> InjectionCheckResult {
    match outcome {
        InjectionOutcome::Injected(_) => InjectionCheckResult::Injected,
        InjectionOutcome::NotInjected => InjectionCheckResult::NotInjected,
        InjectionOutcome::NotLoaded { .. } => InjectionCheckResult::NotLoaded,
        InjectionOutcome::WebhookFailed(_) | InjectionOutcome::InjectorDenied { .. } => {
            InjectionCheckResult::WebhookFailed
        }
        InjectionOutcome::DeniedByOther { .. }
        | InjectionOutcome::NamespaceExcluded { .. }
        | InjectionOutcome::CheckForbidden(_) => InjectionCheckResult::DeniedByOther,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_inputs_are_rechecked_soon() {
        let failed = InjectionOutcome::WebhookFailed("connection refused".into());
        assert_eq!((failures(5, true, &failed), retry(6)), (6, LONGEST_RETRY));
        assert_eq!((failures(5, false, &failed), retry(1)), (1, FIRST_RETRY * 2));
        assert_eq!(failures(5, true, &InjectionOutcome::Injected("image".into())), 0);
    }

    #[test]
    fn denial_is_permanent_after_confirmation_period() {
        let denied = |lasting| InjectionOutcome::InjectorDenied { why: "no such field".into(), lasting };
        let first = Instant::now();
        let (outcome, since) = confirm_denial(denied(false), None, first);
        assert_eq!((outcome, since), (denied(false), Some(first)));
        assert_eq!(confirm_denial(denied(false), since, first + CONFIRMATION_PERIOD / 2).0, denied(false));
        assert_eq!(confirm_denial(denied(false), since, first + CONFIRMATION_PERIOD), (denied(true), Some(first)));
        let unreachable = InjectionOutcome::WebhookFailed("connection refused".into());
        assert_eq!(confirm_denial(unreachable.clone(), since, first + CONFIRMATION_PERIOD), (unreachable, None));
    }
}
