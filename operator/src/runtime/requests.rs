//! Requests as several rooms make them: with a deadline, lists a page at a time, and the words in which one was refused.

use std::fmt::Debug;
use std::time::Duration;

use kube::api::{Api, ListParams};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::catalog::explain;

/// How long a request may take before it counts as failed; the client's own time-outs are per read.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

/// Runs a request, which fails as a time-out does when it takes too long.
pub(crate) async fn within_deadline<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, kube::Error> {
    timeout(REQUEST_DEADLINE, request).await.unwrap_or_else(|elapsed| Err(kube::Error::Service(elapsed.into())))
}

/// Lists everything and hands it on object by object, so that no more than a page of it is held at a time. `params` says
/// how much a page is.
pub(crate) async fn pages<K>(api: &Api<K>, mut params: ListParams, mut each: impl FnMut(K)) -> Result<(), kube::Error>
where
    K: Clone + Debug + DeserializeOwned,
{
    loop {
        let page = within_deadline(api.list(&params)).await?;
        page.items.into_iter().for_each(&mut each);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(()),
        }
    }
}

/// Why a request failed, in the server's words where it has any: they name the right that is missing.
pub(crate) fn why(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => explain(other),
    }
}
