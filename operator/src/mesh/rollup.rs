//! Computes status from the outcome of a reconcile and measured health. Time and generation are arguments.

mod conditions;
mod upgradeable;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use meshwright_api::conditions::{ConditionStatus, ConditionType, Reason, remove, set};
use meshwright_api::situation::Situation;
use meshwright_api::{
    CaStatus, GatewayApiStatus, MeshInstallationStatus, NodePortRangeStatus, Phase, PlatformStatus, ProxiesStatus,
    UpgradeOutcome,
};

use super::bounds::bounded;
use super::health::{Blocker, Health, RetiringRevision};
use super::plan::{Applied, Plan};
use super::unknown_keys::abbreviated;
use super::upgrade::UpgradeProgress;
use crate::apply::{ApplyError, ErrorClass};
use crate::nodeports::PortRejection;
use crate::proxies::{ReportedProxies, is_outdated};

/// The input of a status computation.
pub struct StatusInput<'a> {
    /// The last published status.
    pub previous: &'a MeshInstallationStatus,
    /// Generation that was reconciled.
    pub generation: i64,
    /// `spec.version` as in the spec, not resolved.
    pub desired_version: &'a str,
    /// Outcome of the reconcile.
    pub outcome: ReconcileOutcome<'a>,
    /// The mesh's certificate authority; `None` keeps the previous value.
    pub ca: Option<CaStatus>,
    /// Progress of the current or just completed upgrade or rollback.
    pub progress: Option<UpgradeProgress>,
    /// The control plane revision that the operator named, with the strategy Canary.
    pub revision: Option<String>,
    /// State of the Gateway API; `None` keeps the previous value.
    pub gateway_api: Option<GatewayApiStatus>,
    /// The API server's node port range; `None` keeps the previous value.
    pub node_port_range: Option<NodePortRangeStatus>,
    /// The running proxies; `None` keeps the previous value.
    pub proxies: Option<ReportedProxies>,
}

/// Outcome of a reconcile.
pub enum ReconcileOutcome<'a> {
    /// The spec can't be applied until a person changes something.
    Stalled {
        /// Why the reconcile is stalled.
        blocker: Blocker,
        /// Health of the active revision, which was reconciled instead.
        running: Option<&'a Health>,
    },
    /// The spec was applied.
    Reconciled {
        /// The applied plan.
        plan: &'a Plan<Applied>,
        /// Health measured after the apply.
        health: &'a Health,
        /// The resolved release.
        version: &'a semver::Version,
        /// This spec has been Ready before.
        was_ready: bool,
    },
    /// A rollout of a changed spec, or a rollback, is in progress.
    InProgress {
        /// The applied plan.
        plan: &'a Plan<Applied>,
        /// Health measured after the apply.
        health: &'a Health,
        /// The resolved release of the target.
        version: &'a semver::Version,
        /// Progress of the rollout.
        rollout: RolloutProgress,
    },
    /// `spec.paused` is set: nothing was written.
    Paused {
        /// The live objects match the spec.
        applied: bool,
        /// Health of the live objects.
        health: &'a Health,
        /// The resolved release.
        version: &'a semver::Version,
    },
    /// A transient cause outside of the spec prevented the reconcile.
    Blocked {
        /// Why the reconcile is blocked.
        blocker: Blocker,
        /// This spec has been Ready before.
        was_ready: bool,
        /// Health of the active revision, if it was reconciled instead.
        running: Option<&'a Health>,
    },
    /// The installation is being deleted.
    Uninstalling {
        /// The current step and what it waits for.
        blocker: Blocker,
        /// How many pods still have a proxy, while the uninstall waits for them.
        in_use: Option<usize>,
        /// Health of the mesh, which is reconciled as long as the uninstall has not started.
        running: Option<&'a Health>,
    },
}

/// Progress of a rollout, for the message of Ready.
pub struct RolloutProgress {
    /// A step has failed, and the last known good revision is being restored.
    pub rolling_back: bool,
    /// The rollback has exceeded its deadline too.
    pub deadline_exceeded: bool,
    /// Name of the current step.
    pub step: String,
    /// The release before the rollout.
    pub from: semver::Version,
    /// What the step waits for; `None` during the clean-up, where plan and health say it.
    pub blocker: Option<Blocker>,
}

/// Situation, phase, and the reason and message of Ready.
struct Assessment {
    situation: Situation,
    phase: Phase,
    blocker: Blocker,
}

