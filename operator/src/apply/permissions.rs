//! Reads the operator's own permissions with access reviews, which the API server does not store.

use futures::{StreamExt as _, TryStreamExt as _, future, stream};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
    SelfSubjectRulesReview, SelfSubjectRulesReviewSpec, SubjectRulesReviewStatus,
};
use kube::Client;
use kube::api::{Api, PostParams};

use crate::mesh::rbac::{GrantedPermissions, InstallNamespaces, NON_RESOURCE, Permission, RequiredPermissions};
use crate::runtime::requests::within_deadline;

/// A namespace that does not exist: permissions in it are those of cluster-wide roles.
const NO_NAMESPACE: &str = "meshwright-no-namespace";
/// The most concurrent access reviews.
const CONCURRENCY: usize = 8;

/// Reads the operator's own permissions.
#[derive(Clone)]
pub struct OwnPermissions {
    client: Client,
    namespace: String,
}

impl OwnPermissions {
    /// Creates a reader for an operator in this namespace.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned() }
    }

    /// The namespaces of the operator and of a mesh.
    #[must_use]
    pub fn install_namespaces(&self, mesh: &str) -> InstallNamespaces {
        InstallNamespaces { operator: self.namespace.clone(), mesh: mesh.to_owned() }
    }

    /// The required permissions that are not granted. One rules review per namespace covers most of them. It may omit
    /// what an authorizer other than RBAC allows, so that the rest is checked with one access review each.
    pub async fn missing(&self, required: &RequiredPermissions) -> Result<Vec<Permission>, kube::Error> {
        let mut granted = GrantedPermissions::default();
        granted.add(None, self.rules(NO_NAMESPACE).await?);
        let mut namespaces: Vec<String> =
            required.missing(&granted).into_iter().filter_map(|permission| permission.namespace).collect();
        namespaces.dedup();
        let rules = namespaces.iter().map(|namespace| self.rules(namespace));
        for (namespace, rules) in namespaces.iter().zip(future::try_join_all(rules).await?) {
            granted.add(Some(namespace), rules);
        }
        let open = required.missing(&granted).into_iter().map(|permission| async move {
            let is_granted = is_allowed(&self.client, &permission).await?;
            Ok::<_, kube::Error>((!is_granted).then_some(permission))
        });
        let denied: Vec<Option<Permission>> = stream::iter(open).buffered(CONCURRENCY).try_collect().await?;
        Ok(denied.into_iter().flatten().collect())
    }

    async fn rules(&self, namespace: &str) -> Result<SubjectRulesReviewStatus, kube::Error> {
        let spec = SelfSubjectRulesReviewSpec { namespace: Some(namespace.to_owned()) };
        let review = SelfSubjectRulesReview { spec, ..SelfSubjectRulesReview::default() };
        let api: Api<SelfSubjectRulesReview> = Api::all(self.client.clone());
        let answer = within_deadline(api.create(&PostParams::default(), &review)).await?;
        Ok(answer.status.unwrap_or_default())
    }
}

/// Whether the client's user has a permission.
pub(crate) async fn is_allowed(client: &Client, permission: &Permission) -> Result<bool, kube::Error> {
    let (resource_attributes, non_resource_attributes) = attributes(permission);
    let spec = SelfSubjectAccessReviewSpec { resource_attributes, non_resource_attributes };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = within_deadline(api.create(&PostParams::default(), &review)).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// The attributes of a permission for an access review.
pub(crate) fn attributes(permission: &Permission) -> (Option<ResourceAttributes>, Option<NonResourceAttributes>) {
    let verb = Some(permission.verb.clone());
    if permission.group == NON_RESOURCE {
        return (None, Some(NonResourceAttributes { path: Some(permission.resource.clone()), verb }));
    }
    let (resource, subresource) = match permission.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (permission.resource.as_str(), None),
    };
    let attributes = ResourceAttributes {
        group: Some(permission.group.clone()),
        resource: Some(resource.to_owned()),
        subresource,
        namespace: permission.namespace.clone(),
        name: permission.name.clone(),
        verb,
        ..ResourceAttributes::default()
    };
    (Some(attributes), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_have_subresources_and_paths() {
        let permission = |group: &str, resource: &str| Permission {
            namespace: Some("mesh".into()),
            group: group.into(),
            resource: resource.into(),
            name: None,
            verb: "get".into(),
        };
        let (resource, path) = attributes(&permission("apps", "deployments/scale"));
        let resource = resource.unwrap();
        assert_eq!(
            (resource.resource.as_deref(), resource.subresource.as_deref()),
            (Some("deployments"), Some("scale"))
        );
        assert_eq!((resource.group.as_deref(), path), (Some("apps"), None));
        let (resource, path) = attributes(&permission(NON_RESOURCE, "/debug/*"));
        assert_eq!((resource, path.unwrap().path.as_deref()), (None, Some("/debug/*")));
    }
}
