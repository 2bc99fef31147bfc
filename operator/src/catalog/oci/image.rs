//! Asks a registry which digest an image has.

use oci_client::Reference;

use super::{Credentials, PullError, Registry, credentials::ReadCredentialsError};

/// The digest of an image can't be told.
#[derive(Debug, thiserror::Error)]
pub enum ResolveImageError {
    /// No registry could have it.
    #[error("{0:?} is no name of an image")]
    Name(String),
    /// Kept credentials can't be used.
    #[error("can't ask for {image}")]
    Credentials {
        /// The image.
        image: String,
        /// Cause.
        #[source]
        source: Box<ReadCredentialsError>,
    },
    /// The registry doesn't say.
    #[error("can't tell the digest of {image}")]
    Ask {
        /// The image.
        image: String,
        /// Cause.
        #[source]
        source: Box<PullError>,
    },
}

/// The digest that an image's name means in its registry; `None` where there is no such image.
pub async fn resolve_image(name: &str, plain_http: bool) -> Result<Option<String>, ResolveImageError> {
    let image = || name.to_owned();
    let reference: Reference = name.parse().map_err(|_| ResolveImageError::Name(image()))?;
    let credentials = Credentials::from_docker(reference.registry())
        .map_err(|source| ResolveImageError::Credentials { image: image(), source: Box::new(source) })?;
    let asked = async { Registry::new(&credentials, plain_http)?.manifest(&reference).await };
    match asked.await {
        Ok((_, digest)) => Ok(Some(digest)),
        Err(PullError::Missing { .. }) => Ok(None),
        Err(source) => Err(ResolveImageError::Ask { image: image(), source: Box::new(source) }),
    }
}
