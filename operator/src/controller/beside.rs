//! What the driver must know of other installations in the cluster, and what it tells them.

use kube::ResourceExt;
use kube::runtime::events::EventType;
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::Reason;
use tracing::info;

use super::accepted::Accepted;
use super::context::Context;
use super::error::ReconcileError;
use crate::mesh::beside::{Beside, Peer};
use crate::mesh::health::{Blocker, has_control_plane};
use crate::mesh::live::LiveObjects;
use crate::mesh::object::Component;
use crate::mesh::plan::{Applied, Plan};
use crate::mesh::tags::{Arrangement, Standing, arrange};

/// The installation among all others.
pub fn beside(installation: &MeshInstallation, context: &Context) -> Beside {
    Beside::new(Peer::of(installation), context.installations().iter().map(Peer::of))
}

/// What another installation has against the spec, where both can be in the cluster.
pub fn objection(beside: &Beside, context: &Context) -> Option<Blocker> {
    let injectors = context.inventory.injectors();
    beside.conflict().or_else(|| Standing { beside, injectors: &injectors }.taken())
}

/// What was accepted, as far as it is this installation's to write beside what others have, and how the rest stands.
pub fn place(
    context: &Context,
    installation: &MeshInstallation,
    accepted: &Accepted,
) -> Result<(Accepted, Arrangement), ReconcileError> {
    let live = context.inventory.snapshot(&installation.name_any(), &accepted.desired);
    let beside = beside(installation, context);
    let injectors = context.inventory.injectors();
    let standing = Standing { beside: &beside, injectors: &injectors };
    // A newer state than the one that was proved may not be; but its istiod is up, and a failed rollout leaves the old one.
    let proved = context.prober.has_proved(&beside.me().name) && has_control_plane(&accepted.desired, &live);
    let arranged = arrange(&accepted.desired, &accepted.validated.owner, &live, standing, proved);
    let arranged = arranged.map_err(ReconcileError::Arrange)?;
    let (inputs, validated) = (accepted.inputs.clone(), accepted.validated.clone());
    let (desired, preinstalled) = (arranged.own(), arranged.preinstalled());
    let own = Accepted { inputs, validated, desired, preinstalled };
    Ok((own, arranged))
}

/// Has the other installations look again: at a spec that is new, and at a tag that came a step further.
pub fn tell_others(installation: &MeshInstallation, context: &Context) {
    let name = installation.name_any();
    for other in context.installations().iter().map(ResourceExt::name_any).filter(|other| *other != name) {
        context.changes.note(other);
    }
}

/// Tells of tags that were removed while something still asks for them.
pub async fn tell_of_lost_tags(
    context: &Context,
    installation: &MeshInstallation,
    plan: &Plan<Applied>,
    before: &LiveObjects,
) {
    let lost = plan.prune.iter().filter_map(|removal| match &before.get(&removal.key)?.marks.component {
        Some(Component::Tag(tag)) if removal.key.kind == crate::mesh::kind::Kind::MutatingWebhookConfiguration => {
            Some(tag.clone())
        }
        _ => None,
    });
    for tag in lost {
        let beside = beside(installation, context);
        let injectors = context.inventory.injectors();
        if (Standing { beside: &beside, injectors: &injectors }).holder(&tag).is_some() {
            continue;
        }
        let users = context.reader.users_of(&tag).await;
        info!(installation = installation.name_any(), tag, ?users, "a tag was removed");
        if !users.is_empty() {
            let note = format!(
                "the tag {tag} was removed; new pods that ask for it get no proxy, which concerns {}: label them anew",
                users.join(", ")
            );
            context.events.publish(installation, EventType::Warning, Reason::TagInUse, &format!("Tag{tag}"), &note);
        }
    }
}
