//! From what was applied and measured to status. Pure: the time and the generation are arguments.

mod judge;
mod upgradeable;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use meshwright_api::conditions::{ConditionStatus, ConditionType, Reason, remove, set};
use meshwright_api::situation::Situation;
use meshwright_api::{
    CaStatus, GatewayApiStatus, MeshInstallationStatus, NodePortRangeStatus, Phase, PlatformStatus, ProxiesStatus,
    UpgradeOutcome,
};

use super::health::{Blocker, Health, KeptRevision};
use super::plan::{Applied, Plan};
use super::upgrade::Progress;
use crate::apply::{ApplyError, ErrorClass};
use crate::nodeports::PortRefusal;
use crate::proxies::{Seen, is_outdated};

/// Everything that status says, at one moment.
pub struct Report<'a> {
    /// Status as it was.
    pub previous: &'a MeshInstallationStatus,
    /// Generation that was looked at.
    pub generation: i64,
    /// `spec.version` as it was written.
    pub desired_version: &'a str,
    /// What became of the spec.
    pub course: Course<'a>,
    /// The mesh's certificate authority, where it was looked at.
    pub ca: Option<CaStatus>,
    /// How far the mesh has come on its way to a changed spec, where it is on one.
    pub progress: Option<Progress>,
    /// The revision that the operator has named for what it brings about.
    pub revision: Option<String>,
    /// The Gateway API, where it was looked for.
    pub gateway_api: Option<GatewayApiStatus>,
    /// The range of node ports, where it is known.
    pub node_port_range: Option<NodePortRangeStatus>,
    /// The proxies that run, where they are known.
    pub proxies: Option<Seen>,
}

/// What became of the spec.
pub enum Course<'a> {
    /// It can't be followed until a person changes something; the mesh that runs, if any, was looked after.
    Stalled {
        /// Why.
        blocker: Blocker,
        /// The mesh that runs.
        running: Option<&'a Health>,
    },
    /// It is being followed.
    Followed {
        /// What was done.
        plan: &'a Plan<Applied>,
        /// What was measured then.
        health: &'a Health,
        /// The exact release.
        version: &'a semver::Version,
        /// This very spec has been Ready before.
        proved: bool,
    },
    /// A mesh that runs is on its way to a changed spec, or back.
    Travelling {
        /// What was done.
        plan: &'a Plan<Applied>,
        /// What was measured then.
        health: &'a Health,
        /// The exact release that the way leads to.
        version: &'a semver::Version,
        /// How far it has come.
        travel: Travel,
    },
    /// Nothing may be written.
    Paused {
        /// Whether all is as the spec wants it, by the last plan.
        applied: bool,
        /// What was measured.
        health: &'a Health,
        /// The exact release.
        version: &'a semver::Version,
    },
    /// Something that isn't the spec's fault stands in the way before the spec could be followed.
    Hindered {
        /// What.
        blocker: Blocker,
        /// This very spec has been Ready before.
        proved: bool,
        /// The mesh that runs, where it was looked after all the same.
        running: Option<&'a Health>,
    },
    /// The installation is being removed.
    Uninstalling {
        /// What is going on.
        blocker: Blocker,
        /// How many pods still have a proxy, when they are waited for.
        in_use: Option<usize>,
    },
}

/// How far a mesh has come on its way, in words.
pub struct Travel {
    /// A step has failed, and what ran before is being brought back.
    pub back: bool,
    /// What ran before doesn't come up in time either.
    pub late: bool,
    /// The step under way.
    pub step: String,
    /// The release that the way leads from.
    pub from: semver::Version,
    /// What the step waits for; the clean-up's is told by the plan and by health.
    pub blocker: Option<Blocker>,
}

/// What the situation is, why, and in which phase.
struct Judgement {
    situation: Situation,
    phase: Phase,
    blocker: Blocker,
}

/// The new status.
#[must_use]
pub fn rollup(report: &Report<'_>, now: &Time) -> MeshInstallationStatus {
    let mut status = report.previous.clone();
    status.observed_generation = report.generation;
    status.version.desired = Some(report.desired_version.to_owned());
    if report.ca.is_some() {
        status.ca.clone_from(&report.ca);
    }
    if report.gateway_api.is_some() {
        status.gateway_api.clone_from(&report.gateway_api);
    }
    if report.node_port_range.is_some() {
        status.platform.node_port_range.clone_from(&report.node_port_range);
    }
    let judgement = judge::judge(report);
    if let Some(health) = health(&report.course) {
        show(health, &mut status, report.generation, now);
    }
    match &report.course {
        Course::Followed { version, .. } | Course::Travelling { version, .. } | Course::Paused { version, .. } => {
            status.version.resolved = Some(version.to_string());
            if judgement.situation == Situation::Healthy && status.version.running != status.version.resolved {
                status.version.previous = status.version.running.take();
                status.version.running.clone_from(&status.version.resolved);
            }
        }
        _ => {}
    }
    status.version.revision.clone_from(&report.revision);
    upgrade(report, &judgement, &mut status, now);
    if let Some(seen) = &report.proxies {
        status.proxies = Some(proxies(seen, status.version.running.as_deref()));
    }
    let Judgement { situation, phase, blocker: Blocker { reason, message } } = judgement;
    situation.write(&mut status.conditions, reason, &message, report.generation, now);
    in_use(report, &mut status, now);
    upgradeable::tell(&mut status, report.generation, now);
    status.phase = Some(phase);
    status.message = Some(message);
    status
}

