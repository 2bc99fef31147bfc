//! Requests as several rooms make them: with a deadline, lists a page at a time, and the words in which one was refused.

use std::error::Error;
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
        kube::Error::Api(status) if status.message.is_empty() => format!("it answers with HTTP status {}", status.code),
        kube::Error::Api(status) => status.message.clone(),
        kube::Error::Service(cause) => explain(cause.as_ref()),
        other => explain(other),
    }
}

/// An error with its causes in one line, as [`explain`] has it; of a request that failed [`why`], and no more.
pub(crate) fn told(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut next) = (String::new(), Some(error));
    while let Some(cause) = next {
        let request = request(cause);
        let words = request.map_or_else(|| without_request(cause), why);
        if !text.contains(&words) {
            text = if text.is_empty() { words } else { format!("{text}: {words}") };
        }
        // What the request's own causes say, its words say.
        next = cause.source().filter(|_| request.is_none());
    }
    text
}

/// Errors are boxed where they are large.
fn request<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a kube::Error> {
    let boxed = || error.downcast_ref::<Box<kube::Error>>().map(AsRef::as_ref);
    error.downcast_ref().or_else(boxed)
}

/// What an error says beside the request that failed: some libraries' have the text of their cause at the end of their own.
fn without_request(error: &(dyn Error + 'static)) -> String {
    let text = error.to_string();
    let request = error.source().and_then(request).map(ToString::to_string);
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
    struct Listing(#[source] Box<kube::Error>);

    #[derive(Debug, thiserror::Error)]
    #[error("reading failed: {}", why(.0))]
    struct Reading(#[source] Box<kube::Error>);

    #[test]
    fn a_refused_request_is_told_in_the_servers_words_alone() {
        assert_eq!(told(&Listing(Box::new(api(FORBIDDEN, 403)))), format!("can't list pods: {FORBIDDEN}"));
        assert_eq!(told(&Reading(Box::new(api(FORBIDDEN, 403)))), format!("reading failed: {FORBIDDEN}"));
        assert_eq!(told(&api(FORBIDDEN, 403)), FORBIDDEN);
        let watching = watcher::Error::InitialListFailed(api(FORBIDDEN, 403));
        let said = told(&watching);
        assert!(said.ends_with(&format!(": {FORBIDDEN}")) && said.matches(FORBIDDEN).count() == 1, "{said}");
        assert!(!said.contains("ApiError") && !said.contains("Status"), "{said}");
    }

    #[test]
    fn an_answer_without_words_has_its_status() {
        assert_eq!(told(&Listing(Box::new(api("", 429)))), "can't list pods: it answers with HTTP status 429");
    }

    #[test]
    fn errors_that_are_about_no_request_have_all_their_causes() {
        let inner = std::io::Error::other("disk on fire");
        assert_eq!(told(&kube::Error::Service(Box::new(inner))), "disk on fire");
        let read = kube::Error::ReadEvents(std::io::Error::other("disk on fire"));
        assert!(told(&read).contains("disk on fire"));
    }
}
