//! Runs the proof of injection beside the reconciles: a webhook that doesn't answer takes ten seconds to say so.

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
use crate::mesh::object::FIELD_MANAGER;
use crate::mesh::probe::{Ask, Outcome, Template, excluded_by, judge_pod, judge_refusal, pod};
use crate::runtime::metrics::{Metrics, ProbeResult};

/// The newest proof of one installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// What it was made of: webhooks, endpoints, configuration.
    pub inputs: String,
    /// What it showed.
    pub outcome: Outcome,
    /// When.
    pub at: Instant,
}

/// Runs proofs, one at a time per installation, and tells when the outcome changes. Cloning shares.
#[derive(Clone)]
pub struct Prober {
    client: Client,
    interval: Duration,
    changed: Changes,
    metrics: Metrics,
    state: Arc<Mutex<HashMap<String, Slot>>>,
}

#[derive(Default)]
struct Slot {
    proof: Option<Proof>,
    running: bool,
    failures: u32,
    /// Since when the injector refuses the pod, with nothing else in between.
    refused_since: Option<Instant>,
    /// Nothing was learnt: not to be tried again before.
    rests_until: Option<Instant>,
}

/// The pause after a first failed proof; it doubles up to [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(15);
/// The pause after so many failures in a row.
fn retry(failures: u32) -> Duration {
    (FIRST_RETRY * 2u32.saturating_pow(failures.min(8))).min(LONGEST_RETRY)
}

/// What the injector refuses for so long won't mend by waiting. It watches its configuration through the API server, so
/// that a change reaches it at once; but an istiod that ends answers for up to 10 s more by what it knew last.
const SETTLED: Duration = Duration::from_secs(15);

/// An API server gives a webhook at most 30 s.
const PROBE_DEADLINE: Duration = Duration::from_secs(35);

impl Prober {
    /// A prober. An outcome is looked at again after `interval` even when nothing gives cause to.
    #[must_use]
    pub fn new(client: Client, interval: Duration, changed: Changes, metrics: Metrics) -> Self {
        Self { client, interval, changed, metrics, state: Arc::default() }
    }

    /// The newest proof. Starts a new one when there is none, when its inputs have changed, when it has failed and the
    /// pause is over, or when it is old. One with an image that `is_expected` denies is looked at again soon: istiod may
    /// not have read its new configuration yet. The second value says when to ask again.
    #[must_use]
    pub fn consult(
        &self,
        installation: &str,
        asks: Vec<Ask>,
        inputs: &str,
        is_expected: impl Fn(&str) -> bool,
    ) -> (Option<Proof>, Duration) {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = state.entry(installation.to_owned()).or_default();
        let due = slot.proof.as_ref().map_or(now, |proof| {
            if proof.inputs != inputs {
                return now;
            }
            proof.at
                + match &proof.outcome {
                    Outcome::Proved(image) if is_expected(image) => self.interval,
                    _ => retry(slot.failures),
                }
        });
        let due = slot.rests_until.map_or(due, |rest| due.max(rest));
        if due <= now && !slot.running {
            slot.running = true;
            self.start(installation.to_owned(), asks, inputs.to_owned());
        }
        (slot.proof.clone(), due.saturating_duration_since(now).max(FIRST_RETRY))
    }

