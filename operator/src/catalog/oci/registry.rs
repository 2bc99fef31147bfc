//! Talks to one registry. Whatever it answers is read up to a bound: who answers may be anybody, or a page for people.
//!
//! The library that names artifacts and reads manifests has a client too, but that one reads manifests, lists and tokens
//! whole, however long they are, and ends the process where the system has no authorities for TLS.

use std::time::Duration;

use oci_client::{
    Reference,
    client::TagResponse,
    errors::{OciDistributionError, OciEnvelope},
    manifest::{
        IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE,
        OciDescriptor, OciManifest,
    },
    token_cache::RegistryToken,
};
use reqwest::{RequestBuilder, Response, StatusCode, header};
use serde::de::DeserializeOwned;

use super::{Credentials, PullError, roots, sign_in::Challenge};
use crate::catalog::digest;

/// Bytes of a packed chart; Istio's largest has about a quarter of a million.
const MAX_ARCHIVE: usize = 16 << 20;
/// Bytes of a manifest, as registries and clients bound them by the distribution specification, and of a token.
const MAX_ANSWER: usize = 4 << 20;
/// Bytes of a list of tags: what is read of it takes several times as much.
const MAX_LIST: usize = 1 << 20;
/// Bytes that are kept of what a registry says when it refuses.
const MAX_REFUSAL: usize = 4 << 10;
/// Tags asked for at a time, and more than any registry has of one chart.
const PAGE: usize = 1000;
const MAX_TAGS: usize = 20_000;
/// Characters of a tag, by the specification.
const MAX_TAG: usize = 128;
/// For a connection, and for each piece of an answer: a registry that is slow is waited for, one that hangs isn't.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// By which a registry says what it sends.
const DIGEST: &str = "docker-content-digest";
const USER_AGENT: &str = concat!("meshwright/", env!("CARGO_PKG_VERSION"));

/// A registry, and who asks it.
pub(super) struct Registry<'a> {
    http: reqwest::Client,
    scheme: &'static str,
    credentials: &'a Credentials,
}

/// An answer that was given with status 200.
struct Answer {
    body: Vec<u8>,
    digest: Option<String>,
}

/// What is asked for, and how much of it is read.
struct Question<'q> {
    reference: &'q Reference,
    /// Path below the repository.
    page: String,
    kinds: &'q str,
    limit: usize,
    /// What to call it, should it be too large.
    name: String,
}

impl<'a> Registry<'a> {
    pub(super) fn new(credentials: &'a Credentials, plain_http: bool) -> Result<Self, PullError> {
        // The client takes the process's own; that there is one already is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let failed = |error: reqwest::Error| PullError::Client(Box::new(error));
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            // Nor is anybody sent on to where there is no TLS.
            .https_only(!plain_http)
            .user_agent(USER_AGENT);
        if let Some(bundled) = roots::bundled() {
            let known: Result<Vec<_>, _> = bundled.iter().map(|der| reqwest::Certificate::from_der(der)).collect();
            http = http.tls_certs_only(known.map_err(failed)?);
        }
        let scheme = if plain_http { "http" } else { "https" };
        Ok(Self { http: http.build().map_err(failed)?, scheme, credentials })
    }

    /// The manifest of an artifact, and its digest: that of the reference, if it has one.
    pub(super) async fn manifest(&self, reference: &Reference) -> Result<(OciManifest, String), PullError> {
        let kinds = [
            OCI_IMAGE_MEDIA_TYPE,
            IMAGE_MANIFEST_MEDIA_TYPE,
            OCI_IMAGE_INDEX_MEDIA_TYPE,
            IMAGE_MANIFEST_LIST_MEDIA_TYPE,
        ];
        let wanted = reference.digest().or(reference.tag()).unwrap_or_default();
        let question = Question {
            reference,
            page: format!("manifests/{wanted}"),
            kinds: &kinds.join(", "),
            limit: MAX_ANSWER,
            name: format!("the manifest of {reference}"),
        };
        let answer = self.get(&question).await?;
        let found = digest::of_blob(&answer.body);
        // A digest of another kind can't be told from here.
        let said = answer.digest.filter(|digest| digest.starts_with(digest::PREFIX));
        for wanted in reference.digest().map(str::to_owned).into_iter().chain(said) {
            if wanted != found {
                return Err(PullError::Damaged { artifact: reference.to_string(), wanted, found });
            }
        }
        Ok((self.parse(reference, &answer.body)?, found))
    }

