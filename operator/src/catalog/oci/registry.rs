//! A client for one registry. Reads responses up to a limit: the server may be hostile, or return a web page.
//!
//! The client of `oci-client` is not used: it reads manifests, tag lists and tokens of any size, and panics if the
//! system has no root certificates.

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

use super::{Credentials, PullError, auth::Challenge, roots};
use crate::catalog::digest;

/// Limit in bytes for a packed chart; Istio's largest one has about 250,000.
const MAX_ARCHIVE: usize = 4 << 20;
/// Limit in bytes for a token and for a manifest, by the distribution specification.
const MAX_RESPONSE: usize = 4 << 20;
/// Limit in bytes for a page of tags, which takes several times as much memory when parsed.
const MAX_LIST: usize = 1 << 20;
/// Limit in bytes for the body of an error response.
const MAX_ERROR_BODY: usize = 4 << 10;
/// Tags per request.
const PAGE_SIZE: usize = 1000;
/// Limit for the tags of a repository, more than any chart has.
const MAX_TAGS: usize = 20_000;
/// The longest tag, by the specification.
const MAX_TAG: usize = 128;
/// Timeout for the connection. `READ_TIMEOUT` applies to each chunk, so that a slow registry works and a hanging one
/// fails.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The header with the digest of the response.
const DIGEST: &str = "docker-content-digest";
const USER_AGENT: &str = concat!("meshwright/", env!("CARGO_PKG_VERSION"));

/// A registry with the credentials for it.
pub(super) struct Registry<'a> {
    http: reqwest::Client,
    scheme: &'static str,
    credentials: &'a Credentials,
}

/// A response with status 200.
struct RegistryResponse {
    body: Vec<u8>,
    digest: Option<String>,
}

/// A request for something in a repository.
struct RegistryRequest<'q> {
    reference: &'q Reference,
    /// The path below the repository.
    path: String,
    accept: &'q str,
    limit: usize,
    /// The name for error messages.
    name: String,
}

impl<'a> Registry<'a> {
    pub(super) fn new(credentials: &'a Credentials, plain_http: bool) -> Result<Self, PullError> {
        // Fails if a provider is already installed, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let failed = |error: reqwest::Error| PullError::Client(Box::new(error));
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            // Refuses redirects to plain HTTP.
            .https_only(!plain_http)
            .user_agent(USER_AGENT);
        if let Some(bundled) = roots::bundled() {
            let known: Result<Vec<_>, _> = bundled.iter().map(|der| reqwest::Certificate::from_der(der)).collect();
            http = http.tls_certs_only(known.map_err(failed)?);
        }
        let scheme = if plain_http { "http" } else { "https" };
        Ok(Self { http: http.build().map_err(failed)?, scheme, credentials })
    }

    /// Returns the manifest of an artifact and its digest, verified if the reference has one.
    pub(super) async fn manifest(&self, reference: &Reference) -> Result<(OciManifest, String), PullError> {
        let media_types = [
            OCI_IMAGE_MEDIA_TYPE,
            IMAGE_MANIFEST_MEDIA_TYPE,
            OCI_IMAGE_INDEX_MEDIA_TYPE,
            IMAGE_MANIFEST_LIST_MEDIA_TYPE,
        ];
        let wanted = reference.digest().or(reference.tag()).unwrap_or_default();
        let request = RegistryRequest {
            reference,
            path: format!("manifests/{wanted}"),
            accept: &media_types.join(", "),
            limit: MAX_RESPONSE,
            name: format!("the manifest of {reference}"),
        };
        let response = self.get(&request).await?;
        let found = digest::of_blob(&response.body);
        // Digests of other algorithms are ignored.
        let header = response.digest.filter(|digest| digest.starts_with(digest::PREFIX));
        for wanted in reference.digest().map(str::to_owned).into_iter().chain(header) {
            if wanted != found {
                return Err(PullError::Damaged { artifact: reference.to_string(), wanted, found });
            }
        }
        Ok((self.parse(reference, &response.body)?, found))
    }

    /// Lists the tags of a repository.
    pub(super) async fn tags(&self, repository: &Reference) -> Result<Vec<String>, PullError> {
        let name = format!("{}/{}", repository.registry(), repository.repository());
        let mut tags: Vec<String> = Vec::new();
        loop {
            let last = tags.last().map(|last| format!("&last={last}")).unwrap_or_default();
            let request = RegistryRequest {
                reference: repository,
                path: format!("tags/list?n={PAGE_SIZE}{last}"),
                accept: "application/json",
                limit: MAX_LIST,
                name: format!("the tag list of {name}"),
            };
            let response = self.get(&request).await?;
            let page = self.parse::<TagResponse>(repository, &response.body)?.tags;
            match add_page(&mut tags, page) {
                Pagination::More => {}
                Pagination::End => return Ok(tags),
                Pagination::TooMany => return Err(PullError::TooManyTags { repository: name, limit: MAX_TAGS }),
            }
        }
    }

