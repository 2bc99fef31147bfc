//! Deletion: the finalizer is the only way in which objects go. Works from marks alone, so that a broken spec or a
//! missing catalog never holds it up.

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

use super::beside::{beside, tell_others};
use super::cluster_objects::{left_to_others, spare, still_called};
use super::context::{Context, FINALIZER};
use super::error::ReconcileError;
use super::outcome::SOON;
use super::proxies::users;
use super::report::report;
use crate::apply::ApplyError;
use crate::mesh::health::Blocker;
use crate::mesh::kind::Kind;
use crate::mesh::live::LiveObjects;
use crate::mesh::object::{Component, ObjectKey};
use crate::mesh::rollup::Course;
use crate::mesh::tags::{Standing, awaited};
use crate::mesh::uninstall::Removal;
use crate::mesh::uninstall::{Teardown, next};
use crate::proxies::InUse;

/// Requests at a time.
const CONCURRENCY: usize = 8;
/// How often pods with a proxy are counted while they hold a deletion up: they are not watched.
const IN_USE_INTERVAL: Duration = Duration::from_secs(5);
/// Watches bring us back sooner; this is for what they miss.
const NEXT_LOOK: Duration = Duration::from_secs(2);

/// Takes the next step of a deletion.
pub async fn finalize(installation: &MeshInstallation, context: &Context) -> Result<Action, ReconcileError> {
    if !installation.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(Action::await_change());
    }
    let name = installation.name_any();
    let uid = installation.uid().unwrap_or_default();
    let mut live = context.inventory.snapshot(&name, &[]);
    live.retain(|_, live| live.marks.uid.as_deref().is_none_or(|mark| mark == uid));
    spare(context, &mut live);
    if context.memory.is_news(installation) {
        tell_others(installation, context);
    }
    if installation.spec.deletion.policy == DeletionPolicy::Orphan {
        return orphan(installation, context, &live).await;
    }
    let waits = installation.spec.deletion.while_in_use == InUsePolicy::Wait;
    let begun = live.values().any(|live| live.deleting) || !live.keys().any(|key| key.kind == Kind::Deployment);
    if waits && !begun {
        let ambient = live.values().any(|live| live.marks.component == Some(Component::Ztunnel));
        let users = users(context, &name, &context.revision_names(installation), ambient).await;
        let users = users.map_err(|e| ReconcileError::InUse(Box::new(e)))?;
        let pods = users.total();
        if pods > 0 {
            let message =
                format!("{}; restart them without it, or set spec.deletion.whileInUse to Proceed", still(users));
            let blocker = Blocker { reason: Reason::ProxiesPresent, message };
            report(context, installation, Course::Uninstalling { blocker, in_use: Some(pods) }, None).await?;
            return Ok(Action::requeue(IN_USE_INTERVAL));
        }
    }
    let beside = beside(installation, context);
    let injectors = context.inventory.injectors();
    let moving = awaited(&live, Standing { beside: &beside, injectors: &injectors });
    if waits && !moving.is_empty() {
        let tags: Vec<String> = moving.into_iter().collect();
        let message = format!(
            "another installation takes over the tags {}; the mesh is removed when that one answers for them, or at once with \
             spec.deletion.whileInUse: Proceed",
            tags.join(", ")
        );
        let blocker = Blocker { reason: Reason::Uninstalling, message };
        let told = report(context, installation, Course::Uninstalling { blocker, in_use: None }, None).await?;
        return Ok(told.again(NEXT_LOOK));
    }
    live.retain(|key, live| !beside.is_needed(key, live));
    let alone = beside.staying().next().is_none();
    let delete_definitions = installation.spec.deletion.crds == CrdPolicy::Delete && alone;
    if let Some(blocker) = still_called(context, &live).await? {
        let told = report(context, installation, Course::Uninstalling { blocker, in_use: None }, None).await?;
        return Ok(told.again(NEXT_LOOK));
    }
    match next(&live, delete_definitions) {
        Teardown::Delete(removals) => {
            tell(installation, context, &removals).await?;
            delete_all(context, removals).await?;
            Ok(Action::requeue(NEXT_LOOK))
        }
        Teardown::Wait(keys) => {
            let named: Vec<String> = keys.iter().take(5).map(ToString::to_string).collect();
            let more = if keys.len() > named.len() {
                format!(" and {} more", keys.len() - named.len())
            } else {
                String::new()
            };
            let message =
                format!("the mesh is being removed; waiting until these are gone: {}{more}", named.join(", "));
            let blocker = Blocker { reason: Reason::Uninstalling, message };
            let told = report(context, installation, Course::Uninstalling { blocker, in_use: None }, None).await?;
            Ok(told.again(NEXT_LOOK))
        }
        Teardown::Release(keys) => {
            release_all(context, keys).await?;
            Ok(Action::requeue(SOON))
        }
        Teardown::Done => finish(installation, context, Reason::Uninstalled).await,
    }
}

