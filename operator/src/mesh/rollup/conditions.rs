//! Conditions and phase of an installation.

use meshwright_api::Phase;
use meshwright_api::conditions::{ConditionType, Reason, get};
use meshwright_api::situation::Situation;

use super::{Assessment, ReconcileOutcome, RolloutProgress, StatusInput, blocker_of, health, warnings};
use crate::mesh::health::{Blocker, Health};
use crate::mesh::plan::{Applied, Plan, WaitingFor};
use crate::mesh::text::abbreviate;

/// Computes the situation, the phase, and the reason and message of Ready.
pub(super) fn compute_conditions(input: &StatusInput<'_>) -> Assessment {
    let rollout_phase = if input.previous.version.running.is_some() { Phase::Updating } else { Phase::Installing };
    let retrying = |blocker: Blocker, had_been_ready: bool| {
        // A denied injection check leaves readiness unknown; it does not mean that the mesh is broken.
        let (situation, phase) = match (had_been_ready, blocker.reason) {
            (true, Reason::InjectionCheckDenied) => (Situation::Progressing, Phase::Ready),
            (true, Reason::Pruning) => (Situation::Progressing, Phase::Updating),
            // Only a person can grant permissions.
            (false, Reason::Forbidden) => (Situation::Stalled, Phase::Stalled),
            (true, Reason::PullingRelease) | (false, _) => (Situation::Progressing, rollout_phase),
            (true, _) => (Situation::Retrying, Phase::Degraded),
        };
        Assessment { situation, phase, blocker }
    };
    match &input.outcome {
        ReconcileOutcome::Stalled { blocker, .. } => {
            Assessment { situation: Situation::Stalled, phase: Phase::Stalled, blocker: blocker.clone() }
        }
        ReconcileOutcome::Blocked { blocker, was_ready: had_been_ready, .. } => {
            retrying(blocker.clone(), *had_been_ready)
        }
        ReconcileOutcome::Uninstalling { blocker, .. } => {
            Assessment { situation: Situation::Progressing, phase: Phase::Uninstalling, blocker: blocker.clone() }
        }
        ReconcileOutcome::Paused { applied, health, .. } => paused(*applied, health),
        ReconcileOutcome::InProgress { plan, health, version, rollout } => in_progress(rollout, version, plan, health),
        ReconcileOutcome::Reconciled { plan, health, version, was_ready: had_been_ready } => {
            match first_blocker(plan, health) {
                None => healthy(input, version),
                // A pending check does not clear Ready.
                Some(blocker) if blocker.reason == Reason::Applying && *had_been_ready && was_ready(input) => {
                    healthy(input, version)
                }
                // After a restart or a lost watch, nothing is known to be broken.
                Some(blocker) if blocker.reason == Reason::Applying && *had_been_ready && !was_broken(input) => {
                    Assessment { situation: Situation::Progressing, phase: rollout_phase, blocker }
                }
                Some(blocker) => retrying(blocker, *had_been_ready),
            }
        }
    }
}

/// The first blocker of Ready.
fn first_blocker(plan: &Plan<Applied>, health: &Health) -> Option<Blocker> {
    let failed = plan.failure().map(blocker_of);
    failed
        .or_else(|| missing_injection(plan, health))
        .or_else(|| plan.state.waiting.as_ref().map(wait_blocker))
        .or_else(|| health.blockers.first().cloned())
        .or_else(|| deleting(plan))
}

/// The denial or label that prevents the injection check, which gateways wait for.
fn missing_injection(plan: &Plan<Applied>, health: &Health) -> Option<Blocker> {
    let is_cause =
        |blocker: &&Blocker| matches!(blocker.reason, Reason::InjectionCheckDenied | Reason::NamespaceExcluded);
    let waits = plan.state.waiting == Some(WaitingFor::Injection);
    health.blockers.iter().find(is_cause).filter(|_| waits).cloned()
}

