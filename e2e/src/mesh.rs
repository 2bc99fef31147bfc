//! The operator and a mesh in the lab.

use std::path::PathBuf;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt as _};
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::{ConditionType, get};
use serde_json::{Value, json};

use crate::audit::{Audit, AuditPosition};
use crate::wait::{self, TIMEOUT, WaitError};
use crate::{Lab, LabError, TestResult, objects};

/// Release that `make catalog` imports.
pub const VERSION: &str = "1.32.0-alpha.eed52ebb66ad";
/// Lab release of Istio 1.31, built from the sources of [`VERSION`]; e2e/README.md lists the differences.
pub const LAB_1_31: &str = "1.31.0-lab.1";
/// Lab release of Istio 1.32.
pub const LAB_1_32: &str = "1.32.0-lab.1";
/// Patch release of [`LAB_1_32`]; identical except for the version.
pub const LAB_1_32_PATCH: &str = "1.32.0-lab.2";
/// User name of the operator in the audit log.
pub const OPERATOR: &str = "system:serviceaccount:meshwright-system:meshwright";
/// Namespace that the operator runs in.
pub const OPERATOR_NAMESPACE: &str = "meshwright-system";
/// Default name of the `MeshInstallation` in tests.
pub const NAME: &str = "mesh";

/// A running operator with its clients.
pub struct Mesh {
    client: Client,
    installations: Api<MeshInstallation>,
}

/// The repository's config directory.
#[must_use]
pub fn config_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../config")
}

impl Mesh {
    /// Installs the CRD, RBAC and the operator from config/, and waits until both replicas are ready.
    pub async fn install_operator(lab: &Lab) -> TestResult<Self> {
        lab.check_operator().map_err(ToString::to_string)?;
        lab.apply_dirs(["crd", "rbac", "manager"].map(|part| config_dir().join(part))).await?;
        objects::deployment_ready(&lab.client(), OPERATOR_NAMESPACE, "meshwright").await?;
        Ok(Self::connect(lab.client()))
    }

    /// Connects to an operator that already runs in the cluster.
    #[must_use]
    pub fn connect(client: Client) -> Self {
        Self { installations: Api::all(client.clone()), client }
    }

    /// Installs the operator and a mesh from [`demo_spec`], and waits until the mesh is Ready.
    pub async fn install(lab: &Lab) -> TestResult<Self> {
        let mesh = Self::install_operator(lab).await?;
        mesh.apply(NAME, demo_spec()).await?;
        mesh.wait_ready(NAME).await?;
        Ok(mesh)
    }

    /// Client with cluster-admin permissions.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Client for `MeshInstallations`.
    #[must_use]
    pub const fn installations(&self) -> &Api<MeshInstallation> {
        &self.installations
    }