/// What holds a deletion up.
fn still(users: InUse) -> String {
    match users {
        InUse { proxies, ambient: 0 } => format!("{proxies} pods still have a proxy of this mesh"),
        InUse { proxies: 0, ambient } => format!("{ambient} pods still go through this mesh's ztunnel"),
        InUse { proxies, ambient } => {
            format!("{proxies} pods still have a proxy of this mesh, and {ambient} go through its ztunnel")
        }
    }
}

async fn tell(installation: &MeshInstallation, context: &Context, removals: &[Removal]) -> Result<(), ReconcileError> {
    info!(installation = installation.name_any(), objects = removals.len(), "deleting");
    let blocker = Blocker { reason: Reason::Uninstalling, message: "the mesh is being removed".into() };
    report(context, installation, Course::Uninstalling { blocker, in_use: None }, None).await.map(drop)
}

async fn delete_all(context: &Context, removals: Vec<Removal>) -> Result<(), ReconcileError> {
    let deletes = stream::iter(removals).map(|removal| async move { context.applier.delete(&removal).await });
    all(deletes.buffer_unordered(CONCURRENCY)).await
}

async fn release_all(context: &Context, keys: Vec<ObjectKey>) -> Result<(), ReconcileError> {
    let releases = stream::iter(keys).map(|key| async move { context.applier.release(&key).await });
    all(releases.buffer_unordered(CONCURRENCY)).await
}

/// Lets all requests end, and tells of the first that failed.
async fn all(results: impl futures::Stream<Item = Result<(), ApplyError>>) -> Result<(), ReconcileError> {
    let results: Vec<_> = results.collect().await;
    results.into_iter().collect::<Result<(), _>>().map_err(ReconcileError::Object)
}

async fn orphan(
    installation: &MeshInstallation,
    context: &Context,
    live: &LiveObjects,
) -> Result<Action, ReconcileError> {
    if live.is_empty() {
        return finish(installation, context, Reason::Orphaned).await;
    }
    release_all(context, live.keys().cloned().collect()).await?;
    Ok(Action::requeue(SOON))
}

/// Forgets the installation, tells what istiod left behind, and lets the resource go.
async fn finish(installation: &MeshInstallation, context: &Context, reason: Reason) -> Result<Action, ReconcileError> {
    let name = installation.name_any();
    context.revisions.erase(&name).await.map_err(ReconcileError::Memory)?;
    let beside = beside(installation, context);
    let note = match reason {
        Reason::Uninstalled => {
            // In a namespace with another's control plane, what is there is that one's.
            let shared = beside.staying().any(|peer| peer.namespace == installation.spec.namespace);
            let left = if shared { Vec::new() } else { context.reader.left_behind(&installation.spec.namespace).await };
            let left = if left.is_empty() { "nothing".to_owned() } else { left.join(", ") };
            let kept = match beside.staying().next() {
                Some(peer) if installation.spec.deletion.crds == CrdPolicy::Delete => {
                    format!("; Istio's CRDs stay, since installation {} needs them", peer.name)
                }
                _ => String::new(),
            };
            let others = left_to_others(context, &name);
            format!("the mesh is removed; istiod left behind: {left}{kept}{others}")
        }
        _ => "the mesh goes on running without an operator".to_owned(),
    };
    context.events.publish(installation, EventType::Normal, reason, "Delete", &note);
    info!(installation = name, note, "finished");
    tell_others(installation, context);
    context.memory.forget(&name);
    context.releases.forget(&name);
    context.proxies.note(&name, None);
    context.prober.forget(&name);
    let finalizers: Vec<&String> = installation.finalizers().iter().filter(|f| *f != FINALIZER).collect();
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": installation.resource_version()}});
    let api: Api<MeshInstallation> = Api::all(context.clients.requests.clone());
    match api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => Ok(Action::await_change()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Action::await_change()),
        Err(source) => Err(ReconcileError::Finalizer { name, source: Box::new(source) }),
    }
}