    /// Returns a layer of a manifest.
    pub(super) async fn blob(&self, reference: &Reference, layer: &OciDescriptor) -> Result<Vec<u8>, PullError> {
        let (artifact, wanted) = (reference.to_string(), layer.digest.clone());
        let request = RegistryRequest {
            reference,
            path: format!("blobs/{wanted}"),
            accept: "*/*",
            limit: MAX_ARCHIVE,
            name: artifact.clone(),
        };
        let body = match self.get(&request).await {
            Ok(response) => response.body,
            // Not `Missing`: the manifest exists, so the chart is not an optional one that the registry lacks.
            Err(PullError::Missing { .. }) => return Err(PullError::Incomplete { artifact, digest: wanted }),
            Err(error) => return Err(error),
        };
        let found = digest::of_blob(&body);
        if found == wanted { Ok(body) } else { Err(PullError::Damaged { artifact, wanted, found }) }
    }

    /// Sends a request; authenticates if the registry requires it.
    async fn get(&self, request: &RegistryRequest<'_>) -> Result<RegistryResponse, PullError> {
        let (host, repository) = (request.reference.resolve_registry(), request.reference.repository());
        let url = format!("{}://{host}/v2/{repository}/{}", self.scheme, request.path);
        let http_request = || self.http.get(&url).header(header::ACCEPT, request.accept);
        let mut response = self.send(http_request(), request.reference).await?;
        if response.status() == StatusCode::UNAUTHORIZED
            && let Some(challenge) = Challenge::of(response.headers(), self.scheme)
        {
            let authorized = self.authorize(http_request(), challenge, request.reference).await?;
            response = self.send(authorized, request.reference).await?;
        }
        self.read_response(response, request).await
    }

    async fn send(&self, request: RequestBuilder, reference: &Reference) -> Result<Response, PullError> {
        request.send().await.map_err(|error| PullError::of(without_url(error), reference, self.credentials))
    }

    /// Adds the credentials that the registry requires to a request.
    async fn authorize(
        &self,
        request: RequestBuilder,
        challenge: Challenge,
        reference: &Reference,
    ) -> Result<RequestBuilder, PullError> {
        let Challenge::Token { realm, service } = challenge else { return Ok(self.with_password(request)) };
        let scope = format!("repository:{}:pull", reference.repository());
        let service = service.map(|service| ("service", service));
        let query: Vec<(&str, String)> = service.into_iter().chain([("scope", scope)]).collect();
        let authenticated = self.with_password(self.http.get(&realm).query(&query));
        let response = self.send(authenticated, reference).await?;
        let name = format!("the token for {reference}");
        let token_request = RegistryRequest { reference, path: String::new(), accept: "", limit: MAX_RESPONSE, name };
        let response =
            self.read_response(response, &token_request).await.map_err(|error| token_error(error, reference))?;
        let token: RegistryToken = self.parse(reference, &response.body)?;
        Ok(request.bearer_auth(token.token()))
    }

    fn with_password(&self, request: RequestBuilder) -> RequestBuilder {
        match self.credentials {
            Credentials::Password { username, password } => request.basic_auth(username, Some(password)),
            Credentials::Anonymous => request,
        }
    }

    async fn read_response(
        &self,
        mut response: Response,
        request: &RegistryRequest<'_>,
    ) -> Result<RegistryResponse, PullError> {
        let failed = |error| PullError::of(error, request.reference, self.credentials);
        let (status, url) = (response.status(), without_query(response.url().clone()));
        let digest = response.headers().get(DIGEST).and_then(|digest| digest.to_str().ok()).map(str::to_owned);
        if status != StatusCode::OK {
            let body = read(&mut response, MAX_ERROR_BODY).await.map_err(|error| failed(without_url(error)))?;
            return Err(failed(response_error(status, &body.start, url)));
        }
        match read(&mut response, request.limit).await.map_err(|error| failed(without_url(error)))? {
            BoundedBody { complete: true, start: body } => Ok(RegistryResponse { body, digest }),
            BoundedBody { complete: false, .. } => {
                Err(PullError::TooLarge { artifact: request.name.clone(), limit: request.limit >> 20 })
            }
        }
    }

    fn parse<T: DeserializeOwned>(&self, reference: &Reference, body: &[u8]) -> Result<T, PullError> {
        serde_json::from_slice(body).map_err(|error| PullError::of(error.into(), reference, self.credentials))
    }
}

/// Whether to request another page of tags.
#[derive(Debug, PartialEq, Eq)]
enum Pagination {
    More,
    End,
    TooMany,
}

fn add_page(tags: &mut Vec<String>, mut page: Vec<String>) -> Pagination {
    page.retain(|tag| is_tag(tag));
    // A registry without pagination returns all tags every time.
    if page.is_empty() || page.last() == tags.last() {
        return Pagination::End;
    }
    if tags.len() + page.len() > MAX_TAGS {
        return Pagination::TooMany;
    }
    tags.extend(page);
    Pagination::More
}

