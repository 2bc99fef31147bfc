//! Access reviews of the required permissions.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::authorization::v1::{SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Client;
use kube::api::{Api, PostParams};

use super::super::snapshot::{PermissionReview, ReadResult, ReviewedAccount};
use super::CONCURRENCY;
use crate::apply::{attributes, is_allowed as caller_is_allowed};
use crate::mesh::rbac::{ACCOUNT, NON_RESOURCE, Permission};
use crate::runtime::requests::api_error_message;

/// Reviews the permissions of the operator's ServiceAccount. If it doesn't exist, reviews the current user, who would
/// have to grant them.
pub(super) async fn review(
    client: &Client,
    operator_namespace: &str,
    permissions: Vec<Permission>,
) -> ReadResult<PermissionReview> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), operator_namespace);
    let account = match accounts.get_metadata_opt(ACCOUNT).await {
        Ok(Some(_)) => ReviewedAccount::Operator(operator_namespace.to_owned()),
        // A user who can't read the ServiceAccount can't review its permissions either.
        Ok(None) | Err(_) => ReviewedAccount::Caller,
    };
    let reviewed = permissions.len();
    if has_all(client, &account).await.map_err(|error| api_error_message(&error))? {
        return Ok(PermissionReview { account, reviewed, missing: Vec::new() });
    }
    let answers = stream::iter(permissions).map(|permission| {
        let account = &account;
        async move { Ok(if is_allowed(client, account, &permission).await? { None } else { Some(permission) }) }
    });
    let answers: Result<Vec<Option<Permission>>, kube::Error> = answers.buffered(CONCURRENCY).try_collect().await;
    let missing = answers.map_err(|error| api_error_message(&error))?.into_iter().flatten().collect();
    Ok(PermissionReview { account, reviewed, missing })
}

/// Replaces hundreds of reviews with two for a cluster administrator.
async fn has_all(client: &Client, account: &ReviewedAccount) -> Result<bool, kube::Error> {
    let everything = |group: &str| Permission {
        namespace: None,
        group: group.into(),
        resource: "*".into(),
        name: None,
        verb: "*".into(),
    };
    Ok(is_allowed(client, account, &everything("*")).await?
        && is_allowed(client, account, &everything(NON_RESOURCE)).await?)
}

async fn is_allowed(client: &Client, account: &ReviewedAccount, permission: &Permission) -> Result<bool, kube::Error> {
    match account {
        ReviewedAccount::Caller => caller_is_allowed(client, permission).await,
        ReviewedAccount::Operator(namespace) => {
            let groups = [
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ];
            let (resource, path) = attributes(permission);
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