/// Computes the new status, with [`bounded`] strings and lists.
#[must_use]
pub fn rollup(input: &StatusInput<'_>, now: &Time) -> MeshInstallationStatus {
    let mut status = input.previous.clone();
    status.observed_generation = input.generation;
    status.version.desired = Some(input.desired_version.to_owned());
    if input.ca.is_some() {
        status.ca.clone_from(&input.ca);
    }
    if input.gateway_api.is_some() {
        status.gateway_api.clone_from(&input.gateway_api);
    }
    if input.node_port_range.is_some() {
        status.platform.node_port_range.clone_from(&input.node_port_range);
    }
    let assessment = conditions::compute_conditions(input);
    if let Some(health) = health(&input.outcome) {
        set_health(health, &mut status, input.generation, now);
    }
    match &input.outcome {
        ReconcileOutcome::Reconciled { version, .. }
        | ReconcileOutcome::InProgress { version, .. }
        | ReconcileOutcome::Paused { version, .. } => {
            status.version.resolved = Some(version.to_string());
            if assessment.situation == Situation::Healthy && status.version.running != status.version.resolved {
                status.version.previous = status.version.running.take();
                status.version.running.clone_from(&status.version.resolved);
            }
        }
        _ => {}
    }
    status.version.revision.clone_from(&input.revision);
    set_upgrade(input, &assessment, &mut status, now);
    if let Some(seen) = &input.proxies {
        status.proxies = Some(proxies_status(seen, status.proxies.as_ref(), status.version.running.as_deref()));
    }
    let Assessment { situation, phase, blocker: Blocker { reason, message } } = assessment;
    situation.write(&mut status.conditions, reason, &message, input.generation, now);
    set_in_use(input, &mut status, now);
    upgradeable::set_upgradeable(&mut status, input.proxies.as_ref(), input.generation, now);
    status.phase = Some(phase);
    status.message = Some(message);
    bounded(status)
}

/// Compares the proxies with the active version; without an active version none is outdated. Proxies of another version
/// don't count as stale as well.
fn proxies_status(seen: &ReportedProxies, previous: Option<&ProxiesStatus>, running: Option<&str>) -> ProxiesStatus {
    let outdated = |version: &String| running.is_some_and(|running| is_outdated(version, running));
    let (configuration, stale_configuration) = match &seen.stale {
        Some(stale) => (seen.configuration.clone(), stale.iter().any(|version| !outdated(version))),
        // The current configuration is unknown until the mesh is Ready.
        None => previous.map(|known| (known.configuration.clone(), known.stale_configuration)).unwrap_or_default(),
    };
    ProxiesStatus {
        versions: seen.versions.clone(),
        outdated: seen.versions.iter().any(outdated),
        configuration,
        stale_configuration,
        message: seen.message.clone(),
    }
}

const fn health<'a>(outcome: &ReconcileOutcome<'a>) -> Option<&'a Health> {
    match outcome {
        ReconcileOutcome::Stalled { running, .. }
        | ReconcileOutcome::Blocked { running, .. }
        | ReconcileOutcome::Uninstalling { running, .. } => *running,
        ReconcileOutcome::Reconciled { health, .. }
        | ReconcileOutcome::InProgress { health, .. }
        | ReconcileOutcome::Paused { health, .. } => Some(health),
    }
}

/// Warnings about the spec and the cluster; those about the cluster stay until the next check.
fn warnings(health: &Health, previous: &[String]) -> Vec<String> {
    let is_about_cluster = |warning: &&String| !warning.starts_with("spec.") && !warning.starts_with("spec:");
    let about_cluster =
        health.warnings.clone().unwrap_or_else(|| previous.iter().filter(is_about_cluster).cloned().collect());
    abbreviated(&health.unknown_keys).into_iter().chain(about_cluster).collect()
}

fn set_health(health: &Health, status: &mut MeshInstallationStatus, generation: i64, now: &Time) {
    status.components.clone_from(&health.components);
    status.version.retiring = health.retiring.as_ref().map(|retiring| retiring.revision.clone());
    status.gateways.clone_from(&health.gateways);
    status.node_ports.clone_from(&health.node_ports);
    let warnings = warnings(health, &status.platform.warnings);
    let node_port_range = status.platform.node_port_range.take();
    status.platform = PlatformStatus { warnings, node_port_range, ..health.platform.clone() };
    let (reason, message) = if health.available {
        (Reason::Serving, "the control plane is available".to_owned())
    } else {
        (Reason::NotServing, unavailability(health))
    };
    let available = ConditionStatus::from(health.available);
    set(&mut status.conditions, ConditionType::Available, available, reason, message, generation, now);
}

