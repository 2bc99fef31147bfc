//! The steps of an uninstallation; each waits until its deletions are complete. Writes.

use std::time::Duration;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::{Client, ResourceExt as _};
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::{ConditionType, get};
use serde_json::json;
use tokio::time::Instant;

use super::discover::{InstalledOperator, OperatorState, meshes};
use super::plan::names;
use super::{MeshPolicy, UninstallError, say};
use crate::apply::{absent, api};
use crate::controller::FINALIZER;
use crate::mesh::object::INSTALLATION_LABEL;
use crate::mesh::uninstall::Removal;
use crate::runtime::leader::LEASE_NAME;
use crate::runtime::requests::api_error_message;

/// Polling interval: a few reads per second are cheaper than a watch per kind.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Field manager of the changes.
const FIELD_MANAGER: &str = "meshwright-uninstall";
/// The alternative if the operator doesn't finish the uninstallation of a mesh.
const ORPHAN_ADVICE: &str = "; the operator continues. To keep the mesh running instead, delete the operator's Deployment \
                             and use --meshes orphan";

/// Client and deadline.
pub(super) struct Uninstaller {
    pub(super) client: Client,
    pub(super) after: Duration,
    pub(super) until: Instant,
}

impl Uninstaller {
    /// Deletes the MeshInstallations with the given policy and waits until all are deleted.
    pub(super) async fn delete_meshes(
        &self,
        found: &InstalledOperator,
        policy: Option<MeshPolicy>,
    ) -> Result<(), UninstallError> {
        let Some(policy) = policy else { return Ok(()) };
        for mesh in &found.meshes {
            self.delete_mesh(mesh, policy).await?;
        }
        for mesh in &found.meshes {
            self.wait_for_mesh(&mesh.name_any(), mesh.uid(), found.operator != OperatorState::Available).await?;
        }
        Ok(())
    }

    async fn delete_mesh(&self, mesh: &MeshInstallation, policy: MeshPolicy) -> Result<(), UninstallError> {
        let (name, api) = (mesh.name_any(), self.meshes());
        if mesh.spec.deletion.policy != policy.policy() {
            let policy = json!({"spec": {"deletion": {"policy": policy.policy()}}});
            let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
            ignore_missing(api.patch(&name, &params, &Patch::Merge(&policy)).await.map(drop), &mesh_text(&name))?;
        }
        if mesh.metadata.deletion_timestamp.is_none() {
            ignore_missing(api.delete(&name, &uid_precondition(mesh.uid())).await.map(drop), &mesh_text(&name))?;
        }
        Ok(())
    }