    /// Applies a spec like `kubectl apply --server-side`.
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
        applied.map_err(LabError::api(format!("apply MeshInstallation {name}")))
    }

    /// Deletes an installation and waits until it no longer exists.
    pub async fn delete(&self, name: &str, params: &DeleteParams) -> TestResult {
        self.installations.delete(name, params).await?;
        self.wait_gone(name).await?;
        Ok(())
    }

    /// Waits until an installation no longer exists.
    pub async fn wait_gone(&self, name: &str) -> Result<(), WaitError> {
        wait::until(TIMEOUT, format!("deletion of MeshInstallation {name}"), async || {
            match self.installations.get_opt(name).await.map_err(|error| error.to_string())? {
                None => Ok(()),
                Some(found) => Err(describe(&found)),
            }
        })
        .await
    }

    /// Waits until Ready is True for the latest generation.
    pub async fn wait_ready(&self, name: &str) -> Result<MeshInstallation, WaitError> {
        self.wait_for(name, ConditionType::Ready, "True", None).await
    }

    /// Waits until a condition has this status (and reason) for the latest generation.
    pub async fn wait_for(
        &self,
        name: &str,
        condition: ConditionType,
        status: &str,
        reason: Option<&str>,
    ) -> Result<MeshInstallation, WaitError> {
        let what = format!("{name} to be {}={status} {}", condition.as_str(), reason.unwrap_or_default());
        wait::until(TIMEOUT, what, async || {
            let found = self.installations.get(name).await.map_err(|error| error.to_string())?;
            let observed = found.status.clone().unwrap_or_default();
            let matches = get(&observed.conditions, condition).is_some_and(|c| {
                c.status == status
                    && reason.is_none_or(|reason| c.reason == reason)
                    && c.observed_generation == found.metadata.generation
            });
            if matches && Some(observed.observed_generation) == found.metadata.generation {
                Ok(found)
            } else {
                Err(describe(&found))
            }
        })
        .await
    }

    /// Scales the operator, and waits until all of its pods are ready, or gone.
    pub async fn scale_operator(&self, replicas: i32) -> TestResult {
        let deployments = self.api("apps/v1", "Deployment", Some(OPERATOR_NAMESPACE));
        let scale = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        deployments.patch("meshwright", &PatchParams::default(), &scale).await?;
        if replicas == 0 {
            return self.wait_operator_gone().await;
        }
        objects::deployment_ready(&self.client(), OPERATOR_NAMESPACE, "meshwright").await?;
        Ok(())
    }

    /// Waits until the operator has no pods.
    pub async fn wait_operator_gone(&self) -> TestResult {
        wait::until(TIMEOUT, "the operator to end", async || {
            let left = objects::pod_names(&self.client(), OPERATOR_NAMESPACE, "").await.map_err(|e| e.to_string())?;
            if left.is_empty() { Ok(()) } else { Err(left.join(", ")) }
        })
        .await?;
        Ok(())
    }

    /// Waits until istiod has set failurePolicy Fail on the validating webhooks; before that, the objects still change.
    pub async fn wait_fail_closed(&self) -> Result<(), WaitError> {
        let validators = self.api("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", None);
        wait::until(TIMEOUT, "failurePolicy Fail on the validating webhooks", async || {
            let listed = validators.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let policy = |validator: &DynamicObject| validator.data.pointer("/webhooks/0/failurePolicy").cloned();
            let policies: Vec<_> = listed.iter().map(|validator| (validator.name_any(), policy(validator))).collect();
            // One for the revision and one for the default revision.
            let strict = policies.iter().filter(|(_, policy)| policy.as_ref().is_some_and(|policy| policy == "Fail"));
            if strict.count() == policies.len().max(2) { Ok(()) } else { Err(format!("{policies:?}")) }
        })
        .await
    }

    /// Client for any kind. `namespace` is `None` for cluster-scoped kinds and for all namespaces.
    #[must_use]
    pub fn api(&self, api_version: &str, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let gvk = GroupVersionKind::gvk(group, version, kind);
        let resource = match kind {
            // Its plural doesn't follow the usual rules.
            "NetworkAttachmentDefinition" => ApiResource::from_gvk_with_plural(&gvk, "network-attachment-definitions"),
            _ => ApiResource::from_gvk(&gvk),
        };
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// Waits for a leader and returns the name of its Pod.
    pub async fn leader(&self) -> Result<String, WaitError> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), OPERATOR_NAMESPACE);
        wait::until(TIMEOUT, "leader election", async || {
            let lease = leases.get("meshwright-leader").await.map_err(|error| error.to_string())?;
            let holder = lease.spec.and_then(|spec| spec.holder_identity).filter(|holder| !holder.is_empty());
            holder.ok_or_else(|| "the Lease has no holder".to_owned())
        })
        .await
    }

    /// Waits until a Deployment of the mesh is rolled out.
    pub async fn deployment_ready(&self, namespace: &str, name: &str) -> Result<Deployment, WaitError> {
        objects::deployment_ready(&self.client, namespace, name).await
    }
}

/// Minimal spec: the demo profile without gateways.
#[must_use]
pub fn demo_spec() -> Value {
    json!({"version": VERSION, "profile": "demo"})
}

/// Summary of an installation's status, for error messages.
#[must_use]
pub fn describe(installation: &MeshInstallation) -> String {
    let status = installation.status.clone().unwrap_or_default();
    let conditions: Vec<String> =
        status.conditions.iter().map(|c| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message)).collect();
    format!("generation {:?}, {:?}, [{}]", installation.metadata.generation, status.phase, conditions.join("; "))
}

/// The operator's writes after a position in the audit log, without Leases and Events.
#[must_use]
pub fn operator_writes(audit: &Audit, start: AuditPosition) -> Vec<String> {
    audit
        .since(start)
        .writes(OPERATOR)
        .filter(|entry| entry.resource != "leases" && entry.resource != "events")
        .map(|entry| format!("{} {} {}/{} {}", entry.verb, entry.resource, entry.namespace, entry.name, entry.code))
        .collect()
}
