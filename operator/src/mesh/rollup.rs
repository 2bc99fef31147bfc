//! From what was applied and measured to status. Pure: the time and the generation are arguments.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use meshwright_api::conditions::{ConditionStatus, ConditionType, Reason, get, remove, set};
use meshwright_api::situation::Situation;
use meshwright_api::{
    CaStatus, GatewayApiStatus, MeshInstallationStatus, NodePortRangeStatus, Phase, PlatformStatus, ProxiesStatus,
    UpgradeOutcome,
};

use super::health::{Blocker, Health, KeptRevision};
use super::plan::{Applied, Plan, Waiting};
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
    /// Something that isn't the spec's fault stands in the way before anything could be planned.
    Hindered {
        /// What.
        blocker: Blocker,
        /// This very spec has been Ready before.
        proved: bool,
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
    let judgement = judge(report);
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
        Course::Stalled { running, .. } => *running,
        Course::Followed { health, .. } | Course::Travelling { health, .. } | Course::Paused { health, .. } => {
            Some(health)
        }
        Course::Hindered { .. } | Course::Uninstalling { .. } => None,
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

fn judge(report: &Report<'_>) -> Judgement {
    let under_way = if report.previous.version.running.is_some() { Phase::Updating } else { Phase::Installing };
    let retrying = |blocker: Blocker, proved: bool| {
        // What refuses the test pod is not the mesh: nothing is known, rather than something broken.
        let (situation, phase) = match (proved, blocker.reason) {
            (true, Reason::ProbeRefused) => (Situation::Progressing, Phase::Ready),
            (true, Reason::Pruning) => (Situation::Progressing, Phase::Updating),
            (true, _) => (Situation::Retrying, Phase::Degraded),
            (false, _) => (Situation::Progressing, under_way),
        };
        Judgement { situation, phase, blocker }
    };
    match &report.course {
        Course::Stalled { blocker, .. } => {
            Judgement { situation: Situation::Stalled, phase: Phase::Stalled, blocker: blocker.clone() }
        }
        Course::Hindered { blocker, proved } => retrying(blocker.clone(), *proved),
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
    let failed = plan.state.failures.first().map(failure);
    failed
        .or_else(|| plan.state.waiting.as_ref().map(waiting))
        .or_else(|| health.blockers.first().cloned())
        .or_else(|| leaving(plan))
}

/// A mesh on its way is never Ready, however well what it has reached serves.
fn travelling(travel: &Travel, to: &semver::Version, plan: &Plan<Applied>, health: &Health) -> Judgement {
    let Travel { back, late, step, from, blocker } = travel;
    let failed = plan.state.failures.first().map(failure);
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
    let blocker = Blocker { reason: Reason::Healthy, message: format!("Istio {version} is ready{but}") };
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
mod tests {
    use super::*;
    use crate::mesh::kind::Kind;

    fn now() -> Time {
        Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH)
    }

    fn health(blockers: Vec<Blocker>) -> Health {
        Health {
            components: vec![],
            gateways: vec![],
            node_ports: vec![],
            blockers,
            available: true,
            platform: PlatformStatus { name: Some("kind".into()), ..PlatformStatus::default() },
            warnings: None,
            kept: None,
        }
    }

    fn plan() -> Plan<Applied> {
        let state = Applied { failures: vec![], waiting: None, written: vec![] };
        Plan {
            steps: vec![],
            make_way: vec![],
            prune: vec![],
            leaving: vec![],
            agents_leaving: vec![],
            refusals: vec![],
            gateways_may_start: true,
            state,
        }
    }

    fn about<'a>(previous: &'a MeshInstallationStatus, generation: i64, course: Course<'a>) -> Report<'a> {
        let (ca, gateway_api, node_port_range, proxies) = (None, None, None, None);
        Report {
            previous,
            generation,
            desired_version: "1.31",
            course,
            ca,
            progress: None,
            revision: None,
            gateway_api,
            node_port_range,
            proxies,
        }
    }

    fn follow(previous: &MeshInstallationStatus, health: &Health, proved: bool) -> MeshInstallationStatus {
        let version = semver::Version::new(1, 31, 2);
        let course = Course::Followed { plan: &plan(), health, version: &version, proved };
        rollup(&about(previous, 3, course), &now())
    }

    fn ready(status: &MeshInstallationStatus) -> (&str, &str) {
        let ready = get(&status.conditions, ConditionType::Ready).unwrap();
        (&ready.status, &ready.reason)
    }

    fn blocked(reason: Reason) -> Health {
        health(vec![Blocker { reason, message: "x".into() }])
    }

    #[test]
    fn proxies_are_outdated_when_the_version_that_runs_is_another() {
        let version = semver::Version::new(1, 31, 2);
        let seen = |previous: &MeshInstallationStatus, versions: &[&str], blockers| {
            let health = health(blockers);
            let course = Course::Followed { plan: &plan(), health: &health, version: &version, proved: false };
            let versions = versions.iter().map(|v| (*v).to_owned()).collect();
            let proxies = Some(Seen { versions, message: None });
            rollup(&Report { proxies, ..about(previous, 3, course) }, &now())
        };
        let new = MeshInstallationStatus::default();
        let outdated = |status: &MeshInstallationStatus| status.proxies.as_ref().map(|proxies| proxies.outdated);
        let waiting = vec![Blocker { reason: Reason::WaitingForRollout, message: String::new() }];
        assert_eq!(outdated(&seen(&new, &["1.30.0"], waiting)), Some(false), "nothing runs that they could be behind");
        assert_eq!(outdated(&seen(&new, &["1.30.0", "1.31.2"], vec![])), Some(true));
        let ready = seen(&new, &["1.31.2", "Unknown"], vec![]);
        assert_eq!(outdated(&ready), Some(false), "what isn't known is not called outdated");
        assert_eq!(
            outdated(&follow(&ready, &health(vec![]), true)),
            Some(false),
            "and stands until somebody looks again"
        );
    }

    #[test]
    fn an_installation_in_progress_is_unknown_and_then_ready_with_its_version() {
        let first = follow(&MeshInstallationStatus::default(), &blocked(Reason::WaitingForRollout), false);
        assert_eq!(ready(&first), ("Unknown", "WaitingForRollout"));
        assert_eq!(first.phase, Some(Phase::Installing));
        assert_eq!(first.version.running, None);
        let second = follow(&first, &health(vec![]), false);
        assert_eq!(ready(&second), ("True", "Healthy"));
        assert_eq!(second.version.running.as_deref(), Some("1.31.2"));
        assert_eq!(second.observed_generation, 3);
    }

    #[test]
    fn a_spec_that_was_ready_before_is_not_ready_when_something_breaks() {
        let status = follow(&MeshInstallationStatus::default(), &blocked(Reason::WaitingForRollout), true);
        assert_eq!(ready(&status), ("False", "WaitingForRollout"));
        assert_eq!(status.phase, Some(Phase::Degraded));
    }

    #[test]
    fn a_probe_under_way_takes_nothing_back_from_a_ready_mesh() {
        let before = follow(&MeshInstallationStatus::default(), &health(vec![]), true);
        assert_eq!(follow(&before, &blocked(Reason::Applying), true), before);
        let lost = follow(&MeshInstallationStatus::default(), &blocked(Reason::Applying), true);
        assert_eq!(ready(&lost).0, "Unknown", "a lost status is measured anew");
        let broken = follow(&MeshInstallationStatus::default(), &blocked(Reason::WaitingForRollout), true);
        assert_eq!(ready(&follow(&broken, &blocked(Reason::Applying), true)).0, "False", "nor does it mend one");
    }

    #[test]
    fn what_the_spec_no_longer_asks_for_is_progress_until_it_is_gone() {
        let key =
            crate::mesh::object::ObjectKey { kind: Kind::Service, namespace: Some("edge".into()), name: "g".into() };
        let going = Plan { leaving: vec![key], ..plan() };
        let (previous, version, fine) =
            (MeshInstallationStatus::default(), semver::Version::new(1, 31, 2), health(vec![]));
        let course = Course::Followed { plan: &going, health: &fine, version: &version, proved: true };
        let report = about(&previous, 3, course);
        let status = rollup(&report, &now());
        assert_eq!(ready(&status), ("Unknown", "Pruning"));
        assert!(status.message.unwrap().contains("Service edge/g"));
    }

    #[test]
    fn a_refused_probe_is_unknown_and_no_failure_of_the_mesh() {
        let status = follow(&MeshInstallationStatus::default(), &blocked(Reason::ProbeRefused), true);
        assert_eq!(ready(&status), ("Unknown", "ProbeRefused"));
        assert_eq!(get(&status.conditions, ConditionType::Available).unwrap().status, "True");
    }

    #[test]
    fn a_stalled_spec_keeps_the_running_mesh_available() {
        let running = health(vec![]);
        let blocker = Blocker { reason: Reason::VersionNotInCatalog, message: "no".into() };
        let course = Course::Stalled { blocker, running: Some(&running) };
        let previous = MeshInstallationStatus::default();
        let report = about(&previous, 4, course);
        let status = rollup(&report, &now());
        assert_eq!(ready(&status), ("False", "VersionNotInCatalog"));
        assert_eq!(get(&status.conditions, ConditionType::Available).unwrap().status, "True");
        assert!(get(&status.conditions, ConditionType::Reconciling).is_none());
    }

    #[test]
    fn a_warning_is_pointed_at_and_stands_until_somebody_has_looked_again() {
        let warned = Health { warnings: Some(vec!["x".into()]), ..health(vec![]) };
        let first = follow(&MeshInstallationStatus::default(), &warned, true);
        assert_eq!(first.platform.name.as_deref(), Some("kind"));
        assert_eq!(first.message.as_deref(), Some("Istio 1.31.2 is ready, but read status.platform.warnings"));
        assert_eq!(ready(&first), ("True", "Healthy"));
        let second = follow(&first, &health(vec![]), true);
        assert_eq!((&second.platform.warnings, &second.message), (&vec!["x".to_owned()], &first.message));
        let mended = Health { warnings: Some(vec![]), ..health(vec![]) };
        let third = follow(&second, &mended, true);
        assert_eq!(third.platform.warnings, [""; 0]);
        assert_eq!(third.message.as_deref(), Some("Istio 1.31.2 is ready"));
    }

    #[test]
    fn the_same_report_gives_the_same_status() {
        let once = follow(&MeshInstallationStatus::default(), &health(vec![]), true);
        assert_eq!(follow(&once, &health(vec![]), true), once);
    }

    #[test]
    fn a_first_control_plane_that_begins_to_serve_is_progress_and_one_that_ceases_to_is_a_turn() {
        let starting = Health { available: false, ..blocked(Reason::WaitingForRollout) };
        let serving = blocked(Reason::WaitingForCaBundle);
        let first = follow(&MeshInstallationStatus::default(), &starting, false);
        assert!(is_turn(&MeshInstallationStatus::default(), &first));
        let second = follow(&first, &serving, false);
        assert!(first != second && !is_turn(&first, &second));
        let ready = follow(&second, &health(vec![]), false);
        assert!(is_turn(&second, &ready));
        let gone = MeshInstallationStatus { phase: ready.phase, ..follow(&ready, &starting, true) };
        assert!(is_turn(&ready, &gone));
    }
}
