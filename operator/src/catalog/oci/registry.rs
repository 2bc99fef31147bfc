//! Talks to one registry. Manifests, lists of tags and blobs are read up to a bound: who answers may be anybody, or a page
//! for people.
//!
//! The library signs in, and brings blobs piece by piece. Manifests and lists it would read whole, however long they are,
//! so they are asked for here.

use std::time::Duration;

use futures::StreamExt as _;
use oci_client::{
    Client, Reference, RegistryOperation,
    client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol, TagResponse},
    errors::{OciDistributionError, OciEnvelope},
    manifest::{
        IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE,
        OciDescriptor, OciManifest,
    },
    secrets::RegistryAuth,
};
use reqwest::{StatusCode, header};
use rustls_pki_types::CertificateDer;
use serde::de::DeserializeOwned;

use super::{Credentials, PullError, roots};
use crate::catalog::digest;

/// Bytes of a packed chart; Istio's largest has about a quarter of a million.
const MAX_ARCHIVE: usize = 16 << 20;
/// Bytes of a manifest, as registries and clients bound them by the distribution specification, and of a list of tags.
const MAX_ANSWER: usize = 4 << 20;
/// Bytes that are kept of what a registry says when it refuses.
const MAX_REFUSAL: usize = 4 << 10;
/// Tags asked for at a time, and more than any registry has of one chart.
const PAGE: usize = 1000;
const MAX_TAGS: usize = 20_000;
/// For a connection, and for each piece of an answer: a registry that is slow is waited for, one that hangs isn't.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// By which a registry says what it sends.
const DIGEST: &str = "docker-content-digest";
const USER_AGENT: &str = concat!("meshwright/", env!("CARGO_PKG_VERSION"));

/// A registry, and who asks it.
pub(super) struct Registry<'a> {
    library: Client,
    http: reqwest::Client,
    scheme: &'static str,
    credentials: &'a Credentials,
    auth: RegistryAuth,
}

/// An answer that was given with status 200.
struct Answer {
    body: Vec<u8>,
    digest: Option<String>,
}

impl<'a> Registry<'a> {
    pub(super) fn new(credentials: &'a Credentials, plain_http: bool) -> Result<Self, PullError> {
        // Both clients take the process's own; that there is one already is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (protocol, scheme) =
            if plain_http { (ClientProtocol::Http, "http") } else { (ClientProtocol::Https, "https") };
        let bundled = roots::bundled().unwrap_or_default();
        let of_library =
            |der: &CertificateDer<'_>| Certificate { encoding: CertificateEncoding::Der, data: der.to_vec() };
        let config = ClientConfig {
            protocol,
            tls_certs_only: bundled.iter().map(of_library).collect(),
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(READ_TIMEOUT),
            user_agent: USER_AGENT,
            platform_resolver: None,
            ..ClientConfig::default()
        };
        let failed = |source| PullError::Client(Box::new(source));
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .user_agent(USER_AGENT);
        if !bundled.is_empty() {
            let known: Result<Vec<_>, _> = bundled.iter().map(|der| reqwest::Certificate::from_der(der)).collect();
            http = http.tls_certs_only(known.map_err(|error| failed(error.into()))?);
        }
        Ok(Self {
            library: Client::try_from(config).map_err(failed)?,
            http: http.build().map_err(|error| failed(error.into()))?,
            scheme,
            credentials,
            auth: credentials.auth(),
        })
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
        let too_large = || format!("the manifest of {reference}");
        let answer = self.get(reference, &format!("manifests/{wanted}"), &kinds.join(", "), too_large).await?;
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
        let mut tags: Vec<String> = Vec::new();
        loop {
            let last = tags.last().map(|last| format!("&last={last}")).unwrap_or_default();
            let name = || format!("{}/{}", repository.registry(), repository.repository());
            let too_large = || format!("a list of the tags of {}", name());
            let page = format!("tags/list?n={PAGE}{last}");
            let answer = self.get(repository, &page, "application/json", too_large).await?;
            let page = self.parse::<TagResponse>(repository, &answer.body)?.tags;
            match add(&mut tags, page) {
                Pages::More => {}
                Pages::End => return Ok(tags),
                Pages::TooMany => return Err(PullError::TooManyTags { repository: name(), limit: MAX_TAGS }),
            }
        }
    }

    /// A blob that a manifest names.
    pub(super) async fn blob(&self, reference: &Reference, layer: &OciDescriptor) -> Result<Vec<u8>, PullError> {
        // The manifest is there, so this isn't a chart that the release can be without.
        let failed = |error| match PullError::of(error, reference, self.credentials) {
            PullError::Missing { artifact } => PullError::Incomplete { artifact, digest: layer.digest.clone() },
            other => other,
        };
        let mut stream = self.library.pull_blob_stream(reference, layer).await.map_err(failed)?;
        let mut archive = Vec::new();
        while let Some(piece) = stream.next().await {
            archive.extend_from_slice(&piece.map_err(|source| PullError::of_piece(source, reference))?);
            if archive.len() > MAX_ARCHIVE {
                return Err(PullError::TooLarge { artifact: reference.to_string(), limit: MAX_ARCHIVE >> 20 });
            }
        }
        Ok(archive)
    }

    /// Asks for a page of a repository; `what` names it, should it be too large.
    async fn get(
        &self,
        reference: &Reference,
        page: &str,
        kinds: &str,
        what: impl Fn() -> String,
    ) -> Result<Answer, PullError> {
        let failed = |error| PullError::of(error, reference, self.credentials);
        let token = self.library.auth(reference, &self.auth, RegistryOperation::Pull).await.map_err(failed)?;
        let (host, repository) = (reference.resolve_registry(), reference.repository());
        let url = format!("{}://{host}/v2/{repository}/{page}", self.scheme);
        let request = self.http.get(&url).header(header::ACCEPT, kinds);
        let request = match (token, self.credentials) {
            (Some(token), _) => request.bearer_auth(token),
            (None, Credentials::Password { username, password }) => request.basic_auth(username, Some(password)),
            (None, Credentials::Anonymous) => request,
        };
        let said = |error: reqwest::Error| failed(error.into());
        let mut response = request.send().await.map_err(said)?;
        let (status, url) = (response.status(), response.url().to_string());
        let digest = response.headers().get(DIGEST).and_then(|digest| digest.to_str().ok()).map(str::to_owned);
        if status != StatusCode::OK {
            let body = read(&mut response, MAX_REFUSAL).await.map_err(said)?;
            return Err(failed(refusal(status, &body.start, url)));
        }
        match read(&mut response, MAX_ANSWER).await.map_err(said)? {
            Body { whole: true, start: body } => Ok(Answer { body, digest }),
            Body { whole: false, .. } => Err(PullError::TooLarge { artifact: what(), limit: MAX_ANSWER >> 20 }),
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

fn add(tags: &mut Vec<String>, page: Vec<String>) -> Pages {
    // A registry that knows no pages sends all of them each time.
    if page.is_empty() || page.last() == tags.last() {
        return Pages::End;
    }
    tags.extend(page);
    if tags.len() > MAX_TAGS { Pages::TooMany } else { Pages::More }
}

/// What was read of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Body {
    start: Vec<u8>,
    /// There is no more of it.
    whole: bool,
}

/// Reads up to so many bytes of an answer.
async fn read(response: &mut reqwest::Response, limit: usize) -> Result<Body, reqwest::Error> {
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

    fn response(length: usize) -> reqwest::Response {
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
        assert_eq!(add(&mut tags, page(MAX_TAGS, MAX_TAGS + 1)), Pages::TooMany);
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
