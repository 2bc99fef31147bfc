//! Writes status and publishes Events.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use meshwright_api::conditions::{ConditionType, Reason, get};
use meshwright_api::{MeshInstallation, MeshInstallationStatus};
use serde_json::json;

use super::context::Context;
use super::error::ReconcileError;
use super::node_ports::range_status;
use super::releases::is_transient;
use crate::mesh::health::{Blocker, Health};
use crate::mesh::plan;
use crate::mesh::rollup::{ReconcileOutcome, StatusInput, is_significant_change, rollup};
use crate::mesh::upgrade::UpgradeProgress;

/// Minimum interval between status writes that change only progress, such as a count of ready pods.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// Field manager of status, separate from that of objects, so that neither apply removes the other's fields.
pub const STATUS_MANAGER: &str = "meshwright-status";

/// Computes status, writes it if it differs, and publishes Events for what has changed.
pub async fn report(
    context: &Context,
    installation: &MeshInstallation,
    outcome: ReconcileOutcome<'_>,
    ca: Option<meshwright_api::CaStatus>,
) -> Result<StatusUpdate, ReconcileError> {
    report_progress(context, installation, outcome, ca, None).await
}

/// As [`report`], with the progress of an upgrade.
pub async fn report_progress(
    context: &Context,
    installation: &MeshInstallation,
    outcome: ReconcileOutcome<'_>,
    ca: Option<meshwright_api::CaStatus>,
    progress: Option<UpgradeProgress>,
) -> Result<StatusUpdate, ReconcileError> {
    let previous = installation.status.clone().unwrap_or_default();
    let generation = installation.metadata.generation.unwrap_or_default();
    publish_reverts(context, installation, &outcome);
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
    if status == previous {
        return Ok(StatusUpdate { status, write_after: None });
    }
    let name = installation.name_any();
    if !is_significant_change(&previous, &status)
        && let Some(delay) = context.cache.until_next_status(&name, PROGRESS_INTERVAL)
    {
        return Ok(StatusUpdate { status, write_after: Some(delay) });
    }
    write_status(context, installation, &status).await?;
    context.cache.record_status_write(&name);
    publish_transition(context, installation, &previous, &status);
    Ok(StatusUpdate { status, write_after: None })
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

async fn write_status(
    context: &Context,
    installation: &MeshInstallation,
    status: &MeshInstallationStatus,
) -> Result<(), ReconcileError> {
    let name = installation.name_any();
    let api: Api<MeshInstallation> = Api::all(context.clients.requests.clone());
    let body = json!({
        "apiVersion": "meshwright.dev/v1alpha1",
        "kind": "MeshInstallation",
        "metadata": {"name": name, "uid": installation.uid()},
        "status": status,
    });
    let params = PatchParams::apply(STATUS_MANAGER).force();
    match api.patch_status(&name, &params, &Patch::Apply(&body)).await {
        Ok(_) => Ok(()),
        // The MeshInstallation was deleted, or replaced by another of that name.
        Err(kube::Error::Api(answer)) if answer.is_not_found() || answer.is_conflict() => Ok(()),
        Err(source) => Err(ReconcileError::Status { name, source: Box::new(source) }),
    }
}

/// Publishes an Event when Ready changes its status or reason.
fn publish_transition(
    context: &Context,
    installation: &MeshInstallation,
    previous: &MeshInstallationStatus,
    status: &MeshInstallationStatus,
) {
    let before = get(&previous.conditions, ConditionType::Ready);
    let Some(now) = get(&status.conditions, ConditionType::Ready) else { return };
    if before.is_some_and(|before| before.status == now.status && before.reason == now.reason) {
        return;
    }
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

/// Publishes an Event for each object whose drift was reverted in a deployed revision.
fn publish_reverts(context: &Context, installation: &MeshInstallation, outcome: &ReconcileOutcome<'_>) {
    let ReconcileOutcome::Reconciled { plan, was_ready: true, .. } = outcome else { return };
    for (key, action) in &plan.state.written {
        let what = match action {
            plan::PlanAction::Unchanged => continue,
            plan::PlanAction::Adopt(_) | plan::PlanAction::Overwrite(_) => "adopted".to_owned(),
            plan::PlanAction::Create => "recreated".to_owned(),
            plan::PlanAction::Update(fields) => format!("drift reverted: {}", fields.join(", ")),
            plan::PlanAction::RemoveExtras(paths) => format!("unmanaged fields removed: {}", paths.join(", ")),
        };
        context.metrics.count_drift_revert(key.kind.name());
        let action = format!("Revert{}", key.kind.name());
        let note = format!("{key}: {what}");
        context.events.publish(installation, EventType::Normal, Reason::DriftReverted, &action, &note);
    }
}
