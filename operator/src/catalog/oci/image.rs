//! Resolves an image to its digest in the registry.

use oci_client::Reference;

use super::{Credentials, PullError, Registry, credentials::ReadCredentialsError};

/// The digest of an image can't be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveImageError {
    /// The name is invalid.
    #[error("invalid image name {0:?}")]
    Name(String),
    /// The credentials can't be used.
    #[error("can't request {image}")]
    Credentials {
        image: String,
        #[source]
        source: Box<ReadCredentialsError>,
    },
    /// The registry request failed.
    #[error("can't get the digest of {image}")]
    Request {
        image: String,
        #[source]
        source: Box<PullError>,
    },
}

/// Returns the digest of an image in its registry; `None` if it doesn't exist.
pub async fn resolve_image(name: &str, plain_http: bool) -> Result<Option<String>, ResolveImageError> {
    let image = || name.to_owned();
    let reference: Reference = name.parse().map_err(|_| ResolveImageError::Name(image()))?;
    let credentials = Credentials::from_docker(reference.registry())
        .map_err(|source| ResolveImageError::Credentials { image: image(), source: Box::new(source) })?;
    let manifest = async { Registry::new(&credentials, plain_http)?.manifest(&reference).await };
    match manifest.await {
        Ok((_, digest)) => Ok(Some(digest)),
        Err(PullError::Missing { .. }) => Ok(None),
        Err(source) => Err(ResolveImageError::Request { image: image(), source: Box::new(source) }),
    }
}
