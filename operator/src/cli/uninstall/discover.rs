//! Finds the operator's resources in a cluster. Only reads.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, DynamicObject, ListParams, ObjectMeta};
use kube::{Client, CustomResourceExt as _, ResourceExt as _};
use meshwright_api::MeshInstallation;

use super::super::cluster::installations;
use super::UninstallError;
use crate::apply::api;
use crate::mesh::kind::Kind;
use crate::mesh::object::ObjectKey;
use crate::mesh::rbac::{ACCOUNT, MESH_ROLE};
use crate::mesh::uninstall::Removal;

/// Label of all resources of the operator.
const OURS: &str = "app.kubernetes.io/name=meshwright";
/// Kinds of the operator's resources in the order of deletion: the operator keeps its permissions until its pods are
/// deleted.
const KINDS: [Kind; 10] = [
    Kind::Deployment,
    Kind::PodDisruptionBudget,
    Kind::Service,
    Kind::NetworkPolicy,
    Kind::RoleBinding,
    Kind::Role,
    Kind::ClusterRoleBinding,
    Kind::ClusterRole,
    Kind::ServiceAccount,
    Kind::Namespace,
];
/// Installers, by the label or annotation that identifies them. The last label is Argo CD's default tracking label, but
/// Helm charts use it as well.
const INSTALLERS: [(&str, &str); 6] = [
    ("olm.operatorframework.io/owner-name", "OLM extension"),
    ("helm.toolkit.fluxcd.io/name", "Flux HelmRelease"),
    ("kustomize.toolkit.fluxcd.io/name", "Flux Kustomization"),
    ("argocd.argoproj.io/tracking-id", "Argo CD application"),
    ("meta.helm.sh/release-name", "Helm release"),
    ("app.kubernetes.io/instance", "Argo CD application"),
];

/// Whether an operator can process finalizers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OperatorState {
    /// There is no Deployment.
    Absent,
    /// The Deployment has no available pod.
    Unavailable,
    /// The Deployment has an available pod.
    Available,
}

/// The operator's resources in a cluster.
pub(super) struct InstalledOperator {
    pub(super) meshes: Vec<MeshInstallation>,
    /// The operator's resources in the order of deletion.
    pub(super) parts: Vec<Removal>,
    /// The MeshInstallation CRD.
    pub(super) crd_object: Option<Removal>,
    pub(super) operator: OperatorState,
    /// Another namespace with an operator.
    pub(super) other_namespace: Option<String>,
    /// The tool that manages the operator's resources.
    pub(super) managed_by: Option<String>,
}

/// Reads the resources.
pub(super) async fn find(client: &Client, namespace: &str) -> Result<InstalledOperator, UninstallError> {
    let all: Api<Deployment> = Api::all(client.clone());
    let all = all.list(&ours()).await.map_err(failed("Deployments"))?.items;
    let (deployments, others): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|deployment| deployment.namespace().as_deref() == Some(namespace));
    let (mut parts, mut manager) = (Vec::new(), None);
    for kind in KINDS {
        let found = parts_of(client, kind, namespace).await?;
        manager = manager.or_else(|| found.iter().find_map(managed_by));
        parts.extend(found.into_iter().filter_map(|metadata| removal(kind, metadata)));
    }
    Ok(InstalledOperator {
        meshes: meshes(client).await?,
        parts,
        crd_object: crd_object(client).await?,
        operator: operator_state(&deployments),
        other_namespace: others.first().and_then(Deployment::namespace),
        managed_by: manager,
    })
}

pub(super) async fn meshes(client: &Client) -> Result<Vec<MeshInstallation>, UninstallError> {
    installations(client).await.map_err(failed("MeshInstallations"))
}

async fn crd_object(client: &Client) -> Result<Option<Removal>, UninstallError> {
    let kind = Kind::CustomResourceDefinition;
    let key = ObjectKey { kind, namespace: None, name: MeshInstallation::crd_name().to_owned() };
    let found = api(client, &key).get_metadata_opt(&key.name).await.map_err(failed(&key.name))?;
    Ok(found.map(|found| Removal { key, uid: found.uid().unwrap_or_default(), resource_version: 0 }))
}

