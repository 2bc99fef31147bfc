//! Adds the finalizer, so that the operator can uninstall the mesh before the MeshInstallation is deleted.

use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use meshwright_api::MeshInstallation;
use serde_json::json;
use tracing::debug;

use super::context::{Context, FINALIZER};
use super::error::ReconcileError;
use crate::runtime::requests::within_deadline;

/// Adds the operator's finalizer unless it is present.
pub async fn ensure_finalizer(installation: &MeshInstallation, context: &Context) -> Result<(), ReconcileError> {
    if installation.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(());
    }
    let name = installation.name_any();
    debug!(installation = name, "adding the finalizer");
    let mut finalizers = installation.finalizers().to_vec();
    finalizers.push(FINALIZER.to_owned());
    // The resourceVersion makes a concurrent change of the finalizers a conflict instead of overwriting it.
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": installation.resource_version()}});
    let api: Api<MeshInstallation> = Api::all(context.clients.requests.clone());
    within_deadline(api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)))
        .await
        .map(drop)
        .map_err(|source| ReconcileError::Finalizer { name, source: Box::new(source) })
}
