//! Checks before the first write for a new spec, with one more before an upgrade to another release.

use std::sync::Arc;

use kube::ResourceExt as _;
use meshwright_api::conditions::Reason;
use meshwright_api::{MeshInstallation, OnFailure};
use tracing::{debug, warn};

use super::cluster_scoped::check_cluster_scoped;
use super::context::Context;
use super::plan_conflicts::plan_conflict;
use super::releases::is_transient;
use super::resolve::resolve_record_from_catalog;
use super::resolved_revision::ResolvedRevision;
use super::rollout_target::{RolloutTarget, last_known_good};
use crate::apply;
use crate::mesh::dry_run::{self, DryRunSelection};
use crate::mesh::health::Blocker;
use crate::mesh::object::{Component, DesiredObject};
use crate::mesh::observed::{ObjectState, ObservedObject, ObservedObjects};
use crate::mesh::plan::{Plan, Prepared, plan};
use crate::mesh::rbac::{RequiredPermissions, sentence};
use crate::mesh::revision::RevisionRecord;
use crate::mesh::rollup::blocker_of;
use crate::runtime::requests::api_error_message;

/// After this many incomplete dry runs in a row, a rollout starts without: writes are retried anyway.
const MAX_INCOMPLETE: u32 = 3;

/// Checks whether a revision can be rolled out. A revision whose rollout has started is not checked again.
pub async fn preflight(
    context: &Context,
    installation: &MeshInstallation,
    records: &[RevisionRecord],
    accepted: &ResolvedRevision,
) -> Result<(), Blocker> {
    let name = installation.name_any();
    let record = accepted.inputs.revision_name(&name);
    if records.last().is_some_and(|last| last.name == record) {
        context.cache.forget_dry_runs(&name);
        return Ok(());
    }
    let active = RolloutTarget::of(records).map(|target| target.target());
    check_cluster_scoped(context, installation, active, accepted).await?;
    let is_same_release = |active: &RevisionRecord| {
        active.inputs.version == accepted.inputs.version && active.inputs.charts == accepted.inputs.charts
    };
    let permissions = check_permissions(context, &name, accepted);
    let read = context.reader.complete(&name, &accepted.desired);
    let read = if let Some(active) = active {
        permissions.await?;
        if !is_same_release(active) {
            check_rollback(context, installation, records, accepted).await?;
        }
        read.await
    } else {
        // Objects that are compared with the desired state now are not read again in this reconcile.
        context.inventory.expect(&name, &accepted.all());
        let (permissions, read) = tokio::join!(permissions, read);
        permissions?;
        read
    };
    match read {
        Err(error) if active.is_some() => return Err(blocker_of(&error)),
        // The reconcile of a first revision reports errors and conflicts itself, with the objects that exist.
        Err(_) => return Ok(()),
        Ok(()) => {}
    }
    let live = context.inventory.snapshot(&name, &accepted.desired);
    let (owner, adoption) = (&accepted.validated.owner, installation.spec.adoption);
    let prepared = plan(&accepted.desired, &live, owner, &context.existing(), true, adoption);
    if !prepared.conflicts.is_empty() {
        return active.and_then(|_| plan_conflict(&prepared)).map_or(Ok(()), Err);
    }
    dry_run(context, &name, accepted, &prepared, &live).await
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
    // A cached render would not survive a restart of the operator.
    match resolve_record_from_catalog(context, installation, good).await {
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
async fn dry_run(
    context: &Context,
    name: &str,
    accepted: &ResolvedRevision,
    prepared: &Plan<Prepared>,
    live: &ObservedObjects,
) -> Result<(), Blocker> {
    let version = &accepted.inputs.version;
    let DryRunSelection { requests, not_checked } = DryRunSelection::of(prepared, live);
    let (due, mut rejections) = context.cache.due_dry_runs(name, requests);
    let results = apply::dry_run(&context.clients.requests, due).await;
    let incomplete = context.cache.store_dry_run(name, &results);
    debug!(installation = name, ?not_checked, accepted = results.accepted.len(), "dry run");
    rejections.extend(results.rejected.into_iter().map(|(_, rejection)| rejection));
    rejections.sort_by(|a, b| a.key.cmp(&b.key));
    if let Some(blocker) = dry_run::blocker(version, &rejections) {
        return Err(blocker);
    }
    match results.failure {
        Some(failure) if incomplete <= MAX_INCOMPLETE => {
            let message = format!("a dry run of {version} was not completed and is repeated: {failure}");
            Err(Blocker { reason: Reason::APIServerUnavailable, message })
        }
        Some(failure) => {
            warn!(installation = name, failure, "starting the rollout without a complete dry run");
            Ok(())
        }
        None => Ok(()),
    }
}
