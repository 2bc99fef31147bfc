//! Cluster-scoped resources that a cluster administrator applies (`--cluster-scoped-resources external`): compared with
//! the release before a rollout and while a mesh runs, and before the control plane is deleted.

use std::sync::Arc;

use meshwright_api::MeshInstallation;
use meshwright_api::conditions::Reason;

use super::context::Context;
use super::error::ReconcileError;
use super::releases::is_transient;
use super::resolve::resolve_record;
use super::resolved_revision::ResolvedRevision;
use crate::mesh::cluster_scoped::{ClusterScopedResources, PrerequisiteReport, blocker, check_prerequisites};
use crate::mesh::health::{Blocker, Health, Injection, is_available, measure};
use crate::mesh::kind::Kind;
use crate::mesh::object::{Component, DesiredObject, ObjectKey};
use crate::mesh::observed::ObservedObjects;
use crate::mesh::revision::RevisionRecord;
use crate::mesh::rollup::blocker_of;
use crate::mesh::text::abbreviate;

/// Checks that the external cluster-scoped resources match the revision. Until the new control plane has taken over,
/// the active one still needs the ClusterRoles of its own release.
pub async fn check_cluster_scoped(
    context: &Context,
    installation: &MeshInstallation,
    active: Option<&RevisionRecord>,
    accepted: &ResolvedRevision,
) -> Result<(), Blocker> {
    if accepted.external.is_empty() {
        return Ok(());
    }
    let mut mismatches = compare(context, &accepted.external).await?;
    let other = active.filter(|record| record.inputs.version != accepted.inputs.version);
    if let Some(record) = other
        && let Some(current) = unless_transient(resolve_record(context, installation, record).await)?
    {
        let roles: Vec<_> = current.desired.iter().filter(|d| d.key.kind == Kind::ClusterRole).cloned().collect();
        mismatches.add(compare(context, &roles).await?, &record.inputs.version);
    }
    let running = other.map(|record| &record.inputs.version);
    blocker(&mismatches, &accepted.inputs, running).map_or(Ok(()), Err)
}

/// Returns an error only where a retry can succeed, such as a pull in progress. The rollback check reports a revision
/// that cannot be resolved at all.
fn unless_transient<T>(resolved: Result<T, Blocker>) -> Result<Option<T>, Blocker> {
    match resolved {
        Ok(resolved) => Ok(Some(resolved)),
        Err(error) if is_transient(error.reason) => Err(error),
        Err(_) => Ok(None),
    }
}

async fn compare(context: &Context, desired: &[Arc<DesiredObject>]) -> Result<PrerequisiteReport, Blocker> {
    let live = context.reader.read_all(desired).await.map_err(|error| blocker_of(&error))?;
    Ok(check_prerequisites(desired, &live))
}

/// Measures health. Mismatching external resources come first, since other problems may follow from them. Pods get
/// proxies by the webhooks even if the operator does not manage them.
pub fn measure_health(
    accepted: &ResolvedRevision,
    desired: &[Arc<DesiredObject>],
    live: &ObservedObjects,
    injection: &Injection,
) -> Health {
    let mut health = measure(&accepted.validated, desired, live, injection);
    if !accepted.external.is_empty() {
        health.available = is_available(&[desired, &accepted.external].concat(), live, injection);
    }
    let mismatches = check_prerequisites(&accepted.external, live);
    health.blockers.splice(..0, blocker(&mismatches, &accepted.inputs, None));
    health.unknown_keys.clone_from(&accepted.unknown_keys);
    health
}

/// Removes cluster-scoped resources from the live objects if the operator does not manage them.
pub fn drop_cluster_scoped(context: &Context, live: &mut ObservedObjects) {
    if context.options.cluster_scoped_resources == ClusterScopedResources::External {
        live.retain(|key, _| key.kind.namespaced());
    }
}

/// External webhooks that still call the control plane: with failure policy Fail, the API server would reject requests
/// once istiod is deleted. Gateways and add-ons are deleted before.
pub async fn blocking_webhooks(context: &Context, live: &ObservedObjects) -> Result<Option<Blocker>, ReconcileError> {
    let is_deleted_first =
        |component: &Option<Component>| matches!(component, Some(Component::Gateway(_) | Component::AddOn(_)));
    if context.options.cluster_scoped_resources == ClusterScopedResources::Managed
        || live.values().any(|live| is_deleted_first(&live.ownership.component))
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
        "webhooks still call this control plane, and the operator may not delete them. Without istiod the API server \
         would reject pods and configuration; have a cluster administrator run: {}",
        abbreviate(&commands)
    );
    Ok(Some(Blocker { reason: Reason::Uninstalling, message }))
}

/// The external resources that remain after the uninstall, as the end of a sentence.
pub fn remaining_cluster_scoped(context: &Context, installation: &str) -> String {
    if context.options.cluster_scoped_resources == ClusterScopedResources::Managed {
        return String::new();
    }
    let live = context.inventory.snapshot(installation, &[]);
    let left: Vec<&ObjectKey> = live.keys().filter(|key| !key.kind.namespaced() && !key.kind.shared()).collect();
    if left.is_empty() {
        String::new()
    } else {
        format!("; not deleted, since managed externally: {}", abbreviate(&left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_transient_errors_only() {
        let resolved = |reason| unless_transient::<()>(Err(Blocker { reason, message: String::new() }));
        assert_eq!(resolved(Reason::PullingRelease).unwrap_err().reason, Reason::PullingRelease);
        assert_eq!(resolved(Reason::RegistryError).unwrap_err().reason, Reason::RegistryError);
        assert_eq!(resolved(Reason::VersionNotInCatalog), Ok(None));
        assert_eq!(unless_transient(Ok(1)), Ok(Some(1)));
    }
}
