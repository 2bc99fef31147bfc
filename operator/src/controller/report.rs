//! Writes status and publishes Events.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use meshwright_api::conditions::{ConditionType, Reason, get};
use meshwright_api::{MeshInstallation, MeshInstallationStatus};
use tracing::error;

use super::context::Context;
use super::node_ports::range_status;
use super::releases::is_transient;
use super::status_write::{StatusForm, write_status};
use crate::apply::ErrorClass;
use crate::mesh::health::{Blocker, Health};
use crate::mesh::plan::{Applied, Plan, PlanAction};
use crate::mesh::rollup::{ReconcileOutcome, StatusInput, is_significant_change, rollup};
use crate::mesh::upgrade::UpgradeProgress;
use crate::runtime::requests::api_error_message;

/// Minimum interval between status writes that change only progress, such as a count of ready pods.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Computes status, writes it if it differs, and publishes Events for what has changed. A failed write is retried later,
/// and nothing waits for it: the next reconcile goes on from the computed status.
pub async fn report(
    context: &Context,
    installation: &MeshInstallation,
    outcome: ReconcileOutcome<'_>,
    ca: Option<meshwright_api::CaStatus>,
) -> StatusUpdate {
    report_progress(context, installation, outcome, ca, None).await
}

/// As [`report`], with the progress of an upgrade.
pub async fn report_progress(
    context: &Context,
    installation: &MeshInstallation,
    outcome: ReconcileOutcome<'_>,
    ca: Option<meshwright_api::CaStatus>,
    progress: Option<UpgradeProgress>,
) -> StatusUpdate {
    let previous = installation.status.clone().unwrap_or_default();
    let generation = installation.metadata.generation.unwrap_or_default();
    let spec = &installation.spec;
    let input = StatusInput {
        previous: &previous,
        generation,
        desired_version: &spec.version,
        outcome,
        ca,
        progress,
        revision: context.revision_history.newest_name(&installation.name_any()),
        gateway_api: context.gateway_api.status(),
        node_port_range: range_status(context, installation),
        proxies: context.proxies.reported(&installation.name_any(), &context.revision_names(installation)),
    };
    let status = rollup(&input, &Time(Timestamp::now()));
    let name = installation.name_any();
    let unwritten = &context.cache.unwritten;
    let retry = unwritten.retry_after(&name);
    if status == previous && retry.is_none() {
        return StatusUpdate { status, write_after: None };
    }
    let is_urgent = is_significant_change(&previous, &status);
    let wait = retry.or_else(|| context.cache.until_next_status(&name, PROGRESS_INTERVAL));
    if let Some(delay) = wait.filter(|delay| !is_urgent && !delay.is_zero()) {
        unwritten.update(&name, &status);
        return StatusUpdate { status, write_after: Some(delay) };
    }
    publish_transition(context, installation, &previous, &status);
    let write_after = write(context, installation, &status).await;
    StatusUpdate { status, write_after }
}

/// Writes status. Returns when to try again if not all of it could be written.
async fn write(
    context: &Context,
    installation: &MeshInstallation,
    status: &MeshInstallationStatus,
) -> Option<Duration> {
    let (name, uid) = (installation.name_any(), installation.uid());
    let class = match write_status(&context.clients.requests, &name, uid.as_deref(), status).await {
        Ok(StatusForm::Complete) => {
            context.cache.record_status_write(&name);
            context.cache.unwritten.clear(&name);
            return None;
        }
        Ok(StatusForm::Minimal) => ErrorClass::Invalid,
        Err(error) => {
            error!(installation = name, error = api_error_message(&error), "writing the status failed");
            ErrorClass::of(&error)
        }
    };
    Some(context.cache.unwritten.record_failure(installation, status, class))
}

/// The outcome for a spec that can't be reconciled; `running` is the health of the last known good revision.
pub const fn blocked(blocker: Blocker, running: Option<&Health>) -> ReconcileOutcome<'_> {
    if is_transient(blocker.reason) {
        ReconcileOutcome::Blocked { blocker, was_ready: false, running }
    } else {
        ReconcileOutcome::Stalled { blocker, running }
    }
}

/// The result of a report.
pub struct StatusUpdate {
    /// The current status, including progress that is not written yet.
    pub status: MeshInstallationStatus,
    /// When progress that is not written yet is due.
    write_after: Option<Duration>,
}

impl StatusUpdate {
    /// Requeues after `interval`, or earlier if progress has to be written.
    pub fn requeue(&self, interval: Duration) -> Action {
        Action::requeue(self.write_after.map_or(interval, |delay| delay.min(interval)))
    }
}

/// Publishes an Event when Ready changes its status or reason, or else when Available does: Ready stays as it is while
/// the operator waits for a user, another installation or a release.
fn publish_transition(
    context: &Context,
    installation: &MeshInstallation,
    previous: &MeshInstallationStatus,
    status: &MeshInstallationStatus,
) {
    let changed = |condition: ConditionType| {
        let now = get(&status.conditions, condition)?;
        let differs = |before: &Condition| before.status != now.status || before.reason != now.reason;
        get(&previous.conditions, condition).is_none_or(differs).then_some(now)
    };
    let available = || changed(ConditionType::Available).filter(|_| previous.version.running.is_some());
    let Some(now) = changed(ConditionType::Ready).or_else(available) else { return };
    let type_ = if now.status == "False"
        || [Reason::Forbidden, Reason::RegistryError].map(Reason::as_str).contains(&now.reason.as_str())
    {
        EventType::Warning
    } else {
        EventType::Normal
    };
    let Some(reason) = Reason::ALL.iter().copied().find(|reason| reason.as_str() == now.reason) else { return };
    context.events.publish(installation, type_, reason, "Reconcile", &now.message);
}

/// Publishes an Event for each object whose drift was reverted.
pub fn publish_reverts(context: &Context, installation: &MeshInstallation, plan: &Plan<Applied>) {
    for (key, action) in &plan.state.written {
        let what = match action {
            PlanAction::Unchanged => continue,
            PlanAction::Adopt(_) | PlanAction::Overwrite(_) => "adopted".to_owned(),
            PlanAction::Create => "recreated".to_owned(),
            PlanAction::Update(fields) => format!("drift reverted: {}", fields.join(", ")),
            PlanAction::RemoveExtras(paths) => format!("unmanaged fields removed: {}", paths.join(", ")),
        };
        context.metrics.count_drift_revert(key.kind.name());
        let action = format!("Revert{}", key.kind.name());
        let note = format!("{key}: {what}");
        context.events.publish(installation, EventType::Normal, Reason::DriftReverted, &action, &note);
    }
}