    /// All tags of a repository.
    pub(super) async fn tags(&self, repository: &Reference) -> Result<Vec<String>, PullError> {
        let name = format!("{}/{}", repository.registry(), repository.repository());
        let mut tags: Vec<String> = Vec::new();
        loop {
            let last = tags.last().map(|last| format!("&last={last}")).unwrap_or_default();
            let question = Question {
                reference: repository,
                page: format!("tags/list?n={PAGE}{last}"),
                kinds: "application/json",
                limit: MAX_LIST,
                name: format!("a list of the tags of {name}"),
            };
            let answer = self.get(&question).await?;
            let page = self.parse::<TagResponse>(repository, &answer.body)?.tags;
            match add(&mut tags, page) {
                Pages::More => {}
                Pages::End => return Ok(tags),
                Pages::TooMany => return Err(PullError::TooManyTags { repository: name, limit: MAX_TAGS }),
            }
        }
    }

    /// A blob that a manifest names.
    pub(super) async fn blob(&self, reference: &Reference, layer: &OciDescriptor) -> Result<Vec<u8>, PullError> {
        let (artifact, wanted) = (reference.to_string(), layer.digest.clone());
        let question = Question {
            reference,
            page: format!("blobs/{wanted}"),
            kinds: "*/*",
            limit: MAX_ARCHIVE,
            name: artifact.clone(),
        };
        let body = match self.get(&question).await {
            Ok(answer) => answer.body,
            // The manifest is there, so this isn't a chart that the release can be without.
            Err(PullError::Missing { .. }) => return Err(PullError::Incomplete { artifact, digest: wanted }),
            Err(error) => return Err(error),
        };
        let found = digest::of_blob(&body);
        if found == wanted { Ok(body) } else { Err(PullError::Damaged { artifact, wanted, found }) }
    }

    /// Asks, and signs in where the registry wants it.
    async fn get(&self, question: &Question<'_>) -> Result<Answer, PullError> {
        let (host, repository) = (question.reference.resolve_registry(), question.reference.repository());
        let url = format!("{}://{host}/v2/{repository}/{}", self.scheme, question.page);
        let request = || self.http.get(&url).header(header::ACCEPT, question.kinds);
        let mut response = self.send(request(), question.reference).await?;
        if response.status() == StatusCode::UNAUTHORIZED
            && let Some(challenge) = Challenge::of(response.headers(), self.scheme)
        {
            let signed = self.sign(request(), challenge, question.reference).await?;
            response = self.send(signed, question.reference).await?;
        }
        self.answer(response, question).await
    }

    async fn send(&self, request: RequestBuilder, reference: &Reference) -> Result<Response, PullError> {
        request.send().await.map_err(|error| PullError::of(private(error), reference, self.credentials))
    }

    /// Puts into a request what the registry wants to see.
    async fn sign(
        &self,
        request: RequestBuilder,
        challenge: Challenge,
        reference: &Reference,
    ) -> Result<RequestBuilder, PullError> {
        let Challenge::Token { realm, service } = challenge else { return Ok(self.with_password(request)) };
        let scope = format!("repository:{}:pull", reference.repository());
        let service = service.map(|service| ("service", service));
        let query: Vec<(&str, String)> = service.into_iter().chain([("scope", scope)]).collect();
        let asked = self.with_password(self.http.get(&realm).query(&query));
        let response = self.send(asked, reference).await?;
        let name = format!("the token for {reference}");
        let question = Question { reference, page: String::new(), kinds: "", limit: MAX_ANSWER, name };
        let answer = self.answer(response, &question).await.map_err(|error| not_the_charts(error, reference))?;
        let token: RegistryToken = self.parse(reference, &answer.body)?;
        Ok(request.bearer_auth(token.token()))
    }

