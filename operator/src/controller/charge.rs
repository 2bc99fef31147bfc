//! Taking charge of an installation: its deletion is ours to carry out from then on.

use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use meshwright_api::MeshInstallation;
use serde_json::json;
use tracing::debug;

use super::context::{Context, FINALIZER};
use super::error::ReconcileError;

/// Puts our finalizer on an installation, unless it is there.
pub async fn ensure_finalizer(installation: &MeshInstallation, context: &Context) -> Result<(), ReconcileError> {
    if installation.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(());
    }
    let name = installation.name_any();
    debug!(installation = name, "taking charge");
    let mut finalizers = installation.finalizers().to_vec();
    finalizers.push(FINALIZER.to_owned());
    // With the version that was read: nobody's finalizer gets lost.
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": installation.resource_version()}});
    let api: Api<MeshInstallation> = Api::all(context.clients.requests.clone());
    api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .map(drop)
        .map_err(|source| ReconcileError::Finalizer { name, source: Box::new(source) })
}
