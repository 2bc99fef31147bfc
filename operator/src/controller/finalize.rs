//! Uninstall, driven by the finalizer. It needs only the inventories of the revision records and the ownership metadata
//! of live objects, so that neither an invalid spec nor a missing catalog blocks it.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use meshwright_api::conditions::Reason;
use meshwright_api::{CrdPolicy, DeletionPolicy, InUsePolicy, MeshInstallation};
use serde_json::json;
use tracing::info;

use super::cluster_scoped::{blocking_webhooks, drop_cluster_scoped, remaining_cluster_scoped};
use super::context::{Context, FINALIZER};
use super::error::ReconcileError;
use super::outcome::SOON;
use super::owned_objects::{remaining_objects, warn_of_unknown_owners};
use super::peers::{peer_set, requeue_peers};
use super::proxies::users;
use super::report::{StatusUpdate, report};
use crate::apply::ApplyError;
use crate::mesh::health::{Blocker, Health};
use crate::mesh::object::{Component, ObjectKey};
use crate::mesh::observed::ObservedObjects;
use crate::mesh::owned_objects::lookalike_warning;
use crate::mesh::peers::PeerSet;
use crate::mesh::rollup::ReconcileOutcome;
use crate::mesh::tags::{TagOwnership, awaited_tags};
use crate::mesh::text::abbreviate;
use crate::mesh::uninstall::Removal;
use crate::mesh::uninstall::{Teardown, next};
use crate::proxies::MeshUsage;
use crate::runtime::requests::within_deadline;

/// The most concurrent requests.
const CONCURRENCY: usize = 8;
/// Interval for counting pods with a proxy while they block the uninstall.
const IN_USE_INTERVAL: Duration = Duration::from_secs(5);
/// Watches requeue sooner; this interval covers missed events.
const RECHECK: Duration = Duration::from_secs(2);

/// Annotation of a MeshInstallation whose uninstall has started: its UID. Nothing is inferred from live objects, since
/// another client may delete some of them while the uninstall still waits.
const UNINSTALL_STARTED: &str = "meshwright.dev/uninstall-started";

/// What a deletion needs next.
pub enum Finalized {
    /// A step was taken; requeue.
    Step(Action),
    /// The uninstall has to wait: the mesh is reconciled until then.
    Waits(UninstallHold),
}

/// Why an uninstall has not started.
pub struct UninstallHold {
    /// Reason and message for Ready.
    pub blocker: Blocker,
    /// How many pods use the mesh.
    pub in_use: Option<usize>,
    /// When to check again.
    pub recheck: Duration,
}

impl UninstallHold {
    /// The outcome to report, with the health of the mesh if it was reconciled.
    pub fn outcome<'h>(&self, running: Option<&'h Health>) -> ReconcileOutcome<'h> {
        ReconcileOutcome::Uninstalling { blocker: self.blocker.clone(), in_use: self.in_use, running }
    }
}

/// Runs the next step of a deletion.
pub async fn finalize(installation: &MeshInstallation, context: &Context) -> Result<Finalized, ReconcileError> {
    if !installation.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(Finalized::Step(Action::await_change()));
    }
    let peer_set = peer_set(installation, context);
    let live = live_objects(installation, context, &peer_set).await?;
    if context.cache.is_new_generation(installation) {
        requeue_peers(installation, context);
    }
    if installation.spec.deletion.policy == DeletionPolicy::Orphan {
        return orphan(installation, context, &live).await.map(Finalized::Step);
    }
    let started = live.is_empty() || has_started(installation);
    if !started {
        if let Some(hold) = hold(installation, context, &live, &peer_set).await? {
            return Ok(Finalized::Waits(hold));
        }
        return record_start(installation, context).await.map(Finalized::Step);
    }
    uninstall(installation, context, live, &peer_set).await.map(Finalized::Step)
}

/// The installation's objects. Once no other than shared ones are left in the cache, which may lag behind, they are read
/// from the API server: CRDs are deleted and the finalizer is removed only then.
async fn live_objects(
    installation: &MeshInstallation,
    context: &Context,
    peer_set: &PeerSet,
) -> Result<ObservedObjects, ReconcileError> {
    let name = installation.name_any();
    let owned = context.inventory.owned(&name);
    let mut live = context.inventory.snapshot(&name, &[]);
    live.retain(|_, live| owned.is_marked(&live.ownership));
    drop_cluster_scoped(context, &mut live);
    if live.iter().any(|(key, live)| !key.kind.shared() && !peer_set.is_needed_by_peer(key, live)) {
        return Ok(live);
    }
    remaining_objects(context, installation).await
}

/// Whether the uninstall of the MeshInstallation with this UID has started; afterwards drift is not reverted. A value
/// that was restored from a backup has another UID.
fn has_started(installation: &MeshInstallation) -> bool {
    installation.annotations().get(UNINSTALL_STARTED).is_some_and(|uid| installation.uid().as_ref() == Some(uid))
}