    fn with_password(&self, request: RequestBuilder) -> RequestBuilder {
        match self.credentials {
            Credentials::Password { username, password } => request.basic_auth(username, Some(password)),
            Credentials::Anonymous => request,
        }
    }

    async fn answer(&self, mut response: Response, question: &Question<'_>) -> Result<Answer, PullError> {
        let failed = |error| PullError::of(error, question.reference, self.credentials);
        let (status, url) = (response.status(), shown(response.url().clone()));
        let digest = response.headers().get(DIGEST).and_then(|digest| digest.to_str().ok()).map(str::to_owned);
        if status != StatusCode::OK {
            let body = read(&mut response, MAX_REFUSAL).await.map_err(|error| failed(private(error)))?;
            return Err(failed(refusal(status, &body.start, url)));
        }
        match read(&mut response, question.limit).await.map_err(|error| failed(private(error)))? {
            Body { whole: true, start: body } => Ok(Answer { body, digest }),
            Body { whole: false, .. } => {
                Err(PullError::TooLarge { artifact: question.name.clone(), limit: question.limit >> 20 })
            }
        }
    }

    fn parse<T: DeserializeOwned>(&self, reference: &Reference, body: &[u8]) -> Result<T, PullError> {
        serde_json::from_slice(body).map_err(|error| PullError::of(error.into(), reference, self.credentials))
    }
}

/// Whether tags are to be asked for after a page of them.
#[derive(Debug, PartialEq, Eq)]
enum Pages {
    More,
    End,
    TooMany,
}

fn add(tags: &mut Vec<String>, mut page: Vec<String>) -> Pages {
    page.retain(|tag| is_tag(tag));
    // A registry that knows no pages sends all of them each time.
    if page.is_empty() || page.last() == tags.last() {
        return Pages::End;
    }
    if tags.len() + page.len() > MAX_TAGS {
        return Pages::TooMany;
    }
    tags.extend(page);
    Pages::More
}

/// Nothing else can be asked for.
fn is_tag(text: &str) -> bool {
    text.len() <= MAX_TAG && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// Registries send those who ask to places where the right to read lies in the query: it is nobody else's to see.
fn shown(mut url: reqwest::Url) -> String {
    url.set_query(None);
    url.into()
}

/// An error without its URL, for the same reason; what was asked for is told anyway.
fn private(error: reqwest::Error) -> OciDistributionError {
    error.without_url().into()
}

/// Whoever gives tokens, and has none, says nothing of what is there.
fn not_the_charts(error: PullError, reference: &Reference) -> PullError {
    match error {
        PullError::Missing { artifact } => PullError::Registry {
            registry: reference.registry().to_owned(),
            artifact,
            source: Box::new(OciDistributionError::AuthenticationFailure(
                "there is nothing where tokens are".to_owned(),
            )),
        },
        error => error,
    }
}

/// What was read of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Body {
    start: Vec<u8>,
    /// There is no more of it.
    whole: bool,
}

/// Reads up to so many bytes of an answer.
async fn read(response: &mut Response, limit: usize) -> Result<Body, reqwest::Error> {
    let mut start = Vec::new();
    while let Some(piece) = response.chunk().await? {
        start.extend_from_slice(&piece);
        if start.len() > limit {
            start.truncate(limit);
            return Ok(Body { start, whole: false });
        }
    }
    Ok(Body { start, whole: true })
}

