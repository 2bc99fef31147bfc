//! Asks the API server which rights the operator holds. Reviews leave nothing behind.

use futures::{StreamExt as _, TryStreamExt as _, future, stream};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
    SelfSubjectRulesReview, SelfSubjectRulesReviewSpec, SubjectRulesReviewStatus,
};
use kube::Client;
use kube::api::{Api, PostParams};

use crate::mesh::rights::{Held, NO_RESOURCE, Placement, Required, Right};
use crate::runtime::requests::within_deadline;

/// A namespace that nobody makes: what is held there is held in all.
const NOWHERE: &str = "meshwright-no-namespace";
/// Questions at a time.
const CONCURRENCY: usize = 8;

/// Reads the operator's own rights.
#[derive(Clone)]
pub struct OwnRights {
    client: Client,
    namespace: String,
}

impl OwnRights {
    /// Those of the operator in this namespace.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned() }
    }

    /// Where the operator is, and a mesh of its.
    #[must_use]
    pub fn placement(&self, mesh: &str) -> Placement {
        Placement { operator: self.namespace.clone(), mesh: mesh.to_owned() }
    }

    /// What of these rights is not held. The rules that the API server tells answer for most in one request a namespace;
    /// they may leave out what another authorizer allows, so that each of the rest is asked for by itself.
    pub async fn missing(&self, required: &Required) -> Result<Vec<Right>, kube::Error> {
        let mut held = Held::default();
        held.learn(None, self.rules(NOWHERE).await?);
        let mut namespaces: Vec<String> =
            required.missing(&held).into_iter().filter_map(|right| right.namespace).collect();
        namespaces.dedup();
        let told = namespaces.iter().map(|namespace| self.rules(namespace));
        for (namespace, told) in namespaces.iter().zip(future::try_join_all(told).await?) {
            held.learn(Some(namespace), told);
        }
        let open = required.missing(&held).into_iter().map(|right| async move {
            let is_held = holds(&self.client, &right).await?;
            Ok::<_, kube::Error>((!is_held).then_some(right))
        });
        let answers: Vec<Option<Right>> = stream::iter(open).buffered(CONCURRENCY).try_collect().await?;
        Ok(answers.into_iter().flatten().collect())
    }

    async fn rules(&self, namespace: &str) -> Result<SubjectRulesReviewStatus, kube::Error> {
        let spec = SelfSubjectRulesReviewSpec { namespace: Some(namespace.to_owned()) };
        let review = SelfSubjectRulesReview { spec, ..SelfSubjectRulesReview::default() };
        let api: Api<SelfSubjectRulesReview> = Api::all(self.client.clone());
        let answer = within_deadline(api.create(&PostParams::default(), &review)).await?;
        Ok(answer.status.unwrap_or_default())
    }
}

/// Whether whoever asks holds a right.
pub(crate) async fn holds(client: &Client, right: &Right) -> Result<bool, kube::Error> {
    let (resource_attributes, non_resource_attributes) = attributes(right);
    let spec = SelfSubjectAccessReviewSpec { resource_attributes, non_resource_attributes };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = within_deadline(api.create(&PostParams::default(), &review)).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// A right as a review asks for it.
pub(crate) fn attributes(right: &Right) -> (Option<ResourceAttributes>, Option<NonResourceAttributes>) {
    let verb = Some(right.verb.clone());
    if right.group == NO_RESOURCE {
        return (None, Some(NonResourceAttributes { path: Some(right.resource.clone()), verb }));
    }
    let (resource, part) = match right.resource.split_once('/') {
        Some((resource, part)) => (resource, Some(part.to_owned())),
        None => (right.resource.as_str(), None),
    };
    let attributes = ResourceAttributes {
        group: Some(right.group.clone()),
        resource: Some(resource.to_owned()),
        subresource: part,
        namespace: right.namespace.clone(),
        name: right.name.clone(),
        verb,
        ..ResourceAttributes::default()
    };
    (Some(attributes), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_is_asked_for_as_a_resource_with_its_part_or_as_a_path() {
        let right = |group: &str, resource: &str| Right {
            namespace: Some("mesh".into()),
            group: group.into(),
            resource: resource.into(),
            name: None,
            verb: "get".into(),
        };
        let (resource, path) = attributes(&right("apps", "deployments/scale"));
        let resource = resource.unwrap();
        assert_eq!(
            (resource.resource.as_deref(), resource.subresource.as_deref()),
            (Some("deployments"), Some("scale"))
        );
        assert_eq!((resource.group.as_deref(), path), (Some("apps"), None));
        let (resource, path) = attributes(&right(NO_RESOURCE, "/debug/*"));
        assert_eq!((resource, path.unwrap().path.as_deref()), (None, Some("/debug/*")));
    }
}
