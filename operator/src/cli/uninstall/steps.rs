//! The steps, each of which waits until what it removes is gone. Writes.

use std::time::Duration;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::{Client, ResourceExt as _};
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::{ConditionType, get};
use serde_json::json;
use tokio::time::Instant;

use super::found::{Found, Standing, meshes};
use super::plan::names;
use super::{Fate, UninstallError, say};
use crate::apply::{absent, api};
use crate::controller::FINALIZER;
use crate::mesh::object::INSTALLATION_LABEL;
use crate::mesh::uninstall::Removal;
use crate::runtime::leader::LEASE_NAME;
use crate::runtime::requests::why;

/// Between two looks at what is to go: a person waits, and a watch of each kind would be more than what it spares.
const LOOK: Duration = Duration::from_millis(500);
/// Who writes what is written here.
const WRITER: &str = "meshwright-uninstall";
/// What else can be done where the operator doesn't end a mesh.
const ESCAPE: &str = "; the operator goes on with it. To let the mesh go on running instead, take the operator's Deployment \
                      away and use --meshes orphan";

/// A cluster, and how long all may take.
pub(super) struct Steps {
    pub(super) client: Client,
    pub(super) after: Duration,
    pub(super) until: Instant,
}

impl Steps {
    /// Ends the meshes as it was said, and waits until the last MeshInstallation is gone.
    pub(super) async fn end_meshes(&self, found: &Found, fate: Option<Fate>) -> Result<(), UninstallError> {
        let Some(fate) = fate else { return Ok(()) };
        for mesh in &found.meshes {
            self.end(mesh, fate).await?;
        }
        for mesh in &found.meshes {
            self.mesh_gone(&mesh.name_any(), mesh.uid(), found.operator != Standing::Serves).await?;
        }
        Ok(())
    }

    async fn end(&self, mesh: &MeshInstallation, fate: Fate) -> Result<(), UninstallError> {
        let (name, api) = (mesh.name_any(), self.meshes());
        if mesh.spec.deletion.policy != fate.policy() {
            let policy = json!({"spec": {"deletion": {"policy": fate.policy()}}});
            let params = PatchParams { field_manager: Some(WRITER.into()), ..PatchParams::default() };
            done(api.patch(&name, &params, &Patch::Merge(&policy)).await.map(drop), &of_mesh(&name))?;
        }
        if mesh.metadata.deletion_timestamp.is_none() {
            done(api.delete(&name, &only(mesh.uid())).await.map(drop), &of_mesh(&name))?;
        }
        Ok(())
    }