async fn record_start(installation: &MeshInstallation, context: &Context) -> Result<Action, ReconcileError> {
    let (name, uid) = (installation.name_any(), installation.uid());
    let patch = json!({"metadata": {"uid": uid, "annotations": {UNINSTALL_STARTED: uid}}});
    let api: Api<MeshInstallation> = Api::all(context.clients.requests.clone());
    match within_deadline(api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch))).await {
        // The change of the annotation requeues.
        Ok(_) => Ok(Action::requeue(RECHECK)),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Action::await_change()),
        Err(source) => Err(ReconcileError::Finalizer { name, source: Box::new(source) }),
    }
}

/// Why the uninstall must not start yet. Before it starts, objects that the cache lacks are read: that of a new leader
/// may lag behind, and ztunnel and tags decide.
async fn hold(
    installation: &MeshInstallation,
    context: &Context,
    live: &ObservedObjects,
    peer_set: &PeerSet,
) -> Result<Option<UninstallHold>, ReconcileError> {
    if installation.spec.deletion.while_in_use != InUsePolicy::Wait {
        return Ok(None);
    }
    if let Some(hold) = hold_of(installation, context, live, peer_set).await? {
        return Ok(Some(hold));
    }
    let existing = remaining_objects(context, installation).await?;
    if existing.keys().all(|key| live.contains_key(key)) {
        return Ok(None);
    }
    hold_of(installation, context, &existing, peer_set).await
}

/// Why a mesh with these objects must not be uninstalled yet.
async fn hold_of(
    installation: &MeshInstallation,
    context: &Context,
    live: &ObservedObjects,
    peer_set: &PeerSet,
) -> Result<Option<UninstallHold>, ReconcileError> {
    let name = installation.name_any();
    // Pods of the revisions that the operator has named count, too.
    context.revision_history.of(&name).await.map_err(ReconcileError::RevisionHistory)?;
    let ambient = live.values().any(|live| live.ownership.component == Some(Component::Ztunnel));
    let users = users(context, &name, &context.revision_names(installation), ambient).await;
    let users = users.map_err(|e| ReconcileError::InUse(Box::new(e)))?;
    let pods = users.total();
    if pods > 0 {
        let message = format!(
            "{}. Disable injection and restart them, or set spec.deletion.whileInUse to Proceed",
            pods_in_use(users)
        );
        let blocker = Blocker { reason: Reason::ProxiesPresent, message };
        return Ok(Some(UninstallHold { blocker, in_use: Some(pods), recheck: IN_USE_INTERVAL }));
    }
    let injectors = context.inventory.injectors();
    let moving = awaited_tags(live, TagOwnership { peers: peer_set, injectors: &injectors });
    if moving.is_empty() {
        return Ok(None);
    }
    let tags: Vec<String> = moving.into_iter().collect();
    let next = match peer_set.unreadable().next() {
        Some(peer) => format!(
            "MeshInstallation {} can't be read and may list them: correct its spec, or set spec.deletion.whileInUse to \
             Proceed",
            peer.name
        ),
        None => "The uninstall continues once its webhooks serve them, or immediately with spec.deletion.whileInUse: \
                 Proceed"
            .to_owned(),
    };
    let message = format!("waiting for another installation to take over the tags {}. {next}", abbreviate(&tags));
    Ok(Some(UninstallHold {
        blocker: Blocker { reason: Reason::Uninstalling, message },
        in_use: None,
        recheck: RECHECK,
    }))
}

/// Deletes the mesh, one stage per call.
async fn uninstall(
    installation: &MeshInstallation,
    context: &Context,
    mut live: ObservedObjects,
    peer_set: &PeerSet,
) -> Result<Action, ReconcileError> {
    live.retain(|key, live| !peer_set.is_needed_by_peer(key, live));
    let alone = peer_set.remaining().next().is_none();
    let delete_crds = installation.spec.deletion.crds == CrdPolicy::Delete && alone;
    if let Some(blocker) = blocking_webhooks(context, &live).await? {
        let update = report_uninstall(installation, context, blocker).await;
        return Ok(update.requeue(RECHECK));
    }
    match next(&live, delete_crds) {
        Teardown::Delete(removals) => {
            info!(installation = installation.name_any(), objects = removals.len(), "deleting");
            let blocker = Blocker { reason: Reason::Uninstalling, message: "the mesh is being removed".into() };
            report_uninstall(installation, context, blocker).await;
            delete_all(context, removals).await?;
            Ok(Action::requeue(RECHECK))
        }
        Teardown::Wait(keys) => {
            let message = format!("the mesh is being removed. Waiting for the deletion of {}", abbreviate(&keys));
            let blocker = Blocker { reason: Reason::Uninstalling, message };
            Ok(report_uninstall(installation, context, blocker).await.requeue(RECHECK))
        }
        Teardown::Release(keys) => {
            release_all(context, keys).await?;
            Ok(Action::requeue(SOON))
        }
        Teardown::Done => complete(installation, context, Reason::Uninstalled).await,
    }
}

