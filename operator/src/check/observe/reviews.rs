//! Asks the API server which rights are held.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
    SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Client;
use kube::api::{Api, PostParams};

use super::super::cluster::{Account, Rights, Seen};
use super::CONCURRENCY;
use crate::mesh::rights::{ACCOUNT, NO_RESOURCE, Right};
use crate::runtime::requests::why;

/// Which of the rights the operator's account lacks; where there is no such account yet, the caller, who would have to
/// grant them.
pub(super) async fn review(client: &Client, operator_namespace: &str, rights: Vec<Right>) -> Seen<Rights> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), operator_namespace);
    let of = match accounts.get_metadata_opt(ACCOUNT).await {
        Ok(Some(_)) => Account::Operator(operator_namespace.to_owned()),
        // Who may not look whether it is there can't ask for its rights either.
        Ok(None) | Err(_) => Account::Caller,
    };
    let asked = rights.len();
    if holds_all(client, &of).await.map_err(|error| why(&error))? {
        return Ok(Rights { of, asked, missing: Vec::new() });
    }
    let answers = stream::iter(rights).map(|right| {
        let of = &of;
        async move { Ok(if holds(client, of, &right).await? { None } else { Some(right) }) }
    });
    let answers: Result<Vec<Option<Right>>, kube::Error> = answers.buffered(CONCURRENCY).try_collect().await;
    let missing = answers.map_err(|error| why(&error))?.into_iter().flatten().collect();
    Ok(Rights { of, asked, missing })
}

/// Two questions in place of hundreds for a cluster's administrator.
async fn holds_all(client: &Client, of: &Account) -> Result<bool, kube::Error> {
    let everything = |group: &str| Right {
        namespace: None,
        group: group.into(),
        resource: "*".into(),
        name: None,
        verb: "*".into(),
    };
    Ok(holds(client, of, &everything("*")).await? && holds(client, of, &everything(NO_RESOURCE)).await?)
}

async fn holds(client: &Client, of: &Account, right: &Right) -> Result<bool, kube::Error> {
    let (resource, path) = attributes(right);
    match of {
        Account::Caller => {
            let review = SelfSubjectAccessReview {
                spec: SelfSubjectAccessReviewSpec { resource_attributes: resource, non_resource_attributes: path },
                ..SelfSubjectAccessReview::default()
            };
            let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
            let answer = api.create(&PostParams::default(), &review).await?;
            Ok(answer.status.is_some_and(|status| status.allowed))
        }
        Account::Operator(namespace) => {
            let groups = [
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ];
            let review = SubjectAccessReview {
                spec: SubjectAccessReviewSpec {
                    user: Some(format!("system:serviceaccount:{namespace}:{ACCOUNT}")),
                    groups: Some(groups.into()),
                    resource_attributes: resource,
                    non_resource_attributes: path,
                    ..SubjectAccessReviewSpec::default()
                },
                ..SubjectAccessReview::default()
            };
            let api: Api<SubjectAccessReview> = Api::all(client.clone());
            let answer = api.create(&PostParams::default(), &review).await?;
            Ok(answer.status.is_some_and(|status| status.allowed))
        }
    }
}

fn attributes(right: &Right) -> (Option<ResourceAttributes>, Option<NonResourceAttributes>) {
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