    async fn mesh_gone(&self, name: &str, uid: Option<String>, alone: bool) -> Result<(), UninstallError> {
        let api = self.meshes();
        let look = async || {
            let Some(mesh) = api.get_opt(name).await?.filter(|mesh| mesh.uid() == uid) else { return Ok(None) };
            if alone && mesh.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
                let others: Vec<&String> = mesh.finalizers().iter().filter(|other| *other != FINALIZER).collect();
                let patch = json!({"metadata": {"finalizers": others, "resourceVersion": mesh.resource_version()}});
                api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
            }
            Ok::<_, kube::Error>(Some(waits_for(&mesh)))
        };
        self.gone(&of_mesh(name), ESCAPE, look).await
    }

    /// Removes the operator, and the definition if that is to go.
    pub(super) async fn remove(&self, found: &Found, crd: bool, namespace: &str) -> Result<(), UninstallError> {
        // The definition goes while somebody is there for a mesh that would come meanwhile.
        if let Some(definition) = found.definition.as_ref().filter(|_| crd) {
            self.delete(definition).await?;
        }
        let newcomers = meshes(&self.client).await?;
        if !newcomers.is_empty() {
            return Err(UninstallError::Newcomer(names(&newcomers)));
        }
        for part in &found.parts {
            self.delete(part).await?;
        }
        self.forget(namespace).await
    }

    /// What the operator itself has made in its namespace, where that stays.
    async fn forget(&self, namespace: &str) -> Result<(), UninstallError> {
        let revisions: Api<ControllerRevision> = Api::namespaced(self.client.clone(), namespace);
        let theirs = ListParams::default().labels(INSTALLATION_LABEL);
        let deleted = revisions.delete_collection(&DeleteParams::default(), &theirs).await;
        done(deleted.map(drop), "the operator's ControllerRevisions")?;
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), namespace);
        let deleted = leases.delete(LEASE_NAME, &DeleteParams::default()).await;
        done(deleted.map(drop), &format!("Lease {namespace}/{LEASE_NAME}"))
    }

    /// Deletes an object, if it still is the one that was found, and waits until it is gone, with the pods that it made.
    async fn delete(&self, part: &Removal) -> Result<(), UninstallError> {
        let (key, what) = (&part.key, part.key.to_string());
        let api = api(&self.client, key);
        let propagation =
            if key.kind.makes_pods() { PropagationPolicy::Foreground } else { PropagationPolicy::Background };
        let params = DeleteParams { propagation_policy: Some(propagation), ..only(Some(part.uid.clone())) };
        done(api.delete(&key.name, &params).await.map(drop), &what)?;
        let look = async || {
            let left = api.get_metadata_opt(&key.name).await?;
            let left = left.filter(|left| left.uid().as_deref() == Some(part.uid.as_str()));
            Ok::<_, kube::Error>(left.map(|left| match left.finalizers() {
                [] => "it is being deleted".to_owned(),
                held => format!("it is held by {}", held.join(", ")),
            }))
        };
        self.gone(&what, "", look).await
    }

    /// Looks until there is nothing, and says each time anew what is waited for. A look that fails is one of those.
    async fn gone(
        &self,
        what: &str,
        advice: &'static str,
        look: impl AsyncFn() -> Result<Option<String>, kube::Error>,
    ) -> Result<(), UninstallError> {
        let mut said = String::new();
        loop {
            let state = match look().await {
                Ok(None) => return say(&format!("{what} is gone\n")),
                Ok(Some(state)) => state,
                Err(error) => why(&error),
            };
            if state != said {
                say(&format!("waiting for {what}: {state}\n"))?;
                said.clone_from(&state);
            }
            if Instant::now() >= self.until {
                return Err(UninstallError::Deadline { what: what.to_owned(), after: self.after, state, advice });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn meshes(&self) -> Api<MeshInstallation> {
        Api::all(self.client.clone())
    }
}

fn of_mesh(name: &str) -> String {
    format!("MeshInstallation {name}")
}

fn only(uid: Option<String>) -> DeleteParams {
    DeleteParams { preconditions: Some(Preconditions { uid, resource_version: None }), ..DeleteParams::default() }
}

/// What is gone, or another object of that name by now, needs no removal.
fn done(result: Result<(), kube::Error>, what: &str) -> Result<(), UninstallError> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if absent(&error) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(()),
        Err(source) => Err(UninstallError::Write { what: what.to_owned(), source: Box::new(source) }),
    }
}

/// What keeps a MeshInstallation that is being deleted.
fn waits_for(mesh: &MeshInstallation) -> String {
    if !mesh.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return match mesh.finalizers() {
            [] => "it is being deleted".to_owned(),
            others => format!("it is held by {}, which the operator doesn't know", others.join(", ")),
        };
    }
    let status = mesh.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    // That it was well until now says nothing of its end.
    let told = get(status, ConditionType::Ready).filter(|ready| ready.status != "True");
    told.map_or_else(|| "the operator has not begun yet".to_owned(), |ready| ready.message.clone())
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
    fn it_is_said_what_keeps_a_mesh() {
        assert_eq!(waits_for(&mesh(&[FINALIZER], "False")), "3 pods still have a proxy");
        assert_eq!(waits_for(&mesh(&[FINALIZER], "True")), "the operator has not begun yet");
        assert!(waits_for(&mesh(&["example.com/backup"], "False")).contains("example.com/backup"));
    }
}
