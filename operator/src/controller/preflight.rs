//! What is looked at before anything is written for a new spec, and more before a running mesh is moved to another release.

use std::sync::Arc;

use kube::ResourceExt as _;
use meshwright_api::conditions::Reason;
use meshwright_api::{MeshInstallation, OnFailure};
use tracing::debug;

use super::accepted::Accepted;
use super::cluster_objects::are_there;
use super::context::Context;
use super::heading::{Heading, last_good};
use super::refusals::in_the_way;
use super::releases::passes;
use super::resolve::resolve_remembered;
use crate::apply::ErrorClass;
use crate::mesh::health::Blocker;
use crate::mesh::live::{Facts, Live, LiveObjects};
use crate::mesh::object::{Component, Desired};
use crate::mesh::plan::plan;
use crate::mesh::revision::Record;
use crate::mesh::rights::{Required, sentence};
use crate::mesh::rollup::{failure, reason_of};
use crate::runtime::requests::why;

/// Whether a mesh can be brought to what is accepted. Nothing is asked of a spec that was begun with; of a first one, and of
/// one with the same release and charts, no more than the rights that it takes.
pub async fn preflight(
    context: &Context,
    installation: &MeshInstallation,
    records: &[Record],
    accepted: &Accepted,
) -> Result<(), Blocker> {
    let name = installation.name_any();
    let record = accepted.inputs.record_name(&name);
    if records.last().is_some_and(|last| last.name == record) {
        return Ok(());
    }
    let standing = Heading::of(records).map(|heading| heading.target());
    are_there(context, installation, standing, accepted).await?;
    rights(context, &name, accepted).await?;
    let Some(standing) = standing else { return Ok(()) };
    if standing.inputs.version == accepted.inputs.version && standing.inputs.charts == accepted.inputs.charts {
        return Ok(());
    }
    way_back(context, installation, records, accepted).await?;
    context.reader.complete(&name, &accepted.desired).await.map_err(|error| failure(&error))?;
    let live = context.inventory.snapshot(&name, &accepted.desired);
    let (owner, adoption) = (&accepted.validated.owner, installation.spec.adoption);
    let prepared = plan(&accepted.desired, &live, owner, &context.existing(), true, adoption);
    if let Some(blocker) = in_the_way(&prepared) {
        return Err(blocker);
    }
    rehearse(context, accepted, &live).await
}

/// Whether the operator may write what is to be written.
async fn rights(context: &Context, name: &str, accepted: &Accepted) -> Result<(), Blocker> {
    let live = context.inventory.snapshot(name, &accepted.desired);
    let placement = context.rights.placement(&accepted.validated.namespace);
    let all = of_the_mesh(accepted).map(Arc::as_ref);
    let required = Required::to_write(&placement, all, |desired| is_to_be_written(desired, &live));
    let missing = match context.rights.missing(&required).await {
        Ok(missing) if missing.is_empty() => return Ok(()),
        Ok(missing) => missing,
        Err(error) => {
            debug!(installation = name, why = why(&error), "the rights can't be looked at: the writes will tell");
            return Ok(());
        }
    };
    // Rights in a namespace go with it, which is told by itself.
    if context.reader.complete(name, &accepted.desired).await.is_ok() {
        let live = context.inventory.snapshot(name, &accepted.desired);
        let is_ending = |live: &Live| matches!(live.facts, Facts::Namespace { terminating: true, .. });
        if live.values().any(is_ending) {
            return Ok(());
        }
    }
    let message = format!(
        "nothing was written, since rights are missing: {}. Apply what meshwright rbac prints for this catalog and these \
         namespaces",
        sentence(&missing)
    );
    Err(Blocker { reason: Reason::Forbidden, message })
}

/// All that is desired but add-ons, which hinder no mesh.
fn of_the_mesh(accepted: &Accepted) -> impl Iterator<Item = &Arc<Desired>> {
    accepted.desired.iter().filter(|desired| !matches!(desired.component, Component::AddOn(_)))
}

fn is_to_be_written(desired: &Desired, live: &LiveObjects) -> bool {
    live.get(&desired.key).is_none_or(|live| live.marks.hash.as_deref() != Some(&desired.hash))
}

/// What ran last must be there to go back to.
async fn way_back(
    context: &Context,
    installation: &MeshInstallation,
    records: &[Record],
    accepted: &Accepted,
) -> Result<(), Blocker> {
    if accepted.inputs.spec.upgrade.on_failure == OnFailure::Halt {
        return Ok(());
    }
    let Some(good) = last_good(records) else { return Ok(()) };
    match resolve_remembered(context, installation, good).await {
        Ok(_) => Ok(()),
        Err(lost) if passes(lost.reason) => Err(lost),
        Err(lost) => Err(no_way_back(good, &lost)),
    }
}

/// Why a mesh isn't moved where `good`, which was Ready last, can't be made again.
#[must_use]
pub fn no_way_back(good: &Record, lost: &Blocker) -> Blocker {
    let message = format!(
        "there would be no way back, since what runs can't be made again: {}. Bring {} back into the catalog, or set \
         spec.upgrade.onFailure to Halt",
        lost.message, good.inputs.version
    );
    Blocker { reason: Reason::UpgradeRefused, message }
}

/// Every object is sent in a dry run: what the API server, its policies or our rights refuse is known before anything is
/// half-done. So are CRDs that drop a version in which objects are stored.
async fn rehearse(context: &Context, accepted: &Accepted, live: &LiveObjects) -> Result<(), Blocker> {
    let changed = of_the_mesh(accepted).filter(|desired| is_to_be_written(desired, live));
    let refused = context.applier.rehearse(changed.cloned().collect()).await;
    let Some(first) = refused.iter().find(|error| matches!(error.class(), ErrorClass::Forbidden | ErrorClass::Invalid))
    else {
        return Ok(());
    };
    let more = if refused.len() > 1 { format!(" (and {} more)", refused.len() - 1) } else { String::new() };
    let message = format!("{} is refused before anything was written: {first}{more}", accepted.inputs.version);
    let reason = match first.class() {
        ErrorClass::Forbidden => Reason::Forbidden,
        class => reason_of(class),
    };
    Err(Blocker { reason, message })
}
