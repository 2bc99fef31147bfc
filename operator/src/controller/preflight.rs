//! Checks before the first write for a new spec, with one more before an upgrade to another release.

use std::sync::Arc;

use kube::ResourceExt as _;
use meshwright_api::conditions::Reason;
use meshwright_api::{MeshInstallation, OnFailure};
use tracing::debug;

use super::cluster_scoped::check_cluster_scoped;
use super::context::Context;
use super::plan_conflicts::plan_conflict;
use super::releases::is_transient;
use super::resolve::resolve_record;
use super::resolved_revision::ResolvedRevision;
use super::rollout_target::{RolloutTarget, last_known_good};
use crate::apply::ErrorClass;
use crate::mesh::health::Blocker;
use crate::mesh::object::{Component, DesiredObject};
use crate::mesh::observed::{ObjectState, ObservedObject, ObservedObjects};
use crate::mesh::plan::plan;
use crate::mesh::rbac::{RequiredPermissions, sentence};
use crate::mesh::revision::RevisionRecord;
use crate::mesh::rollup::{blocker_of, reason_of};
use crate::runtime::requests::api_error_message;

/// Checks whether a revision can be rolled out. A revision whose rollout has started is not checked again; a first one
/// only for permissions and cluster-scoped resources.
pub async fn preflight(
    context: &Context,
    installation: &MeshInstallation,
    records: &[RevisionRecord],
    accepted: &ResolvedRevision,
) -> Result<(), Blocker> {
    let name = installation.name_any();
    let record = accepted.inputs.revision_name(&name);
    if records.last().is_some_and(|last| last.name == record) {
        return Ok(());
    }
    let active = RolloutTarget::of(records).map(|target| target.target());
    check_cluster_scoped(context, installation, active, accepted).await?;
    check_permissions(context, &name, accepted).await?;
    let Some(active) = active else { return Ok(()) };
    let same_release =
        active.inputs.version == accepted.inputs.version && active.inputs.charts == accepted.inputs.charts;
    if !same_release {
        check_rollback(context, installation, records, accepted).await?;
    }
    context.reader.complete(&name, &accepted.desired).await.map_err(|error| blocker_of(&error))?;
    let live = context.inventory.snapshot(&name, &accepted.desired);
    let (owner, adoption) = (&accepted.validated.owner, installation.spec.adoption);
    let prepared = plan(&accepted.desired, &live, owner, &context.existing(), true, adoption);
    if let Some(blocker) = plan_conflict(&prepared) {
        return Err(blocker);
    }
    dry_run(context, accepted, &live).await
}

/// Checks the operator's permissions for all pending writes.
async fn check_permissions(context: &Context, name: &str, accepted: &ResolvedRevision) -> Result<(), Blocker> {
    let live = context.inventory.snapshot(name, &accepted.desired);
    let namespaces = context.permissions.install_namespaces(&accepted.validated.namespace);
    let all = without_add_ons(accepted).map(Arc::as_ref);
    let required = RequiredPermissions::to_write(&namespaces, all, |desired| is_to_be_written(desired, &live));
    let missing = match context.permissions.missing(&required).await {
        Ok(missing) if missing.is_empty() => return Ok(()),
        Ok(missing) => missing,
        Err(error) => {
            debug!(installation = name, why = api_error_message(&error), "checking permissions failed; continuing");
            return Ok(());
        }
    };
    // Deleting a namespace deletes its Roles; NamespaceTerminating reports that.
    if context.reader.complete(name, &accepted.desired).await.is_ok() {
        let live = context.inventory.snapshot(name, &accepted.desired);
        let is_terminating =
            |live: &ObservedObject| matches!(live.state, ObjectState::Namespace { terminating: true, .. });
        if live.values().any(is_terminating) {
            return Ok(());
        }
    }
    let message = format!(
        "{}. Nothing was written; apply the output of meshwright rbac for this catalog and these namespaces",
        sentence(&missing)
    );
    Err(Blocker { reason: Reason::Forbidden, message })
}

/// All desired objects except those of add-ons, which do not block a mesh.
fn without_add_ons(accepted: &ResolvedRevision) -> impl Iterator<Item = &Arc<DesiredObject>> {
    accepted.desired.iter().filter(|desired| !matches!(desired.component, Component::AddOn(_)))
}

fn is_to_be_written(desired: &DesiredObject, live: &ObservedObjects) -> bool {
    live.get(&desired.key).is_none_or(|live| live.ownership.hash.as_deref() != Some(&desired.hash))
}

/// Checks that the last known good revision can be rendered again for a rollback.
async fn check_rollback(
    context: &Context,
    installation: &MeshInstallation,
    records: &[RevisionRecord],
    accepted: &ResolvedRevision,
) -> Result<(), Blocker> {
    if accepted.inputs.spec.upgrade.on_failure == OnFailure::Halt {
        return Ok(());
    }
    let Some(good) = last_known_good(records) else { return Ok(()) };
    match resolve_record(context, installation, good).await {
        Ok(_) => Ok(()),
        Err(error) if is_transient(error.reason) => Err(error),
        Err(error) => Err(no_rollback(good, &error)),
    }
}

/// The blocker for an upgrade that could not be rolled back, since `good` can't be rendered again.
#[must_use]
pub fn no_rollback(good: &RevisionRecord, error: &Blocker) -> Blocker {
    let message = format!(
        "the upgrade could not be rolled back to {version}. Rendering the current revision failed: {}; restore \
         {version} in the catalog, or set spec.upgrade.onFailure to Halt",
        error.message,
        version = good.inputs.version
    );
    Blocker { reason: Reason::UpgradeNotAllowed, message }
}

/// Sends all changed objects in a dry run, so that a rejection by API server, admission policies or RBAC is known
/// before the rollout starts. It also finds CRDs that drop a stored version.
async fn dry_run(context: &Context, accepted: &ResolvedRevision, live: &ObservedObjects) -> Result<(), Blocker> {
    // Adoption compares unmanaged objects itself, and says how to resolve the differences.
    let is_unmanaged =
        |desired: &DesiredObject| live.get(&desired.key).is_some_and(|live| live.ownership.installation.is_none());
    let changed = without_add_ons(accepted).filter(|desired| is_to_be_written(desired, live) && !is_unmanaged(desired));
    let rejected = context.applier.dry_run(changed.cloned().collect()).await;
    let Some(first) = rejected.iter().find(|error| {
        // Node ports are assigned and freed during the rollout, which a dry run doesn't see.
        matches!(error.class(), ErrorClass::Forbidden | ErrorClass::Invalid) && error.port_rejection().is_none()
    }) else {
        return Ok(());
    };
    let more = if rejected.len() > 1 { format!(" (and {} more)", rejected.len() - 1) } else { String::new() };
    let message = format!("a dry run of {} was rejected. Nothing was written: {first}{more}", accepted.inputs.version);
    let reason = match first.class() {
        ErrorClass::Forbidden => Reason::Forbidden,
        class => reason_of(class),
    };
    Err(Blocker { reason, message })
}