/// Why CRDs are kept although `spec.deletion.crds` is Delete.
fn kept_crds(peer_set: &PeerSet) -> Option<String> {
    let name = &peer_set.remaining().next()?.name;
    let needs = if peer_set.unreadable().any(|peer| peer.name == *name) {
        "can't be read and may need them"
    } else {
        "needs them"
    };
    Some(format!("; Istio's CRDs are kept, since installation {name} {needs}"))
}

/// Describes the pods that block the uninstall.
fn pods_in_use(users: MeshUsage) -> String {
    match users {
        MeshUsage { proxies, ambient: 0 } => format!("{proxies} pods still have a proxy of this mesh"),
        MeshUsage { proxies: 0, ambient } => format!("{ambient} pods still go through this mesh's ztunnel"),
        MeshUsage { proxies, ambient } => {
            format!("{proxies} pods still have a proxy of this mesh, and {ambient} go through its ztunnel")
        }
    }
}

/// Reports an uninstall that has started.
async fn report_uninstall(installation: &MeshInstallation, context: &Context, blocker: Blocker) -> StatusUpdate {
    report(context, installation, ReconcileOutcome::Uninstalling { blocker, in_use: None, running: None }, None).await
}

async fn delete_all(context: &Context, removals: Vec<Removal>) -> Result<(), ReconcileError> {
    let deletes = stream::iter(removals).map(|removal| async move { context.applier.delete(&removal).await });
    all(deletes.buffer_unordered(CONCURRENCY)).await
}

async fn release_all(context: &Context, keys: Vec<ObjectKey>) -> Result<(), ReconcileError> {
    let releases = stream::iter(keys).map(|key| async move { context.applier.release(&key).await });
    all(releases.buffer_unordered(CONCURRENCY)).await
}

/// Awaits all requests, and returns the first error.
async fn all(results: impl futures::Stream<Item = Result<(), ApplyError>>) -> Result<(), ReconcileError> {
    let results: Vec<_> = results.collect().await;
    results.into_iter().collect::<Result<(), _>>().map_err(ReconcileError::Object)
}

async fn orphan(
    installation: &MeshInstallation,
    context: &Context,
    live: &ObservedObjects,
) -> Result<Action, ReconcileError> {
    if live.is_empty() {
        return complete(installation, context, Reason::Orphaned).await;
    }
    release_all(context, live.keys().cloned().collect()).await?;
    Ok(Action::requeue(SOON))
}

/// Drops the installation's state, publishes the final Event and removes the finalizer.
async fn complete(
    installation: &MeshInstallation,
    context: &Context,
    reason: Reason,
) -> Result<Action, ReconcileError> {
    let name = installation.name_any();
    let is_uninstalled = matches!(reason, Reason::Uninstalled);
    // Read while the inventory is recorded, so that a failed request is repeated.
    let unknown = if is_uninstalled { warn_of_unknown_owners(context, &name).await? } else { None };
    context.revision_history.erase(&name).await.map_err(ReconcileError::RevisionHistory)?;
    let peer_set = peer_set(installation, context);
    let note = match reason {
        Reason::Uninstalled => {
            // In a namespace with a peer's control plane, istiod's Secrets and ConfigMaps belong to the peer.
            let shared = peer_set.is_namespace_of_peer(&installation.spec.namespace);
            let left = if shared { Vec::new() } else { context.reader.leftovers(&installation.spec.namespace).await };
            let left = if left.is_empty() { "nothing".to_owned() } else { left.join(", ") };
            let kept = if installation.spec.deletion.crds == CrdPolicy::Delete { kept_crds(&peer_set) } else { None };
            let kept = kept.unwrap_or_default();
            let external = remaining_cluster_scoped(context, &name);
            let lookalikes = lookalike_warning(&name, &context.inventory.lookalikes(&name));
            let prefixed = |warning: Option<String>| warning.map(|warning| format!("; {warning}")).unwrap_or_default();
            let warnings = [lookalikes, unknown].map(prefixed).concat();
            format!("the mesh is uninstalled; istiod left behind: {left}{kept}{external}{warnings}")
        }
        _ => "the mesh keeps running without an operator".to_owned(),
    };
    context.events.publish(installation, EventType::Normal, reason, "Delete", &note);
    info!(installation = name, note, "uninstall finished");
    requeue_peers(installation, context);
    context.cache.forget(&name);
    context.releases.forget(&name);
    context.proxies.forget(&name);
    context.injection_checker.forget(&name);
    context.inventory.disown(&name);
    let finalizers: Vec<&String> = installation.finalizers().iter().filter(|f| *f != FINALIZER).collect();
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": installation.resource_version()}});
    let api: Api<MeshInstallation> = Api::all(context.clients.requests.clone());
    match within_deadline(api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch))).await {
        Ok(_) => Ok(Action::await_change()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Action::await_change()),
        Err(source) => Err(ReconcileError::Finalizer { name, source: Box::new(source) }),
    }
}
