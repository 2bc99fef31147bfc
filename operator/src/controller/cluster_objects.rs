//! Objects in no namespace that others apply for the operator: looked at before a spec is begun with, while a mesh runs,
//! and before its control plane goes.

use std::sync::Arc;

use meshwright_api::MeshInstallation;
use meshwright_api::conditions::Reason;

use super::accepted::Accepted;
use super::context::Context;
use super::error::ReconcileError;
use super::releases::passes;
use super::resolve::resolve_remembered;
use crate::mesh::cluster_objects::{ClusterObjects, Wanting, blocker, wanting};
use crate::mesh::health::{Blocker, Health, Injection, measure};
use crate::mesh::kind::Kind;
use crate::mesh::live::LiveObjects;
use crate::mesh::object::{Component, Desired, ObjectKey};
use crate::mesh::revision::Record;
use crate::mesh::rollup::failure;
use crate::mesh::words::few;

/// Whether they are there for what is accepted. The control plane that runs, of the record that stands, needs its roles until
/// the new one has taken over.
pub async fn are_there(
    context: &Context,
    installation: &MeshInstallation,
    standing: Option<&Record>,
    accepted: &Accepted,
) -> Result<(), Blocker> {
    if accepted.preinstalled.is_empty() {
        return Ok(());
    }
    let mut wrong = look(context, &accepted.preinstalled).await?;
    let other = standing.filter(|record| record.inputs.version != accepted.inputs.version);
    if let Some(record) = other
        && let Some(runs) = if_ever(resolve_remembered(context, installation, record).await)?
    {
        let roles: Vec<_> = runs.desired.iter().filter(|d| d.key.kind == Kind::ClusterRole).cloned().collect();
        wrong.add(look(context, &roles).await?, &record.inputs.version);
    }
    let running = other.map(|record| &record.inputs.version);
    blocker(&wrong, &accepted.inputs, running).map_or(Ok(()), Err)
}

/// What can be made now, or never: what a registry may bring yet is waited for. That it can't be made, and there is no way
/// back therefore, is told elsewhere.
fn if_ever<T>(made: Result<T, Blocker>) -> Result<Option<T>, Blocker> {
    match made {
        Ok(made) => Ok(Some(made)),
        Err(lost) if passes(lost.reason) => Err(lost),
        Err(_) => Ok(None),
    }
}

async fn look(context: &Context, desired: &[Arc<Desired>]) -> Result<Wanting, Blocker> {
    let live = context.reader.look_at(desired).await.map_err(|error| failure(&error))?;
    Ok(wanting(desired, &live))
}

/// Measures an installation. What others apply for it, and is not as it is needed, comes before all that follows from that.
pub fn gauge(accepted: &Accepted, desired: &[Arc<Desired>], live: &LiveObjects, injection: &Injection) -> Health {
    let mut health = measure(&accepted.validated, desired, live, injection);
    let wrong = wanting(&accepted.preinstalled, live);
    health.blockers.splice(..0, blocker(&wrong, &accepted.inputs, None));
    health
}

/// Takes what is in no namespace out of an installation's live objects, where others have applied it.
pub fn spare(context: &Context, live: &mut LiveObjects) {
    if context.options.cluster_objects == ClusterObjects::Preinstalled {
        live.retain(|key, _| key.kind.namespaced());
    }
}

/// Why the control plane can't go yet: webhooks that others have applied, and that make the API server refuse what it can't
/// ask about. Gateways and add-ons go before.
pub async fn still_called(context: &Context, live: &LiveObjects) -> Result<Option<Blocker>, ReconcileError> {
    let goes_before =
        |component: &Option<Component>| matches!(component, Some(Component::Gateway(_) | Component::AddOn(_)));
    if context.options.cluster_objects == ClusterObjects::Managed
        || live.values().any(|live| goes_before(&live.marks.component))
    {
        return Ok(None);
    }
    let services: Vec<&ObjectKey> = live.keys().filter(|key| key.kind == Kind::Service).collect();
    let found = context.reader.webhooks_of(&services).await.map_err(ReconcileError::Object)?;
    if found.is_empty() {
        return Ok(None);
    }
    let commands: Vec<String> =
        found.iter().map(|key| format!("kubectl delete {} {}", key.kind.plural(), key.name)).collect();
    let message = format!(
        "without the control plane these webhooks, which are not the operator's to delete, would have the API server refuse \
         pods and configuration; somebody with the rights has to remove them first: {}",
        few(&commands)
    );
    Ok(Some(Blocker { reason: Reason::Uninstalling, message }))
}

/// What others have applied for an installation alone and is still there when its own objects are gone, in a sentence's end.
pub fn left_to_others(context: &Context, installation: &str) -> String {
    if context.options.cluster_objects == ClusterObjects::Managed {
        return String::new();
    }
    let live = context.inventory.snapshot(installation, &[]);
    let left: Vec<&ObjectKey> = live.keys().filter(|key| !key.kind.namespaced() && !key.kind.shared()).collect();
    if left.is_empty() { String::new() } else { format!("; left to those who applied them: {}", few(&left)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_that_a_registry_brings_later_is_waited_for_and_a_lost_one_is_not() {
        let made = |reason| if_ever::<()>(Err(Blocker { reason, message: String::new() }));
        assert_eq!(made(Reason::PullingRelease).unwrap_err().reason, Reason::PullingRelease);
        assert_eq!(made(Reason::RegistryFailed).unwrap_err().reason, Reason::RegistryFailed);
        assert_eq!(made(Reason::VersionNotInCatalog), Ok(None));
        assert_eq!(if_ever(Ok(1)), Ok(Some(1)));
    }
}
