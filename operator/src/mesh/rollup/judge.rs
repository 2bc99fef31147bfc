//! What the situation is, why, and in which phase.

use meshwright_api::Phase;
use meshwright_api::conditions::{ConditionType, Reason, get};
use meshwright_api::situation::Situation;

use super::{Course, Judgement, Report, Travel, failure, health};
use crate::mesh::health::{Blocker, Health};
use crate::mesh::plan::{Applied, Plan, Waiting};

/// What is to be said of an installation.
pub(super) fn judge(report: &Report<'_>) -> Judgement {
    let under_way = if report.previous.version.running.is_some() { Phase::Updating } else { Phase::Installing };
    let retrying = |blocker: Blocker, proved: bool| {
        // What refuses the test pod is not the mesh: nothing is known, rather than something broken.
        let (situation, phase) = match (proved, blocker.reason) {
            (true, Reason::ProbeRefused) => (Situation::Progressing, Phase::Ready),
            (true, Reason::Pruning) => (Situation::Progressing, Phase::Updating),
            // Nothing but a person helps.
            (false, Reason::Forbidden) => (Situation::Stalled, Phase::Stalled),
            (true, Reason::PullingRelease) | (false, _) => (Situation::Progressing, under_way),
            (true, _) => (Situation::Retrying, Phase::Degraded),
        };
        Judgement { situation, phase, blocker }
    };
    match &report.course {
        Course::Stalled { blocker, .. } => {
            Judgement { situation: Situation::Stalled, phase: Phase::Stalled, blocker: blocker.clone() }
        }
        Course::Hindered { blocker, proved, .. } => retrying(blocker.clone(), *proved),
        Course::Uninstalling { blocker, .. } => {
            Judgement { situation: Situation::Progressing, phase: Phase::Uninstalling, blocker: blocker.clone() }
        }
        Course::Paused { applied, health, .. } => paused(*applied, health),
        Course::Travelling { plan, health, version, travel } => travelling(travel, version, plan, health),
        Course::Followed { plan, health, version, proved } => {
            match in_the_way(plan, health) {
                None => healthy(report, version),
                // A look that is still under way takes nothing back.
                Some(blocker) if blocker.reason == Reason::Applying && *proved && was_ready(report) => {
                    healthy(report, version)
                }
                // After a restart, or after others made us blind, nothing is known to be broken.
                Some(blocker) if blocker.reason == Reason::Applying && *proved && !was_broken(report) => {
                    Judgement { situation: Situation::Progressing, phase: under_way, blocker }
                }
                Some(blocker) => retrying(blocker, *proved),
            }
        }
    }
}

/// The first thing in the way of Ready.
fn in_the_way(plan: &Plan<Applied>, health: &Health) -> Option<Blocker> {
    let failed = plan.failure().map(failure);
    failed
        .or_else(|| plan.state.waiting.as_ref().map(waiting))
        .or_else(|| health.blockers.first().cloned())
        .or_else(|| leaving(plan))
}

/// A mesh on its way is never Ready, however well what it has reached serves.
fn travelling(travel: &Travel, to: &semver::Version, plan: &Plan<Applied>, health: &Health) -> Judgement {
    let Travel { back, late, step, from, blocker } = travel;
    let failed = plan.failure().map(failure);
    let blocker = failed.or_else(|| blocker.clone()).or_else(|| in_the_way(plan, health));
    let (reason, waits) = blocker.map_or((Reason::Applying, String::new()), |b| (b.reason, format!(": {}", b.message)));
    let (reason, what) = match (back, late) {
        (true, true) => (Reason::RollbackFailed, format!("going back from {from} to {to} does not succeed")),
        (true, false) => (Reason::RollingBack, format!("going back from {from} to {to}")),
        (false, _) if from != to => (Reason::Upgrading, format!("going from {from} to {to}")),
        (false, _) => (reason, "rolling the changed spec out".to_owned()),
    };
    let (situation, phase) = match (back, late) {
        (true, true) => (Situation::Stalled, Phase::RollingBack),
        (true, false) => (Situation::Progressing, Phase::RollingBack),
        (false, _) => (Situation::Progressing, Phase::Updating),
    };
    Judgement { situation, phase, blocker: Blocker { reason, message: format!("{what}, step {step}{waits}") } }
}

fn leaving(plan: &Plan<Applied>) -> Option<Blocker> {
    let going: Vec<String> = plan
        .make_way
        .iter()
        .chain(&plan.prune)
        .map(|removal| &removal.key)
        .chain(&plan.leaving)
        .map(ToString::to_string)
        .collect();
    let message = format!("being removed: {}", going.join(", "));
    (!going.is_empty()).then_some(Blocker { reason: Reason::Pruning, message })
}

fn healthy(report: &Report<'_>, version: &semver::Version) -> Judgement {
    let looked = health(&report.course).and_then(|health| health.warnings.as_ref());
    let warned = !looked.unwrap_or(&report.previous.platform.warnings).is_empty();
    let but = if warned { ", but read status.platform.warnings" } else { "" };
    let lagging: Vec<&str> =
        health(&report.course).into_iter().flat_map(|health| health.lagging.values().map(String::as_str)).collect();
    let lagging = if lagging.is_empty() { String::new() } else { format!("; of its add-ons, {}", lagging.join(", ")) };
    let blocker = Blocker { reason: Reason::Healthy, message: format!("Istio {version} is ready{but}{lagging}") };
    Judgement { situation: Situation::Healthy, phase: Phase::Ready, blocker }
}

fn was_broken(report: &Report<'_>) -> bool {
    get(&report.previous.conditions, ConditionType::Ready).is_some_and(|ready| ready.status == "False")
}

fn was_ready(report: &Report<'_>) -> bool {
    meshwright_api::conditions::is_true(&report.previous.conditions, ConditionType::Ready)
}

fn paused(applied: bool, health: &Health) -> Judgement {
    if !applied {
        let message = "paused before this spec was applied: nothing is written until spec.paused is false";
        let blocker = Blocker { reason: Reason::Paused, message: message.into() };
        return Judgement { situation: Situation::PausedNotApplied, phase: Phase::Paused, blocker };
    }
    let (reason, message) = health.blockers.iter().find(|b| b.reason != Reason::Applying).map_or_else(
        || (Reason::Paused, "paused; the mesh is ready and is not healed while paused".to_owned()),
        |blocker| (blocker.reason, format!("paused; {}", blocker.message)),
    );
    let situation = Situation::PausedApplied { healthy: reason == Reason::Paused };
    Judgement { situation, phase: Phase::Paused, blocker: Blocker { reason, message } }
}

fn waiting(waiting: &Waiting) -> Blocker {
    match waiting {
        Waiting::Definitions(_) => {
            Blocker { reason: Reason::WaitingForCrds, message: "waiting until the CRDs are served".into() }
        }
        Waiting::Injection => {
            Blocker { reason: Reason::WaitingForRollout, message: "gateways wait until istiod injects".into() }
        }
        Waiting::Removal(keys) => {
            let named = keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Blocker { reason: Reason::Pruning, message: format!("waiting until {named} is gone") }
        }
    }
}