/// The proxies held against the version that runs; while none does, nothing is behind it.
fn proxies(seen: &Seen, running: Option<&str>) -> ProxiesStatus {
    let outdated = running.is_some_and(|running| seen.versions.iter().any(|version| is_outdated(version, running)));
    ProxiesStatus { versions: seen.versions.clone(), outdated, message: seen.message.clone() }
}

const fn health<'a>(course: &Course<'a>) -> Option<&'a Health> {
    match course {
        Course::Stalled { running, .. } | Course::Hindered { running, .. } => *running,
        Course::Followed { health, .. } | Course::Travelling { health, .. } | Course::Paused { health, .. } => {
            Some(health)
        }
        Course::Uninstalling { .. } => None,
    }
}

fn show(health: &Health, status: &mut MeshInstallationStatus, generation: i64, now: &Time) {
    status.components.clone_from(&health.components);
    status.version.retiring = health.kept.as_ref().map(|kept| kept.revision.clone());
    status.gateways.clone_from(&health.gateways);
    status.node_ports.clone_from(&health.node_ports);
    // What was warned of stands until somebody has looked again.
    let warnings = health.warnings.clone().unwrap_or_else(|| std::mem::take(&mut status.platform.warnings));
    let node_port_range = status.platform.node_port_range.take();
    status.platform = PlatformStatus { warnings, node_port_range, ..health.platform.clone() };
    let (reason, message) = if health.available {
        (Reason::Serving, "the control plane serves")
    } else {
        (Reason::NotServing, "no istiod serves")
    };
    let available = ConditionStatus::from(health.available);
    set(&mut status.conditions, ConditionType::Available, available, reason, message, generation, now);
}

/// The way that the mesh is on; it has ended when the mesh is as the spec says.
fn upgrade(report: &Report<'_>, judgement: &Judgement, status: &mut MeshInstallationStatus, now: &Time) {
    let healthy = judgement.situation == Situation::Healthy;
    if let Some(progress) = &report.progress {
        let mut progress = progress.clone();
        if healthy {
            progress.outcome = Some(UpgradeOutcome::Done);
            progress.message.clone_from(&judgement.blocker.message);
        } else if progress.message.is_empty() {
            progress.message.clone_from(&judgement.blocker.message);
        }
        status.upgrade = Some(progress.tell(report.previous.upgrade.as_ref(), now));
    } else if let Some(told) = status.upgrade.as_mut().filter(|told| healthy && told.outcome.is_none()) {
        told.outcome = Some(UpgradeOutcome::Done);
        told.deadline = None;
        told.ended_at = Some(now.clone());
        told.message = Some(judgement.blocker.message.clone());
    }
}

fn in_use(report: &Report<'_>, status: &mut MeshInstallationStatus, now: &Time) {
    let kept = health(&report.course).and_then(|health| health.kept.as_ref());
    let message = match (&report.course, kept) {
        (Course::Uninstalling { in_use: Some(pods), .. }, _) => format!("{pods} pods still have a proxy of this mesh"),
        (_, Some(KeptRevision { revision, pods: Some(pods) })) if *pods > 0 => format!(
            "revision {revision}, which ran before, is kept while {pods} pods use it: restart them; meshwright status \
             --proxies names them"
        ),
        _ => {
            remove(&mut status.conditions, ConditionType::InUse);
            return;
        }
    };
    let (value, reason) = (ConditionStatus::True, Reason::ProxiesPresent);
    set(&mut status.conditions, ConditionType::InUse, value, reason, message, report.generation, now);
}

/// Whether a status says something new, rather than how far the same thing has come: a turn is told at once, progress
/// may wait for the next telling. That a control plane which never served begins to is progress, too: Ready follows.
#[must_use]
pub fn is_turn(previous: &MeshInstallationStatus, status: &MeshInstallationStatus) -> bool {
    let gist = |status: &MeshInstallationStatus| {
        let conditions: Vec<(String, String, String)> = status
            .conditions
            .iter()
            .filter(|c| c.type_ != ConditionType::Available.as_str() || status.version.running.is_some())
            .map(|c| {
                let told = c.status != "Unknown" && c.type_ != ConditionType::Reconciling.as_str();
                let reason = if told { c.reason.clone() } else { String::new() };
                (c.type_.clone(), c.status.clone(), reason)
            })
            .collect();
        // A step's deadline counts from when it is told.
        let step = status.upgrade.as_ref().map(|way| (way.record.clone(), way.step, way.gateway.clone(), way.outcome));
        (conditions, status.phase, status.observed_generation, status.version.clone(), step)
    };
    gist(previous) != gist(status)
}

/// A failed request as a blocker.
#[must_use]
pub fn failure(error: &ApplyError) -> Blocker {
    let reason = match error.port_refusal() {
        Some(PortRefusal::OutOfRange(_)) => Reason::NodePortOutOfRange,
        Some(PortRefusal::Taken) => Reason::NodePortTaken,
        Some(PortRefusal::Full) => Reason::NodePortsExhausted,
        None => reason_of(error.class()),
    };
    Blocker { reason, message: error.to_string() }
}

/// The reason that a class of errors shows.
#[must_use]
pub const fn reason_of(class: ErrorClass) -> Reason {
    match class {
        ErrorClass::Forbidden => Reason::Forbidden,
        ErrorClass::Invalid => Reason::ObjectRefused,
        ErrorClass::Conflict => Reason::ForeignObject,
        ErrorClass::Transient => Reason::ApiUnavailable,
    }
}

#[cfg(test)]
mod tests;
