//! Helpers for API requests: deadlines, paged lists and error messages.

use std::error::Error;
use std::fmt::Debug;
use std::time::Duration;

use kube::api::{Api, ListParams};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::progress::record_request;
use crate::catalog::error_chain;
use crate::mesh::text::shorten;

/// Deadline of a request. The client's timeouts apply to single reads only.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

/// The most bytes of an error message.
const MAX_MESSAGE: usize = 4096;

/// Runs a request with a deadline. Exceeding it fails like a timeout of the client.
pub(crate) async fn within_deadline<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, kube::Error> {
    let result = timeout(REQUEST_DEADLINE, request).await;
    record_request();
    result.unwrap_or_else(|elapsed| Err(kube::Error::Service(elapsed.into())))
}

/// Lists all objects page by page and passes them to `each`, so that only one page is in memory. `params` sets the page
/// size.
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

/// Returns the API server's message for a failed request, which names missing permissions, or the error with its
/// causes. Messages quote values that the API server rejects, so long ones are shortened.
pub(crate) fn api_error_message(error: &kube::Error) -> String {
    let mut message = whole_error_message(error);
    shorten(&mut message, MAX_MESSAGE);
    message
}

/// Whether the API server, or etcd behind it, rejects an object because of its size.
pub(crate) fn is_too_large(error: &kube::Error) -> bool {
    // As messages of the API server, of its schema validation, of etcd and of the client for etcd say it.
    let causes = ["too large", "Too long", "Too many", "larger than max"];
    let kube::Error::Api(status) = error else { return false };
    status.code == 413 || causes.iter().any(|cause| status.message.contains(cause))
}

fn whole_error_message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.message.is_empty() => {
            format!("the API server responded with HTTP status {}", status.code)
        }
        kube::Error::Api(status) => status.message.clone(),
        kube::Error::Service(cause) => error_chain(cause.as_ref()),
        other => error_chain(other),
    }
}

/// Formats an error and its causes in one line like [`error_chain`], with [`api_error_message`] for failed requests.
pub(crate) fn api_error_chain(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut next) = (String::new(), Some(error));
    while let Some(cause) = next {
        let request = as_request_error(cause);
        let message = request.map_or_else(|| without_request(cause), api_error_message);
        if !text.contains(&message) {
            text = if text.is_empty() { message } else { format!("{text}: {message}") };
        }
        // The message of a failed request already includes its causes.
        next = cause.source().filter(|_| request.is_none());
    }
    text
}

/// Large errors are boxed.
fn as_request_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a kube::Error> {
    let boxed = || error.downcast_ref::<Box<kube::Error>>().map(AsRef::as_ref);
    error.downcast_ref().or_else(boxed)
}

/// Returns an error's message without the message of its failed request, which some libraries append.
fn without_request(error: &(dyn Error + 'static)) -> String {
    let text = error.to_string();
    let request = error.source().and_then(as_request_error).map(ToString::to_string);
    let own = request.as_deref().and_then(|request| text.strip_suffix(request));
    own.map_or_else(|| text.clone(), |own| own.trim_end_matches([':', ' ']).to_owned())
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use kube_runtime::watcher;

    use super::*;

    const FORBIDDEN: &str = "pods is forbidden: User \"dev\" cannot list resource \"pods\"";

    fn api(message: &str, code: u16) -> kube::Error {
        kube::Error::Api(Status::failure(message, "Forbidden").with_code(code).boxed())
    }

    #[derive(Debug, thiserror::Error)]
    #[error("can't list pods")]
    struct ListError(#[source] Box<kube::Error>);

    #[derive(Debug, thiserror::Error)]
    #[error("reading failed: {}", api_error_message(.0))]
    struct ReadError(#[source] Box<kube::Error>);

    #[test]
    fn uses_api_server_message_for_rejected_requests() {
        assert_eq!(api_error_chain(&ListError(Box::new(api(FORBIDDEN, 403)))), format!("can't list pods: {FORBIDDEN}"));
        assert_eq!(api_error_chain(&ReadError(Box::new(api(FORBIDDEN, 403)))), format!("reading failed: {FORBIDDEN}"));
        assert_eq!(api_error_chain(&api(FORBIDDEN, 403)), FORBIDDEN);
        let watching = watcher::Error::InitialListFailed(api(FORBIDDEN, 403));
        let message = api_error_chain(&watching);
        assert!(message.ends_with(&format!(": {FORBIDDEN}")) && message.matches(FORBIDDEN).count() == 1, "{message}");
        assert!(!message.contains("ApiError") && !message.contains("Status"), "{message}");
    }

    #[test]
    fn uses_http_status_without_message() {
        assert_eq!(
            api_error_chain(&ListError(Box::new(api("", 429)))),
            "can't list pods: the API server responded with HTTP status 429"
        );
    }

    #[test]
    fn other_errors_include_all_causes() {
        let inner = std::io::Error::other("disk on fire");
        assert_eq!(api_error_chain(&kube::Error::Service(Box::new(inner))), "disk on fire");
        let read = kube::Error::ReadEvents(std::io::Error::other("disk on fire"));
        assert!(api_error_chain(&read).contains("disk on fire"));
    }
}