/// Why new pods get no sidecar.
fn unavailability(health: &Health) -> String {
    // The control plane precedes all gateways, whose names may start like this too.
    let is_istiod = |name: &str| name == "istiod" || name.starts_with("istiod-");
    let istiod = health.components.iter().find(|component| is_istiod(&component.name));
    if istiod.is_none_or(|istiod| istiod.ready == 0) {
        return "no istiod pod is available".to_owned();
    }
    let injects = [Reason::WebhookFailed, Reason::NotInjected, Reason::WaitingForCABundle];
    let cause = health.blockers.iter().find(|blocker| injects.contains(&blocker.reason));
    cause.map_or_else(|| "an injection webhook is missing or has no CA".to_owned(), |blocker| blocker.message.clone())
}

/// Sets `status.upgrade`; a healthy mesh ends the upgrade.
fn set_upgrade(input: &StatusInput<'_>, assessment: &Assessment, status: &mut MeshInstallationStatus, now: &Time) {
    let healthy = assessment.situation == Situation::Healthy;
    if let Some(progress) = &input.progress {
        let mut progress = progress.clone();
        if healthy {
            progress.outcome = Some(UpgradeOutcome::Succeeded);
            progress.message.clone_from(&assessment.blocker.message);
        } else if progress.message.is_empty() {
            progress.message.clone_from(&assessment.blocker.message);
        }
        status.upgrade = Some(progress.to_status(input.previous.upgrade.as_ref(), now));
    } else if let Some(current) = status.upgrade.as_mut().filter(|current| healthy && current.outcome.is_none()) {
        current.outcome = Some(UpgradeOutcome::Succeeded);
        current.deadline = None;
        current.ended_at = Some(now.clone());
        current.message = Some(assessment.blocker.message.clone());
    }
}

fn set_in_use(input: &StatusInput<'_>, status: &mut MeshInstallationStatus, now: &Time) {
    let retiring = health(&input.outcome).and_then(|health| health.retiring.as_ref());
    let message = match (&input.outcome, retiring) {
        (ReconcileOutcome::Uninstalling { in_use: Some(pods), .. }, _) => {
            format!("{pods} pods still have a proxy of this mesh")
        }
        (_, Some(RetiringRevision { revision, pods: Some(pods) })) if *pods > 0 => format!(
            "previous revision {revision} is retained while {pods} pods use it. Restart these pods; meshwright status \
             --proxies lists them"
        ),
        _ => {
            remove(&mut status.conditions, ConditionType::InUse);
            return;
        }
    };
    let (value, reason) = (ConditionStatus::True, Reason::ProxiesPresent);
    set(&mut status.conditions, ConditionType::InUse, value, reason, message, input.generation, now);
}

/// Whether a status differs from the previous one in more than progress. Such a change is published at once; progress
/// may wait for the next update. A first control plane that becomes available is progress, since Ready follows.
#[must_use]
pub fn is_significant_change(previous: &MeshInstallationStatus, status: &MeshInstallationStatus) -> bool {
    let summary = |status: &MeshInstallationStatus| {
        let conditions: Vec<(String, String, String)> = status
            .conditions
            .iter()
            .filter(|c| c.type_ != ConditionType::Available.as_str() || status.version.running.is_some())
            .map(|c| {
                let current = c.status != "Unknown" && c.type_ != ConditionType::Reconciling.as_str();
                let reason = if current { c.reason.clone() } else { String::new() };
                (c.type_.clone(), c.status.clone(), reason)
            })
            .collect();
        // A step's deadline counts from when the step is published.
        let step = status.upgrade.as_ref().map(|upgrade| {
            (upgrade.controller_revision.clone(), upgrade.step, upgrade.gateway.clone(), upgrade.outcome)
        });
        (conditions, status.phase, status.observed_generation, status.version.clone(), step)
    };
    summary(previous) != summary(status)
}

/// The blocker of a failed API request.
#[must_use]
pub fn blocker_of(error: &ApplyError) -> Blocker {
    let reason = match error.port_rejection() {
        Some(PortRejection::OutOfRange(_)) => Reason::NodePortOutOfRange,
        Some(PortRejection::InUse) => Reason::NodePortInUse,
        Some(PortRejection::RangeFull) => Reason::NodePortsExhausted,
        None => reason_of(error.class()),
    };
    Blocker { reason, message: error.to_string() }
}

/// The condition reason of an error class.
#[must_use]
pub const fn reason_of(class: ErrorClass) -> Reason {
    match class {
        ErrorClass::Forbidden => Reason::Forbidden,
        ErrorClass::Invalid => Reason::ObjectRejected,
        ErrorClass::Conflict => Reason::UnmanagedResource,
        ErrorClass::Transient => Reason::APIServerUnavailable,
    }
}

#[cfg(test)]
mod tests;