/// Whether this is a valid tag, which can be requested.
fn is_tag(text: &str) -> bool {
    text.len() <= MAX_TAG && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// Removes the query: registries redirect to pre-signed URLs, whose signature must not be logged.
fn without_query(mut url: reqwest::Url) -> String {
    url.set_query(None);
    url.into()
}

/// Removes the URL from an error for the same reason; the error names the artifact.
fn without_url(error: reqwest::Error) -> OciDistributionError {
    error.without_url().into()
}

/// Maps 404 from a token endpoint: it doesn't mean that the artifact is missing.
fn token_error(error: PullError, reference: &Reference) -> PullError {
    match error {
        PullError::Missing { artifact } => PullError::Registry {
            registry: reference.registry().to_owned(),
            artifact,
            source: Box::new(OciDistributionError::AuthenticationFailure(
                "the token endpoint was not found".to_owned(),
            )),
        },
        error => error,
    }
}

/// A response body, read up to a limit.
#[derive(Debug, PartialEq, Eq)]
struct BoundedBody {
    start: Vec<u8>,
    /// Whether this is the whole body.
    complete: bool,
}

/// Reads a response up to a limit.
async fn read(response: &mut Response, limit: usize) -> Result<BoundedBody, reqwest::Error> {
    let mut start = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        start.extend_from_slice(&chunk);
        if start.len() > limit {
            start.truncate(limit);
            return Ok(BoundedBody { start, complete: false });
        }
    }
    Ok(BoundedBody { start, complete: true })
}

/// Converts an error response, by the specification's error codes if it has them.
fn response_error(status: StatusCode, body: &[u8], url: String) -> OciDistributionError {
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
    async fn reads_response_up_to_limit() {
        let fits = read(&mut response(10), 10).await.unwrap();
        assert_eq!(fits, BoundedBody { start: vec![b'x'; 10], complete: true });
        let exceeds = read(&mut response(11), 10).await.unwrap();
        assert_eq!(exceeds, BoundedBody { start: vec![b'x'; 10], complete: false });
    }

    #[test]
    fn paginates_until_no_new_tags_or_limit() {
        let page = |from: usize, to: usize| (from..to).map(|number| format!("1.0.{number}")).collect::<Vec<_>>();
        let mut tags = Vec::new();
        assert_eq!(add_page(&mut tags, page(0, 2)), Pagination::More);
        assert_eq!((add_page(&mut tags, page(0, 2)), tags.len()), (Pagination::End, 2));
        assert_eq!((add_page(&mut tags, Vec::new()), tags.len()), (Pagination::End, 2));
        assert_eq!(add_page(&mut tags, page(2, MAX_TAGS)), Pagination::More);
        assert_eq!((add_page(&mut tags, page(MAX_TAGS, MAX_TAGS + 1)), tags.len()), (Pagination::TooMany, MAX_TAGS));
    }

    #[test]
    fn ignores_invalid_tags() {
        let mut tags = Vec::new();
        let odd = vec!["x".repeat(MAX_TAG + 1), "a&last=b".to_owned()];
        assert_eq!((add_page(&mut tags, odd.clone()), tags.len()), (Pagination::End, 0));
        assert_eq!(add_page(&mut tags, [odd, vec!["1.0.0".to_owned()]].concat()), Pagination::More);
        assert_eq!(tags, ["1.0.0"]);
    }

    #[test]
    fn removes_signature_from_url() {
        let url: reqwest::Url = "https://store.example.com/blob?X-Amz-Signature=secret".parse().unwrap();
        assert_eq!(without_query(url), "https://store.example.com/blob");
    }

    #[test]
    fn missing_token_endpoint_is_no_missing_chart() {
        let reference: Reference = "registry.example.com/charts/cni:1.31.2".parse().unwrap();
        let missing = PullError::Missing { artifact: reference.to_string() };
        assert!(matches!(token_error(missing, &reference), PullError::Registry { .. }));
    }

    #[tokio::test]
    async fn never_downgrades_to_plain_http() {
        let reference: Reference = "registry.example.com/charts/cni:1.31.2".parse().unwrap();
        let registry = Registry::new(&Credentials::Anonymous, false).unwrap();
        let plain = registry.http.get("http://127.0.0.1:1/token");
        let PullError::Unreachable { source, .. } = registry.send(plain, &reference).await.unwrap_err() else {
            panic!()
        };
        assert!(format!("{source:?}").contains("BadScheme"), "{source:?}");
    }

    #[test]
    fn classifies_by_code_then_status() {
        let codes = br#"{"errors": [{"code": "NAME_UNKNOWN", "message": "no"}]}"#;
        let convert = |status, body: &[u8]| response_error(status, body, "u".into());
        assert!(matches!(convert(StatusCode::NOT_FOUND, codes), OciDistributionError::RegistryError { .. }));
        for (status, body) in [
            (StatusCode::UNAUTHORIZED, &codes[..]),
            (StatusCode::BAD_GATEWAY, codes),
            (StatusCode::FORBIDDEN, b"<html>"),
        ] {
            let OciDistributionError::ServerError { code, .. } = convert(status, body) else { panic!("{status}") };
            assert_eq!(code, status.as_u16());
        }
    }
}
