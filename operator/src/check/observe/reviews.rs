//! Asks the API server which rights are held.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::authorization::v1::{SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Client;
use kube::api::{Api, PostParams};

use super::super::cluster::{Account, Rights, Seen};
use super::CONCURRENCY;
use crate::apply::{attributes, holds as caller_holds};
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
    match of {
        Account::Caller => caller_holds(client, right).await,
        Account::Operator(namespace) => {
            let groups = [
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ];
            let (resource, path) = attributes(right);
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
