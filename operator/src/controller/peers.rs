//! The other MeshInstallations of the cluster: conflicts with them, and objects and tags that several share.

use kube::ResourceExt;
use kube::runtime::events::EventType;
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::Reason;
use tracing::info;

use super::context::Context;
use super::error::ReconcileError;
use super::resolved_revision::ResolvedRevision;
use crate::mesh::health::{Blocker, control_plane_is_available};
use crate::mesh::object::Component;
use crate::mesh::observed::ObservedObjects;
use crate::mesh::peers::{Peer, PeerSet};
use crate::mesh::plan::{Applied, Plan};
use crate::mesh::tags::{ObjectAssignment, TagOwnership, assign_objects};

/// The installation among its peers.
pub fn peer_set(installation: &MeshInstallation, context: &Context) -> PeerSet {
    let readable = PeerSet::new(Peer::of(installation), context.installations().iter().map(Peer::of));
    readable.with_unreadable(context.unreadable())
}

/// A conflict of the spec with a peer where both can run in the cluster.
pub fn peer_conflict(peer_set: &PeerSet, context: &Context) -> Option<Blocker> {
    let injectors = context.inventory.injectors();
    peer_set.conflict().or_else(|| TagOwnership { peers: peer_set, injectors: &injectors }.conflict())
}

/// Splits the objects of a revision into those that this installation writes and those that belong to a peer.
pub fn split_shared_objects(
    context: &Context,
    installation: &MeshInstallation,
    accepted: &ResolvedRevision,
) -> Result<(ResolvedRevision, ObjectAssignment), ReconcileError> {
    let name = installation.name_any();
    // Also those that a peer writes at present.
    context.inventory.add_rendered(&name, accepted.keys());
    let live = context.inventory.snapshot(&name, &accepted.desired);
    // A MeshInstallation that is deleted is reconciled only while its uninstall waits.
    let waits = installation.metadata.deletion_timestamp.is_some();
    let peer_set = peer_set(installation, context).keeping_own_tags(waits);
    let injectors = context.inventory.injectors();
    let tags = TagOwnership { peers: &peer_set, injectors: &injectors };
    // The check may have verified an older state, but its istiod is available, and a failed rollout keeps the old pods.
    let verified = context.injection_checker.is_verified(&peer_set.me().name)
        && control_plane_is_available(&accepted.desired, &live);
    let assignment = assign_objects(&accepted.desired, &accepted.validated.owner, &live, tags, verified);
    let assignment = assignment.map_err(ReconcileError::AssignObjects)?;
    let (desired, external) = (assignment.own(), assignment.externally_managed());
    Ok((ResolvedRevision { desired, external, ..accepted.clone() }, assignment))
}

/// Requeues all other MeshInstallations: after a spec change, and when a tag moves between installations.
pub fn requeue_peers(installation: &MeshInstallation, context: &Context) {
    let name = installation.name_any();
    for other in context.installations().iter().map(ResourceExt::name_any).filter(|other| *other != name) {
        context.changes.note(other);
    }
}

/// Publishes an Event for each removed tag that namespaces or pods still reference.
pub async fn warn_of_removed_tags(
    context: &Context,
    installation: &MeshInstallation,
    plan: &Plan<Applied>,
    before: &ObservedObjects,
) {
    let removed = plan.prune.iter().filter_map(|removal| match &before.get(&removal.key)?.ownership.component {
        Some(Component::Tag(tag)) if removal.key.kind == crate::mesh::kind::Kind::MutatingWebhookConfiguration => {
            Some(tag.clone())
        }
        _ => None,
    });
    for tag in removed {
        let peer_set = peer_set(installation, context);
        let injectors = context.inventory.injectors();
        if (TagOwnership { peers: &peer_set, injectors: &injectors }).owner(&tag).is_some() {
            continue;
        }
        let users = context.reader.users_of(&tag).await;
        info!(installation = installation.name_any(), tag, ?users, "a tag was removed");
        if !users.is_empty() {
            let note = format!(
                "tag {tag} was removed, so new pods that reference it get no proxy; relabel {}",
                users.join(", ")
            );
            context.events.publish(installation, EventType::Warning, Reason::TagInUse, &format!("Tag{tag}"), &note);
        }
    }
}