    /// Whether the newest proof showed that pods get a proxy.
    #[must_use]
    pub fn has_proved(&self, installation: &str) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let proof = state.get(installation).and_then(|slot| slot.proof.as_ref());
        proof.is_some_and(|proof| matches!(proof.outcome, Outcome::Proved(_)))
    }

    /// Forgets an installation.
    pub fn forget(&self, installation: &str) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).remove(installation);
    }

    /// The proxy's image that pods got when injection was proved last.
    #[must_use]
    pub fn image(&self, installation: &str) -> Option<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &state.get(installation)?.proof.as_ref()?.outcome {
            Outcome::Proved(image) => Some(image.clone()),
            _ => None,
        }
    }

    fn start(&self, installation: String, asks: Vec<Ask>, inputs: String) {
        let prober = self.clone();
        tokio::spawn(async move {
            let outcome = prober.run_all(&asks).await;
            prober.finish(&installation, inputs, outcome);
        });
    }

    fn finish(&self, installation: &str, inputs: String, outcome: Option<Outcome>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(slot) = state.get_mut(installation) else { return };
        slot.running = false;
        let Some(outcome) = outcome else {
            slot.failures = slot.failures.saturating_add(1);
            slot.rests_until = Some(Instant::now() + retry(slot.failures));
            return;
        };
        slot.rests_until = None;
        let is_of_these = slot.proof.as_ref().is_some_and(|proof| proof.inputs == inputs);
        let since = slot.refused_since.filter(|_| is_of_these);
        let (outcome, since) = insist(outcome, since, Instant::now());
        slot.refused_since = since;
        self.metrics.probed(result(&outcome));
        let proved = matches!(outcome, Outcome::Proved(_));
        slot.failures = if proved { 0 } else { slot.failures.saturating_add(1) };
        let news = slot.proof.as_ref().is_none_or(|old| old.outcome != outcome || old.inputs != inputs);
        if news {
            info!(installation, outcome = outcome.name(), "proof of injection");
            self.changed.note(installation.to_owned());
        }
        slot.proof = Some(Proof { inputs, outcome, at: Instant::now() });
    }

    /// One proof after another. The first is that of the revision; the others, of its tags, only count where they fail.
    async fn run_all(&self, asks: &[Ask]) -> Option<Outcome> {
        let (first, tags) = asks.split_first()?;
        let outcome = self.run(first).await?;
        if matches!(outcome, Outcome::Proved(_)) {
            for ask in tags {
                if let Some(failure) = self.run(ask).await?.of_tag(&ask.name) {
                    return Some(failure);
                }
            }
        }
        Some(outcome)
    }

    /// One dry run, and a second one with the gateway's template where Pod Security refuses the sidecar's.
    async fn run(&self, ask: &Ask) -> Option<Outcome> {
        let outcome = self.dry_run(ask, Template::Sidecar).await?;
        if outcome.refused_by_pod_security()
            && let Some(second @ Outcome::Proved(_)) = self.dry_run(ask, Template::Gateway).await
        {
            return Some(second);
        }
        if outcome == Outcome::NotInjected {
            return self.why_not(ask).await;
        }
        Some(outcome)
    }

    /// Tells an injector that skips pods from a namespace that keeps it away.
    async fn why_not(&self, ask: &Ask) -> Option<Outcome> {
        let namespace = ask.namespace.as_str();
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        match tokio::time::timeout(PROBE_DEADLINE, namespaces.get_metadata(namespace)).await {
            Ok(Ok(found)) => Some(
                excluded_by(found.labels(), &ask.name)
                    .map_or(Outcome::NotInjected, |label| Outcome::Excluded { namespace: namespace.to_owned(), label }),
            ),
            Ok(Err(error)) => {
                debug!(error = %error, namespace, "the labels of the namespace could not be read");
                None
            }
            Err(_) => None,
        }
    }

    async fn dry_run(&self, ask: &Ask, template: Template) -> Option<Outcome> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"));
        let pods: Api<RawObject> = Api::namespaced_with(self.client.clone(), &ask.namespace, &resource);
        let wanted = RawObject::from(pod(ask, template));
        let params = PostParams { dry_run: true, field_manager: Some(FIELD_MANAGER.into()) };
        match tokio::time::timeout(PROBE_DEADLINE, pods.create(&params, &wanted)).await {
            Ok(Ok(created)) => Some(judge_pod(&created.into_value())),
            Ok(Err(kube::Error::Api(status))) => judge_refusal(status.code, &status.message),
            Ok(Err(error)) => {
                debug!(error = %error, "the proof of injection could not be asked for");
                None
            }
            Err(_) => Some(Outcome::WebhookFailed("the API server did not answer within 35 s".into())),
        }
    }
}

/// An outcome at this moment, with what is known of how long the injector has refused the pod: before, and now.
fn insist(outcome: Outcome, since: Option<Instant>, now: Instant) -> (Outcome, Option<Instant>) {
    match outcome {
        Outcome::InjectorRefuses { why, .. } => {
            let since = since.unwrap_or(now);
            (Outcome::InjectorRefuses { why, lasting: now.duration_since(since) >= SETTLED }, Some(since))
        }
        other => (other, None),
    }
}

const fn result(outcome: &Outcome) -> ProbeResult {
    match outcome {
        Outcome::Proved(_) => ProbeResult::Proved,
        Outcome::NotInjected => ProbeResult::NotInjected,
        Outcome::WebhookFailed(_) | Outcome::InjectorRefuses { .. } => ProbeResult::WebhookFailed,
        Outcome::RefusedByOther { .. } | Outcome::Excluded { .. } | Outcome::NotAllowed(_) => {
            ProbeResult::RefusedByOther
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_counts_for_good_when_nothing_else_was_seen_for_a_while() {
        let refuses = |lasting| Outcome::InjectorRefuses { why: "no such field".into(), lasting };
        let first = Instant::now();
        let (outcome, since) = insist(refuses(false), None, first);
        assert_eq!((outcome, since), (refuses(false), Some(first)));
        assert_eq!(insist(refuses(false), since, first + SETTLED / 2).0, refuses(false));
        assert_eq!(insist(refuses(false), since, first + SETTLED), (refuses(true), Some(first)));
        let unreachable = Outcome::WebhookFailed("connection refused".into());
        assert_eq!(insist(unreachable.clone(), since, first + SETTLED), (unreachable, None));
    }
}
