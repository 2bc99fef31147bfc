//! What is looked at before a running mesh is moved to another release, while nothing is written yet.

use kube::ResourceExt as _;
use meshwright_api::conditions::Reason;
use meshwright_api::{MeshInstallation, OnFailure};

use super::context::Context;
use super::follow::foreign;
use super::heading::{Heading, last_good};
use super::resolve::{Accepted, resolve_remembered};
use crate::apply::ErrorClass;
use crate::mesh::health::Blocker;
use crate::mesh::plan::{Refusal, plan};
use crate::mesh::revision::Record;
use crate::mesh::rollup::{failure, reason_of};

/// Whether a running mesh can be moved to what is accepted. Nothing is asked of a spec that was begun with, of a first
/// one, or of one with the same release.
pub async fn preflight(
    context: &Context,
    installation: &MeshInstallation,
    records: &[Record],
    accepted: &Accepted,
) -> Result<(), Blocker> {
    let name = installation.name_any();
    let Some(standing) = Heading::of(records).map(|heading| heading.target()) else { return Ok(()) };
    let record = accepted.inputs.record_name(&name);
    let begun = records.last().is_some_and(|last| last.name == record);
    if begun || standing.inputs.version == accepted.inputs.version {
        return Ok(());
    }
    way_back(context, installation, records, accepted).await?;
    context.reader.complete(&name, &accepted.desired).await.map_err(|error| failure(&error))?;
    let live = context.inventory.snapshot(&name, &accepted.desired);
    let prepared = plan(&accepted.desired, &live, &accepted.validated.owner, &context.existing(), true);
    if prepared.refusals.iter().any(|refusal| matches!(refusal, Refusal::Foreign { .. })) {
        return Err(Blocker { reason: Reason::ForeignObject, message: foreign(&prepared) });
    }
    rehearse(context, accepted, &live).await
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
async fn rehearse(
    context: &Context,
    accepted: &Accepted,
    live: &crate::mesh::live::LiveObjects,
) -> Result<(), Blocker> {
    let changed = accepted
        .desired
        .iter()
        .filter(|desired| live.get(&desired.key).is_none_or(|live| live.marks.hash.as_deref() != Some(&desired.hash)));
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