/// During a rollout the mesh is never Ready, even if every component is.
fn in_progress(progress: &RolloutProgress, to: &semver::Version, plan: &Plan<Applied>, health: &Health) -> Assessment {
    let RolloutProgress { rolling_back, deadline_exceeded, step, from, blocker } = progress;
    let failed = plan.failure().map(blocker_of);
    let blocker = failed.or_else(|| blocker.clone()).or_else(|| first_blocker(plan, health));
    let (reason, detail) =
        blocker.map_or((Reason::Applying, String::new()), |b| (b.reason, format!(": {}", b.message)));
    let (reason, what) = match (rolling_back, deadline_exceeded) {
        (true, true) => (Reason::RollbackFailed, format!("rollback from {from} to {to} failed")),
        (true, false) => (Reason::RollingBack, format!("rolling back from {from} to {to}")),
        (false, _) if from != to => (Reason::Upgrading, format!("upgrading from {from} to {to}")),
        (false, _) => (reason, "rolling out the changed spec".to_owned()),
    };
    let (situation, phase) = match (rolling_back, deadline_exceeded) {
        (true, true) => (Situation::Stalled, Phase::RollingBack),
        (true, false) => (Situation::Progressing, Phase::RollingBack),
        (false, _) => (Situation::Progressing, Phase::Updating),
    };
    Assessment { situation, phase, blocker: Blocker { reason, message: format!("{what}, step {step}{detail}") } }
}

fn deleting(plan: &Plan<Applied>) -> Option<Blocker> {
    let keys: Vec<String> = plan
        .delete_first
        .iter()
        .chain(&plan.prune)
        .map(|removal| &removal.key)
        .chain(&plan.terminating)
        .map(ToString::to_string)
        .collect();
    let message = format!("deleting {}", keys.join(", "));
    (!keys.is_empty()).then_some(Blocker { reason: Reason::Pruning, message })
}

fn healthy(input: &StatusInput<'_>, version: &semver::Version) -> Assessment {
    let previous = &input.previous.platform.warnings;
    let warned = health(&input.outcome).map_or(!previous.is_empty(), |health| !warnings(health, previous).is_empty());
    let see_warnings = if warned { ". See status.platform.warnings" } else { "" };
    let unknown = health(&input.outcome).map(unknown_keys).unwrap_or_default();
    let reasons = |health: &'_ Health| health.unready_add_ons.values().cloned().collect::<Vec<_>>();
    let unready = health(&input.outcome).map(reasons).unwrap_or_default();
    let unready =
        if unready.is_empty() { String::new() } else { format!(". Add-ons not ready: {}", unready.join(", ")) };
    let message = format!("Istio {version} is ready{unknown}{see_warnings}{unready}");
    let blocker = Blocker { reason: Reason::Healthy, message };
    Assessment { situation: Situation::Healthy, phase: Phase::Ready, blocker }
}

fn unknown_keys(health: &Health) -> String {
    let fields: Vec<&str> = health.unknown_keys.iter().map(|key| key.field.as_str()).collect();
    if fields.is_empty() { String::new() } else { format!(". Unknown keys: {}", abbreviate(&fields)) }
}

fn was_broken(input: &StatusInput<'_>) -> bool {
    get(&input.previous.conditions, ConditionType::Ready).is_some_and(|ready| ready.status == "False")
}

fn was_ready(input: &StatusInput<'_>) -> bool {
    meshwright_api::conditions::is_true(&input.previous.conditions, ConditionType::Ready)
}

fn paused(applied: bool, health: &Health) -> Assessment {
    if !applied {
        let message = "paused before this spec was applied. Set spec.paused to false to apply it";
        let blocker = Blocker { reason: Reason::Paused, message: message.into() };
        return Assessment { situation: Situation::PausedNotApplied, phase: Phase::Paused, blocker };
    }
    let (reason, message) = health.blockers.iter().find(|b| b.reason != Reason::Applying).map_or_else(
        || (Reason::Paused, "paused; the mesh is ready, and drift is not reverted".to_owned()),
        |blocker| (blocker.reason, format!("paused; {}", blocker.message)),
    );
    let situation = Situation::PausedApplied { healthy: reason == Reason::Paused };
    Assessment { situation, phase: Phase::Paused, blocker: Blocker { reason, message } }
}

fn wait_blocker(waiting: &WaitingFor) -> Blocker {
    match waiting {
        WaitingFor::Crds(_) => {
            Blocker { reason: Reason::WaitingForCRDs, message: "waiting until the CRDs are established".into() }
        }
        WaitingFor::Injection => {
            Blocker { reason: Reason::WaitingForRollout, message: "gateways wait until injection works".into() }
        }
        WaitingFor::Removal(keys) => {
            let named = keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Blocker { reason: Reason::Pruning, message: format!("waiting for the deletion of {named}") }
        }
    }
}