async fn parts_of(client: &Client, kind: Kind, namespace: &str) -> Result<Vec<ObjectMeta>, UninstallError> {
    let roles = matches!(kind, Kind::Role | Kind::RoleBinding);
    let resource = kind.api_resource();
    // The operator also has a Role in each namespace of a mesh.
    let api: Api<DynamicObject> = if kind.namespaced() && !roles {
        Api::namespaced_with(client.clone(), namespace, &resource)
    } else {
        Api::all_with(client.clone(), &resource)
    };
    let listed = api.list_metadata(&ours()).await.map_err(failed(kind.plural()))?;
    let named = |metadata: &ObjectMeta| match (kind, metadata.name.as_deref()) {
        (Kind::Namespace, name) => name == Some(namespace),
        (_, Some(ACCOUNT | MESH_ROLE)) => true,
        _ => kind.namespaced() && !roles,
    };
    Ok(listed.items.into_iter().map(|object| object.metadata).filter(named).collect())
}

fn removal(kind: Kind, metadata: ObjectMeta) -> Option<Removal> {
    let key = ObjectKey { kind, namespace: metadata.namespace, name: metadata.name? };
    Some(Removal { key, uid: metadata.uid?, resource_version: 0 })
}

fn operator_state(deployments: &[Deployment]) -> OperatorState {
    let available = |deployment: &Deployment| deployment.status.as_ref().and_then(|status| status.available_replicas);
    match deployments {
        [] => OperatorState::Absent,
        all if all.iter().any(|one| available(one).is_some_and(|pods| pods > 0)) => OperatorState::Available,
        _ => OperatorState::Unavailable,
    }
}

fn managed_by(metadata: &ObjectMeta) -> Option<String> {
    let known = INSTALLERS.iter().find_map(|(key, who)| {
        let tables = [&metadata.labels, &metadata.annotations];
        let name = tables.into_iter().flatten().find_map(|table| table.get(*key))?;
        Some(format!("{who} {name}"))
    });
    let owner = || metadata.owner_references.iter().flatten().next();
    known.or_else(|| owner().map(|owner| format!("{} {}", owner.kind, owner.name)))
}

fn ours() -> ListParams {
    ListParams::default().labels(OURS)
}

fn failed(what: &str) -> impl FnOnce(kube::Error) -> UninstallError + use<> {
    let what = what.to_owned();
    move |source| UninstallError::Read { what, source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn deployment(metadata: &Value, available: i32) -> Deployment {
        serde_json::from_value(json!({"metadata": metadata, "status": {"availableReplicas": available}})).unwrap()
    }

    #[test]
    fn requires_available_pod() {
        assert_eq!(operator_state(&[]), OperatorState::Absent);
        assert_eq!(operator_state(&[deployment(&json!({}), 0)]), OperatorState::Unavailable);
        assert_eq!(operator_state(&[deployment(&json!({}), 0), deployment(&json!({}), 1)]), OperatorState::Available);
    }

    #[test]
    fn detects_installer_from_metadata() {
        let manager = |metadata: &Value| managed_by(&serde_json::from_value(metadata.clone()).unwrap());
        assert_eq!(manager(&json!({"labels": {"app.kubernetes.io/name": "meshwright"}})), None);
        let helm = json!({"annotations": {"meta.helm.sh/release-name": "mw"}});
        assert_eq!(manager(&helm).as_deref(), Some("Helm release mw"));
        assert_eq!(
            manager(&json!({"labels": {"app.kubernetes.io/instance": "mw"}})).as_deref(),
            Some("Argo CD application mw")
        );
        // A Flux HelmRelease creates a Helm release and would recreate it.
        let flux = json!({"labels": {"helm.toolkit.fluxcd.io/name": "operators"}, "annotations": helm["annotations"]});
        assert_eq!(manager(&flux).as_deref(), Some("Flux HelmRelease operators"));
        let owner = json!({"apiVersion": "v1", "kind": "ClusterServiceVersion", "name": "mw.v1", "uid": "u"});
        assert_eq!(manager(&json!({"ownerReferences": [owner]})).as_deref(), Some("ClusterServiceVersion mw.v1"));
    }
}
