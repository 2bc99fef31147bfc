//! The operator and a mesh in the lab: what tests of behaviour begin with.

use std::path::PathBuf;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt as _};
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::{ConditionType, get};
use serde_json::{Value, json};

use crate::audit::{Audit, Mark};
use crate::wait::{self, PATIENCE, WaitError};
use crate::{Lab, LabError, TestResult, objects};

/// The release that `make catalog` imports.
pub const VERSION: &str = "1.32.0-alpha.eed52ebb66ad";
/// The lab's own releases, which share the sources of [`VERSION`]; what else tells them apart is in the lab's document.
pub const LAB_1_31: &str = "1.31.0-lab.1";
/// The first of the lab's releases of 1.32.
pub const LAB_1_32: &str = "1.32.0-lab.1";
/// A patch of [`LAB_1_32`]; identical but for the version.
pub const LAB_1_32_PATCH: &str = "1.32.0-lab.2";
/// The operator, as the audit log names it.
pub const OPERATOR: &str = "system:serviceaccount:meshwright-system:meshwright";
/// Namespace of the operator.
pub const OPERATOR_NAMESPACE: &str = "meshwright-system";
/// The installation that tests apply unless they name another.
pub const NAME: &str = "mesh";

/// A running operator, and how to talk to it.
pub struct Mesh {
    client: Client,
    installations: Api<MeshInstallation>,
}

/// Where the repository's manifests lie.
#[must_use]
pub fn config() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../config")
}

impl Mesh {
    /// Installs CRD, rights and the operator as a person does, and waits until both replicas are ready.
    pub async fn operator(lab: &Lab) -> TestResult<Self> {
        lab.can_run_operator().map_err(ToString::to_string)?;
        lab.apply_dirs(["crd", "rbac", "manager"].map(|part| config().join(part))).await?;
        objects::deployment_ready(&lab.client(), OPERATOR_NAMESPACE, "meshwright").await?;
        Ok(Self::of(lab.client()))
    }

    /// The operator that runs in this cluster already.
    #[must_use]
    pub fn of(client: Client) -> Self {
        Self { installations: Api::all(client.clone()), client }
    }

    /// The operator, and a Ready mesh made from [`small`].
    pub async fn ready(lab: &Lab) -> TestResult<Self> {
        let mesh = Self::operator(lab).await?;
        mesh.apply(NAME, small()).await?;
        mesh.wait_ready(NAME).await?;
        Ok(mesh)
    }

    /// A client with all rights.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The API of installations.
    #[must_use]
    pub const fn installations(&self) -> &Api<MeshInstallation> {
        &self.installations
    }

    /// Applies a spec as `kubectl apply --server-side` does.
    pub async fn apply(&self, name: &str, spec: Value) -> Result<MeshInstallation, LabError> {
        let body = json!({
            "apiVersion": "meshwright.dev/v1alpha1", "kind": "MeshInstallation",
            "metadata": {"name": name}, "spec": spec,
        });
        let params = PatchParams {
            field_validation: Some(kube::api::ValidationDirective::Strict),
            ..PatchParams::apply("kubectl").force()
        };
        let applied = self.installations.patch(name, &params, &Patch::Apply(&body)).await;
        applied.map_err(LabError::api(format!("apply the MeshInstallation {name}")))
    }

    /// Deletes an installation and waits until it is gone.
    pub async fn delete(&self, name: &str, params: &DeleteParams) -> TestResult {
        self.installations.delete(name, params).await?;
        self.wait_gone(name).await?;
        Ok(())
    }

    /// Waits until an installation is gone.
    pub async fn wait_gone(&self, name: &str) -> Result<(), WaitError> {
        wait::until(PATIENCE, format!("the MeshInstallation {name} to be gone"), async || {
            match self.installations.get_opt(name).await.map_err(|error| error.to_string())? {
                None => Ok(()),
                Some(found) => Err(picture(&found)),
            }
        })
        .await
    }

    /// Waits until Ready is True for the newest generation.
    pub async fn wait_ready(&self, name: &str) -> Result<MeshInstallation, WaitError> {
        self.wait_for(name, ConditionType::Ready, "True", None).await
    }