    async fn wait_for_mesh(
        &self,
        name: &str,
        uid: Option<String>,
        without_operator: bool,
    ) -> Result<(), UninstallError> {
        let api = self.meshes();
        let read = async || {
            let Some(mesh) = api.get_opt(name).await?.filter(|mesh| mesh.uid() == uid) else { return Ok(None) };
            if without_operator && mesh.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
                let others: Vec<&String> = mesh.finalizers().iter().filter(|other| *other != FINALIZER).collect();
                let patch = json!({"metadata": {"finalizers": others, "resourceVersion": mesh.resource_version()}});
                api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
            }
            Ok::<_, kube::Error>(Some(deletion_state(&mesh)))
        };
        self.wait_until_deleted(&mesh_text(name), ORPHAN_ADVICE, read).await
    }

    /// Deletes the operator's resources, and the CRD if requested.
    pub(super) async fn remove(
        &self,
        found: &InstalledOperator,
        crd: bool,
        namespace: &str,
    ) -> Result<(), UninstallError> {
        // Delete the CRD first, while the operator can still process finalizers of new MeshInstallations.
        if let Some(crd_object) = found.crd_object.as_ref().filter(|_| crd) {
            self.delete(crd_object).await?;
        }
        let new_meshes = meshes(&self.client).await?;
        if !new_meshes.is_empty() {
            return Err(UninstallError::NewInstallation(names(&new_meshes)));
        }
        for part in &found.parts {
            self.delete(part).await?;
        }
        self.delete_operator_data(namespace).await
    }

    /// Deletes the resources that the operator itself created in its namespace, if the namespace is kept.
    async fn delete_operator_data(&self, namespace: &str) -> Result<(), UninstallError> {
        let revisions: Api<ControllerRevision> = Api::namespaced(self.client.clone(), namespace);
        let theirs = ListParams::default().labels(INSTALLATION_LABEL);
        let deleted = revisions.delete_collection(&DeleteParams::default(), &theirs).await;
        ignore_missing(deleted.map(drop), "the operator's ControllerRevisions")?;
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), namespace);
        let deleted = leases.delete(LEASE_NAME, &DeleteParams::default()).await;
        ignore_missing(deleted.map(drop), &format!("Lease {namespace}/{LEASE_NAME}"))
    }

    /// Deletes an object if its UID still matches, and waits until it and its pods are deleted.
    async fn delete(&self, part: &Removal) -> Result<(), UninstallError> {
        let (key, what) = (&part.key, part.key.to_string());
        let api = api(&self.client, key);
        let propagation =
            if key.kind.makes_pods() { PropagationPolicy::Foreground } else { PropagationPolicy::Background };
        let params = DeleteParams { propagation_policy: Some(propagation), ..uid_precondition(Some(part.uid.clone())) };
        ignore_missing(api.delete(&key.name, &params).await.map(drop), &what)?;
        let read = async || {
            let left = api.get_metadata_opt(&key.name).await?;
            let left = left.filter(|left| left.uid().as_deref() == Some(part.uid.as_str()));
            Ok::<_, kube::Error>(left.map(|left| match left.finalizers() {
                [] => "deletion in progress".to_owned(),
                finalizers => format!("waiting for finalizers: {}", finalizers.join(", ")),
            }))
        };
        self.wait_until_deleted(&what, "", read).await
    }

    /// Polls until the object is deleted and prints each new state. Read errors count as a state.
    async fn wait_until_deleted(
        &self,
        what: &str,
        advice: &'static str,
        read: impl AsyncFn() -> Result<Option<String>, kube::Error>,
    ) -> Result<(), UninstallError> {
        let mut printed = String::new();
        loop {
            let state = match read().await {
                Ok(None) => return say(&format!("{what} deleted\n")),
                Ok(Some(state)) => state,
                Err(error) => api_error_message(&error),
            };
            if state != printed {
                say(&format!("waiting for {what}: {state}\n"))?;
                printed.clone_from(&state);
            }
            if Instant::now() >= self.until {
                return Err(UninstallError::Deadline { what: what.to_owned(), after: self.after, state, advice });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    fn meshes(&self) -> Api<MeshInstallation> {
        Api::all(self.client.clone())
    }
}

fn mesh_text(name: &str) -> String {
    format!("MeshInstallation {name}")
}

fn uid_precondition(uid: Option<String>) -> DeleteParams {
    DeleteParams { preconditions: Some(Preconditions { uid, resource_version: None }), ..DeleteParams::default() }
}

/// A missing object, or one with another UID, needs no deletion.
fn ignore_missing(result: Result<(), kube::Error>, what: &str) -> Result<(), UninstallError> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if absent(&error) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(()),
        Err(source) => Err(UninstallError::Write { what: what.to_owned(), source: Box::new(source) }),
    }
}

/// What blocks the deletion of a MeshInstallation.
fn deletion_state(mesh: &MeshInstallation) -> String {
    if !mesh.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return match mesh.finalizers() {
            [] => "deletion in progress".to_owned(),
            others => format!("waiting for finalizers of other controllers: {}", others.join(", ")),
        };
    }
    let status = mesh.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    // Ready=True is from before the deletion.
    let not_ready = get(status, ConditionType::Ready).filter(|ready| ready.status != "True");
    not_ready.map_or_else(|| "the operator has not started yet".to_owned(), |ready| ready.message.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mesh(finalizers: &[&str], ready: &str) -> MeshInstallation {
        serde_json::from_value(json!({
            "apiVersion": "meshwright.dev/v1alpha1", "kind": "MeshInstallation",
            "metadata": {"name": "mesh", "finalizers": finalizers}, "spec": {"version": "1.31"},
            "status": {"observedGeneration": 1, "conditions": [{
                "type": "Ready", "status": ready, "reason": "Uninstalling", "message": "3 pods still have a proxy",
                "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
            }]},
        }))
        .unwrap()
    }

    #[test]
    fn reports_what_blocks_deletion() {
        assert_eq!(deletion_state(&mesh(&[FINALIZER], "False")), "3 pods still have a proxy");
        assert_eq!(deletion_state(&mesh(&[FINALIZER], "True")), "the operator has not started yet");
        assert!(deletion_state(&mesh(&["example.com/backup"], "False")).contains("example.com/backup"));
    }
}