/// What a refusal means, by the specification's codes where it has them.
fn refusal(status: StatusCode, body: &[u8], url: String) -> OciDistributionError {
    match serde_json::from_slice::<OciEnvelope>(body) {
        Ok(envelope) if status.is_client_error() && status != StatusCode::UNAUTHORIZED => {
            OciDistributionError::RegistryError { envelope, url }
        }
        _ => {
            let message = String::from_utf8_lossy(body).trim().to_owned();
            OciDistributionError::ServerError { code: status.as_u16(), url, message }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(length: usize) -> Response {
        axum::http::Response::new("x".repeat(length)).into()
    }

    #[tokio::test]
    async fn an_answer_is_read_up_to_a_bound() {
        let fits = read(&mut response(10), 10).await.unwrap();
        assert_eq!(fits, Body { start: vec![b'x'; 10], whole: true });
        let exceeds = read(&mut response(11), 10).await.unwrap();
        assert_eq!(exceeds, Body { start: vec![b'x'; 10], whole: false });
    }

    #[test]
    fn pages_of_tags_are_asked_for_until_there_is_nothing_new_or_too_much() {
        let page = |from: usize, to: usize| (from..to).map(|number| format!("1.0.{number}")).collect::<Vec<_>>();
        let mut tags = Vec::new();
        assert_eq!(add(&mut tags, page(0, 2)), Pages::More);
        assert_eq!((add(&mut tags, page(0, 2)), tags.len()), (Pages::End, 2));
        assert_eq!((add(&mut tags, Vec::new()), tags.len()), (Pages::End, 2));
        assert_eq!(add(&mut tags, page(2, MAX_TAGS)), Pages::More);
        assert_eq!((add(&mut tags, page(MAX_TAGS, MAX_TAGS + 1)), tags.len()), (Pages::TooMany, MAX_TAGS));
    }

    #[test]
    fn what_can_be_no_tag_is_not_kept() {
        let mut tags = Vec::new();
        let odd = vec!["x".repeat(MAX_TAG + 1), "a&last=b".to_owned()];
        assert_eq!((add(&mut tags, odd.clone()), tags.len()), (Pages::End, 0));
        assert_eq!(add(&mut tags, [odd, vec!["1.0.0".to_owned()]].concat()), Pages::More);
        assert_eq!(tags, ["1.0.0"]);
    }

    #[test]
    fn what_a_url_grants_is_not_told() {
        let url: reqwest::Url = "https://store.example.com/blob?X-Amz-Signature=secret".parse().unwrap();
        assert_eq!(shown(url), "https://store.example.com/blob");
    }

    #[test]
    fn a_chart_is_not_missing_because_nobody_gives_a_token_for_it() {
        let reference: Reference = "registry.example.com/charts/cni:1.31.2".parse().unwrap();
        let missing = PullError::Missing { artifact: reference.to_string() };
        assert!(matches!(not_the_charts(missing, &reference), PullError::Registry { .. }));
    }

    #[tokio::test]
    async fn a_registry_asked_by_tls_is_never_asked_without() {
        let reference: Reference = "registry.example.com/charts/cni:1.31.2".parse().unwrap();
        let registry = Registry::new(&Credentials::Anonymous, false).unwrap();
        let plain = registry.http.get("http://127.0.0.1:1/token");
        let PullError::Unreachable { source, .. } = registry.send(plain, &reference).await.unwrap_err() else {
            panic!()
        };
        assert!(format!("{source:?}").contains("BadScheme"), "{source:?}");
    }

    #[test]
    fn a_refusal_is_understood_by_its_code_and_else_by_its_status() {
        let codes = br#"{"errors": [{"code": "NAME_UNKNOWN", "message": "no"}]}"#;
        let said = |status, body: &[u8]| refusal(status, body, "u".into());
        assert!(matches!(said(StatusCode::NOT_FOUND, codes), OciDistributionError::RegistryError { .. }));
        for (status, body) in [
            (StatusCode::UNAUTHORIZED, &codes[..]),
            (StatusCode::BAD_GATEWAY, codes),
            (StatusCode::FORBIDDEN, b"<html>"),
        ] {
            let OciDistributionError::ServerError { code, .. } = said(status, body) else { panic!("{status}") };
            assert_eq!(code, status.as_u16());
        }
    }
}
