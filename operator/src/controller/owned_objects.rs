//! The objects of an installation: which live ones are its own, which its newest revision record lists, and which still
//! exist before the finalizer is removed.

use std::collections::BTreeSet;

use kube::ResourceExt as _;
use meshwright_api::MeshInstallation;
use tracing::{debug, warn};

use super::cluster_scoped::drop_cluster_scoped;
use super::context::Context;
use super::error::ReconcileError;
use super::resolve::resolve_record;
use crate::mesh::object::ObjectKey;
use crate::mesh::observed::ObservedObjects;
use crate::mesh::owned_objects::{OwnedObjects, unknown_owner_warning};
use crate::mesh::ownership::OwnershipMeta;
use crate::mesh::revision::ResolvedInputs;

/// Sets which live objects are the installation's own, from its revision records. Every reconcile starts with it.
pub async fn identify_objects(context: &Context, installation: &MeshInstallation) -> Result<(), ReconcileError> {
    let name = installation.name_any();
    let records = context.revision_history.of(&name).await.map_err(ReconcileError::RevisionHistory)?;
    context.inventory.own(&name, OwnedObjects::of(installation, &records));
    Ok(())
}

/// Stores what may exist after the next writes, with `target` as the objects of the revision that is reconciled: with
/// `accepted` inputs as the newest revision, and otherwise in its inventory, since a newer operator may render more
/// objects from the same inputs. A record without an inventory stays as it is.
pub async fn record_objects(
    context: &Context,
    installation: &MeshInstallation,
    target: &BTreeSet<ObjectKey>,
    accepted: Option<&ResolvedInputs>,
) -> Result<(), ReconcileError> {
    let (name, uid) = (installation.name_any(), installation.uid().unwrap_or_default());
    let history = &context.revision_history;
    let records = history.of(&name).await.map_err(ReconcileError::RevisionHistory)?;
    let newest = records.last();
    let is_stored = |inputs: &&ResolvedInputs| {
        newest.is_some_and(|newest| newest.uid == uid && newest.name == inputs.revision_name(&name))
    };
    if let Some(inputs) = accepted.filter(|inputs| !is_stored(inputs)) {
        let objects = objects_to_record(context, &name, target).await;
        return history.accept(&name, &uid, inputs, objects).await.map_err(ReconcileError::RevisionHistory);
    }
    let outdated = newest.filter(|newest| newest.objects.is_complete && !target.is_subset(&newest.objects.keys));
    let Some(newest) = outdated else { return Ok(()) };
    let objects = objects_to_record(context, &name, target).await;
    history.set_objects(&name, newest, objects).await.map_err(ReconcileError::RevisionHistory)
}

/// All objects that may exist: those of the target, those observed, and those of other revisions unless they are gone.
async fn objects_to_record(context: &Context, installation: &str, target: &BTreeSet<ObjectKey>) -> BTreeSet<ObjectKey> {
    let owned = context.inventory.owned(installation);
    let live = context.inventory.snapshot(installation, &[]);
    let mut objects = owned.keys();
    objects.extend(target.iter().cloned());
    let others = owned.of_others_than(target);
    let unseen: Vec<ObjectKey> = others.into_iter().filter(|key| !live.contains_key(key)).collect();
    match context.reader.read_metadata(unseen.clone()).await {
        Ok(found) => {
            let may_be_own = |live: &OwnershipMeta| owned.is_marked(live) || live.is_unknown();
            let exists = |key: &ObjectKey| found.get(key).is_some_and(|found| may_be_own(&found.ownership));
            for key in unseen.iter().filter(|key| !exists(key)) {
                objects.remove(key);
            }
        }
        // What can't be read may exist.
        Err(error) => debug!(installation, error = %error, "reading objects of earlier revisions failed"),
    }
    objects.extend(live.into_keys());
    objects
}

/// The installation's objects that exist according to the API server. Neither a watch that lags behind nor a label that
/// another client has removed hides them.
pub async fn remaining_objects(
    context: &Context,
    installation: &MeshInstallation,
) -> Result<ObservedObjects, ReconcileError> {
    let name = installation.name_any();
    let mut found = ObservedObjects::new();
    if !context.inventory.owned(&name).is_complete() {
        add_rendered_records(context, installation).await?;
        found = context.reader.list_labelled(&name).await.map_err(ReconcileError::Object)?;
    }
    let owned = context.inventory.owned(&name);
    found.retain(|key, live| owned.contains(key, &live.ownership));
    found.extend(context.reader.read_metadata(owned.keys()).await.map_err(ReconcileError::Object)?);
    found.retain(|_, live| owned.is_marked(&live.ownership));
    drop_cluster_scoped(context, &mut found);
    Ok(found)
}

/// The warning about objects of the inventory that an uninstall leaves, since they may belong to anyone.
pub async fn warn_of_unknown_owners(context: &Context, installation: &str) -> Result<Option<String>, ReconcileError> {
    let keys = context.inventory.owned(installation).keys();
    let found = context.reader.read_metadata(keys).await.map_err(ReconcileError::Object)?;
    let unknown = found.into_iter().filter(|(_, live)| live.ownership.is_unknown()).map(|(key, _)| key);
    Ok(unknown_owner_warning(&unknown.collect::<Vec<_>>()))
}

/// Adds the objects of revisions that were recorded without an inventory, as far as their releases are available.
async fn add_rendered_records(context: &Context, installation: &MeshInstallation) -> Result<(), ReconcileError> {
    let name = installation.name_any();
    for record in context.revision_history.of(&name).await.map_err(ReconcileError::RevisionHistory)? {
        match resolve_record(context, installation, &record).await {
            Ok(resolved) => context.inventory.add_rendered(&name, resolved.keys()),
            Err(error) => {
                warn!(installation = name, record = record.name, error = error.message, "ignoring a revision");
            }
        }
    }
    Ok(())
}
