//! A MeshInstallation that can't be parsed: its mesh stays as it is, and status says why.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::error_boundary::InvalidObject;
use kube::runtime::events::EventType;
use meshwright_api::conditions::Reason;
use meshwright_api::situation::Situation;
use meshwright_api::{MeshInstallation, MeshInstallationStatus, Phase};
use tracing::warn;

use super::Watched;
use super::context::Context;
use super::status_write::write_status;
use crate::catalog::error_chain;
use crate::mesh::bounds::bounded;
use crate::mesh::object::REPLACED_ANNOTATION;
use crate::mesh::renamed_fields::{in_managed_fields, message};
use crate::runtime::requests::within_deadline;

/// Reports why a MeshInstallation can't be reconciled. Failures are only logged: nothing else can be done for it.
pub async fn report_unreadable(context: &Context, watched: &Watched, invalid: &InvalidObject) {
    let note = reason(invalid);
    context.events.publish(watched, EventType::Warning, Reason::InvalidSpec, "Reconcile", &note);
    if let Err(error) = report_stalled(context, watched, &note).await {
        warn!(installation = watched.name_any(), error = error_chain(&error), "reporting an invalid spec failed");
    }
}

/// The parse error, or the renamed fields that cause it.
fn reason(invalid: &InvalidObject) -> String {
    if let Some(excess) = invalid.metadata.annotations.as_ref().and_then(|all| all.get(REPLACED_ANNOTATION)) {
        return format!("the MeshInstallation is {excess}; its mesh is left unchanged. Remove what it doesn't need");
    }
    let renamed: Vec<_> = invalid.metadata.managed_fields.iter().flatten().flat_map(in_managed_fields).collect();
    if renamed.is_empty() {
        return format!("parsing the MeshInstallation failed; its mesh is left unchanged: {}", invalid.error);
    }
    message(&renamed)
}

async fn report_stalled(context: &Context, watched: &Watched, note: &str) -> Result<(), kube::Error> {
    let resource = ApiResource::erase::<MeshInstallation>(&());
    let api: Api<DynamicObject> = Api::all_with(context.clients.requests.clone(), &resource);
    let name = watched.name_any();
    let live = within_deadline(api.get(&name)).await?;
    let previous = live.data.get("status").cloned().unwrap_or_default();
    let mut status: MeshInstallationStatus = serde_json::from_value(previous).unwrap_or_default();
    let before = status.clone();
    let generation = live.metadata.generation.unwrap_or_default();
    let now = Time(Timestamp::now());
    Situation::Stalled.write(&mut status.conditions, Reason::InvalidSpec, note, generation, &now);
    status.observed_generation = generation;
    status.phase = Some(Phase::Stalled);
    status.message = Some(note.to_owned());
    let status = bounded(status);
    if status == before {
        return Ok(());
    }
    write_status(&context.clients.requests, &name, live.uid().as_deref(), &status).await.map(drop)
}
