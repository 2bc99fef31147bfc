//! What a cluster has of Meshwright. Reads.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, DynamicObject, ListParams, ObjectMeta};
use kube::{Client, CustomResourceExt as _, ResourceExt as _};
use meshwright_api::MeshInstallation;

use super::super::cluster::installations;
use super::UninstallError;
use crate::apply::api;
use crate::mesh::kind::Kind;
use crate::mesh::object::ObjectKey;
use crate::mesh::rights::{ACCOUNT, MESH_ROLE};
use crate::mesh::uninstall::Removal;

/// The label of everything that goes with the operator.
const OURS: &str = "app.kubernetes.io/name=meshwright";
/// What the operator consists of, in the order in which it goes: nothing that runs loses a right before it has ended.
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
/// Who else installs things, and by which label or annotation that is known. The last, by which Argo CD knows its own unless
/// it is told otherwise, is Helm's as well.
const MAKERS: [(&str, &str); 6] = [
    ("olm.operatorframework.io/owner-name", "OLM's"),
    ("helm.toolkit.fluxcd.io/name", "Flux' HelmRelease"),
    ("kustomize.toolkit.fluxcd.io/name", "Flux' Kustomization"),
    ("argocd.argoproj.io/tracking-id", "Argo CD's"),
    ("meta.helm.sh/release-name", "Helm's release"),
    ("app.kubernetes.io/instance", "Argo CD's"),
];

/// Whether somebody is there to take finalizers off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// There is no Deployment.
    Absent,
    /// It has no pod that is available.
    Down,
    /// It has.
    Serves,
}

/// What there is.
pub(super) struct Found {
    pub(super) meshes: Vec<MeshInstallation>,
    /// What the operator consists of, in the order in which it goes.
    pub(super) parts: Vec<Removal>,
    /// The definition of MeshInstallations.
    pub(super) definition: Option<Removal>,
    pub(super) operator: Standing,
    /// Another namespace, where an operator is.
    pub(super) elsewhere: Option<String>,
    /// Who made the operator's Deployment or whatever is left of it, and takes it away again.
    pub(super) maker: Option<String>,
}

/// Looks for it.
pub(super) async fn find(client: &Client, namespace: &str) -> Result<Found, UninstallError> {
    let all: Api<Deployment> = Api::all(client.clone());
    let all = all.list(&ours()).await.map_err(failed("Deployments"))?.items;
    let (deployments, others): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|deployment| deployment.namespace().as_deref() == Some(namespace));
    let (mut parts, mut made) = (Vec::new(), None);
    for kind in KINDS {
        let found = parts_of(client, kind, namespace).await?;
        made = made.or_else(|| found.iter().find_map(maker));
        parts.extend(found.into_iter().filter_map(|metadata| removal(kind, metadata)));
    }
    Ok(Found {
        meshes: meshes(client).await?,
        parts,
        definition: definition(client).await?,
        operator: standing(&deployments),
        elsewhere: others.first().and_then(Deployment::namespace),
        maker: made,
    })
}

/// All MeshInstallations.
pub(super) async fn meshes(client: &Client) -> Result<Vec<MeshInstallation>, UninstallError> {
    installations(client).await.map_err(failed("MeshInstallations"))
}

async fn definition(client: &Client) -> Result<Option<Removal>, UninstallError> {
    let kind = Kind::CustomResourceDefinition;
    let key = ObjectKey { kind, namespace: None, name: MeshInstallation::crd_name().to_owned() };
    let found = api(client, &key).get_metadata_opt(&key.name).await.map_err(failed(&key.name))?;
    Ok(found.map(|found| Removal { key, uid: found.uid().unwrap_or_default() }))
}

async fn parts_of(client: &Client, kind: Kind, namespace: &str) -> Result<Vec<ObjectMeta>, UninstallError> {
    let roles = matches!(kind, Kind::Role | Kind::RoleBinding);
    let resource = kind.api_resource();
    // A role of the operator's is in each namespace of a mesh too.
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
    Some(Removal { key, uid: metadata.uid? })
}

fn standing(deployments: &[Deployment]) -> Standing {
    let available = |deployment: &Deployment| deployment.status.as_ref().and_then(|status| status.available_replicas);
    match deployments {
        [] => Standing::Absent,
        all if all.iter().any(|one| available(one).is_some_and(|pods| pods > 0)) => Standing::Serves,
        _ => Standing::Down,
    }
}

fn maker(metadata: &ObjectMeta) -> Option<String> {
    let known = MAKERS.iter().find_map(|(key, who)| {
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
    fn an_operator_without_an_available_pod_is_none() {
        assert_eq!(standing(&[]), Standing::Absent);
        assert_eq!(standing(&[deployment(&json!({}), 0)]), Standing::Down);
        assert_eq!(standing(&[deployment(&json!({}), 0), deployment(&json!({}), 1)]), Standing::Serves);
    }

    #[test]
    fn whoever_made_the_operator_is_known_by_its_marks() {
        let made = |metadata: &Value| maker(&serde_json::from_value(metadata.clone()).unwrap());
        assert_eq!(made(&json!({"labels": {"app.kubernetes.io/name": "meshwright"}})), None);
        let helm = json!({"annotations": {"meta.helm.sh/release-name": "mw"}});
        assert_eq!(made(&helm).as_deref(), Some("Helm's release mw"));
        assert_eq!(made(&json!({"labels": {"app.kubernetes.io/instance": "mw"}})).as_deref(), Some("Argo CD's mw"));
        // Flux' HelmRelease makes a release of Helm's: the first is the one that would bring it back.
        let flux = json!({"labels": {"helm.toolkit.fluxcd.io/name": "operators"}, "annotations": helm["annotations"]});
        assert_eq!(made(&flux).as_deref(), Some("Flux' HelmRelease operators"));
        let owner = json!({"apiVersion": "v1", "kind": "ClusterServiceVersion", "name": "mw.v1", "uid": "u"});
        assert_eq!(made(&json!({"ownerReferences": [owner]})).as_deref(), Some("ClusterServiceVersion mw.v1"));
    }
}