    /// Waits until a condition has this status (and reason) for the newest generation.
    pub async fn wait_for(
        &self,
        name: &str,
        condition: ConditionType,
        status: &str,
        reason: Option<&str>,
    ) -> Result<MeshInstallation, WaitError> {
        let what = format!("{name} to be {}={status} {}", condition.as_str(), reason.unwrap_or_default());
        wait::until(PATIENCE, what, async || {
            let found = self.installations.get(name).await.map_err(|error| error.to_string())?;
            let seen = found.status.clone().unwrap_or_default();
            let fits = get(&seen.conditions, condition).is_some_and(|c| {
                c.status == status
                    && reason.is_none_or(|reason| c.reason == reason)
                    && c.observed_generation == found.metadata.generation
            });
            if fits && Some(seen.observed_generation) == found.metadata.generation {
                Ok(found)
            } else {
                Err(picture(&found))
            }
        })
        .await
    }

    /// Waits until istiod has made its validators refuse when they can't be asked: until then they change by themselves.
    pub async fn wait_strict(&self) -> Result<(), WaitError> {
        let validators = self.api("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", None);
        wait::until(PATIENCE, "validators to fail closed", async || {
            let listed = validators.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let policy = |validator: &DynamicObject| validator.data.pointer("/webhooks/0/failurePolicy").cloned();
            let policies: Vec<_> = listed.iter().map(|validator| (validator.name_any(), policy(validator))).collect();
            // The revision's and the default's.
            let strict = policies.iter().filter(|(_, policy)| policy.as_ref().is_some_and(|policy| policy == "Fail"));
            if strict.count() == policies.len().max(2) { Ok(()) } else { Err(format!("{policies:?}")) }
        })
        .await
    }

    /// The API of any kind. `namespace` is `None` for cluster-scoped ones.
    #[must_use]
    pub fn api(&self, api_version: &str, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let gvk = GroupVersionKind::gvk(group, version, kind);
        let resource = match kind {
            // The one whose plural isn't made by the usual rules.
            "NetworkAttachmentDefinition" => ApiResource::from_gvk_with_plural(&gvk, "network-attachment-definitions"),
            _ => ApiResource::from_gvk(&gvk),
        };
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// The name of the operator's Pod that leads; waits until one does.
    pub async fn leader(&self) -> Result<String, WaitError> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), OPERATOR_NAMESPACE);
        wait::until(PATIENCE, "a leader", async || {
            let lease = leases.get("meshwright-leader").await.map_err(|error| error.to_string())?;
            let holder = lease.spec.and_then(|spec| spec.holder_identity).filter(|holder| !holder.is_empty());
            holder.ok_or_else(|| "nobody leads".to_owned())
        })
        .await
    }

    /// Waits until a Deployment of the mesh is rolled out.
    pub async fn deployment_ready(&self, namespace: &str, name: &str) -> Result<Deployment, WaitError> {
        objects::deployment_ready(&self.client, namespace, name).await
    }
}

/// A spec that suits the lab: the demo profile, no gateways.
#[must_use]
pub fn small() -> Value {
    json!({"version": VERSION, "profile": "demo"})
}

/// What an installation says of itself, for messages.
#[must_use]
pub fn picture(installation: &MeshInstallation) -> String {
    let status = installation.status.clone().unwrap_or_default();
    let conditions: Vec<String> =
        status.conditions.iter().map(|c| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message)).collect();
    format!("generation {:?}, {:?}, [{}]", installation.metadata.generation, status.phase, conditions.join("; "))
}

/// The operator's writes since a mark, its Lease and Events aside.
#[must_use]
pub fn operator_writes(audit: &Audit, mark: Mark) -> Vec<String> {
    audit
        .since(mark)
        .writes(OPERATOR)
        .filter(|entry| entry.resource != "leases" && entry.resource != "events")
        .map(|entry| format!("{} {} {}/{} {}", entry.verb, entry.resource, entry.namespace, entry.name, entry.code))
        .collect()
}
