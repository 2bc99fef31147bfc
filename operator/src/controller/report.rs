//! Status and Events: what a person is told.

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
use super::ports::range_status;
use super::releases::passes;
use crate::mesh::health::{Blocker, Health};
use crate::mesh::plan;
use crate::mesh::rollup::{Course, Report, is_turn, rollup};
use crate::mesh::upgrade::Progress;

/// Progress (so many of so many pods) is told no more often than this; every turn is told at once.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// Field manager of status: apart from that of objects, so that neither takes the other's fields.
const STATUS_MANAGER: &str = "meshwright-status";

/// Works the new status out, writes it where it differs, and tells of what has changed. Answers what came of it.
pub async fn report(
    context: &Context,
    installation: &MeshInstallation,
    course: Course<'_>,
    ca: Option<meshwright_api::CaStatus>,
) -> Result<Told, ReconcileError> {
    report_progress(context, installation, course, ca, None).await
}

/// As [`report`], of a mesh that is on its way, or whose way has ended.
pub async fn report_progress(
    context: &Context,
    installation: &MeshInstallation,
    course: Course<'_>,
    ca: Option<meshwright_api::CaStatus>,
    progress: Option<Progress>,
) -> Result<Told, ReconcileError> {
    let previous = installation.status.clone().unwrap_or_default();
    let generation = installation.metadata.generation.unwrap_or_default();
    tell_of_heals(context, installation, &course);
    let spec = &installation.spec;
    let input = Report {
        previous: &previous,
        generation,
        desired_version: &spec.version,
        course,
        ca,
        progress,
        revision: context.revisions.newest_name(&installation.name_any()),
        gateway_api: context.gateway_api.status(),
        node_port_range: range_status(context, installation),
        proxies: context.proxies.seen(&installation.name_any(), &context.revision_names(installation)),
    };
    let status = rollup(&input, &Time(Timestamp::now()));
    if status == previous {
        return Ok(Told { status, rest: None });
    }
    let name = installation.name_any();
    if !is_turn(&previous, &status)
        && let Some(rest) = context.memory.rest(&name, PROGRESS_INTERVAL)
    {
        return Ok(Told { status, rest: Some(rest) });
    }
    write(context, installation, &status).await?;
    context.memory.told(&name);
    tell_of_turns(context, installation, &previous, &status);
    Ok(Told { status, rest: None })
}

/// What is told where the present spec isn't followed; `running` is the mesh that is looked after meanwhile.
pub const fn blocked(blocker: Blocker, running: Option<&Health>) -> Course<'_> {
    if passes(blocker.reason) {
        Course::Hindered { blocker, proved: false, running }
    } else {
        Course::Stalled { blocker, running }
    }
}

/// What came of a report.
pub struct Told {
    /// The newest status, written or not.
    pub status: MeshInstallationStatus,
    /// Progress that is held back: tell it after this long.
    rest: Option<Duration>,
}

impl Told {
    /// When to come again: after `interval`, or before that if something is still to be told.
    pub fn again(&self, interval: Duration) -> Action {
        Action::requeue(self.rest.map_or(interval, |rest| rest.min(interval)))
    }
}

async fn write(
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
        // Deleted meanwhile, or another of that name: nobody is left to be told.
        Err(kube::Error::Api(answer)) if answer.is_not_found() || answer.is_conflict() => Ok(()),
        Err(source) => Err(ReconcileError::Status { name, source: Box::new(source) }),
    }
}

/// An Event for each turn of Ready.
fn tell_of_turns(
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
        || [Reason::Forbidden, Reason::RegistryFailed].map(Reason::as_str).contains(&now.reason.as_str())
    {
        EventType::Warning
    } else {
        EventType::Normal
    };
    let Some(reason) = Reason::ALL.iter().copied().find(|reason| reason.as_str() == now.reason) else { return };
    context.events.publish(installation, type_, reason, "Reconcile", &now.message);
}

/// An Event for each object that was brought back or put right in a mesh that was ready.
fn tell_of_heals(context: &Context, installation: &MeshInstallation, course: &Course<'_>) {
    let Course::Followed { plan, proved: true, .. } = course else { return };
    for (key, action) in &plan.state.written {
        let what = match action {
            plan::Action::Keep => continue,
            plan::Action::Adopt(_) | plan::Action::Overwrite(_) => "is the installation's now".to_owned(),
            plan::Action::Create => "was missing and is back".to_owned(),
            plan::Action::Update(fields) => format!("was put right: {}", fields.join(", ")),
            plan::Action::TakeOut(paths) => format!("had additions, which were taken out: {}", paths.join(", ")),
        };
        context.metrics.healed(key.kind.name());
        let action = format!("Heal{}", key.kind.name());
        context.events.publish(installation, EventType::Normal, Reason::Healed, &action, &format!("{key} {what}"));
    }
}
