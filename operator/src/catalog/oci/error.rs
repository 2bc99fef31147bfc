//! Errors of registry access.

use std::error::Error;

use oci_client::{
    Reference,
    errors::{OciDistributionError, OciErrorCode},
};

use super::Credentials;
use crate::catalog::{ChartName, Digest, archive::ReadArchiveError, assemble::AssembleError, put::PutError};

/// A release can't be pulled; the catalog is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The certificates or proxy settings are invalid.
    #[error("can't create an HTTP client for registries")]
    Client(#[source] Box<reqwest::Error>),
    /// No connection, or the connection broke.
    #[error("registry {registry} can't be reached")]
    Unreachable {
        registry: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// Credentials are missing or wrong.
    #[error(
        "registry {registry} denied access to {artifact} {who}; set credentials in Docker's configuration (`docker login \
     {registry}` or a mounted Secret) or with --username"
    )]
    Denied { registry: String, artifact: String, who: String },
    /// The artifact doesn't exist.
    #[error("{artifact} not found")]
    Missing { artifact: String },
    /// The manifest exists, but its layer doesn't.
    #[error("{artifact} is incomplete: layer {digest} not found")]
    Incomplete {
        artifact: String,
        /// The layer's digest.
        digest: String,
    },
    /// The artifact has another type.
    #[error("{artifact} is not a Helm chart; it has {found}")]
    NotAChart {
        artifact: String,
        /// The media types of its layers.
        found: String,
    },
    /// The content doesn't match its digest.
    #[error("{artifact} is damaged: the registry sent digest {found}, expected {wanted}")]
    Damaged {
        artifact: String,
        /// The expected digest.
        wanted: String,
        /// The actual digest.
        found: String,
    },
    /// The tag was moved to another chart.
    #[error(
        "{artifact} is not the chart that this mesh was installed with: its files have digest {found}, expected {wanted}; \
     push the original chart again, or change the spec to accept the new one"
    )]
    Moved {
        artifact: String,
        /// The expected digest of the files.
        wanted: Digest,
        /// The actual digest of the files.
        found: Digest,
    },
    /// Exceeds the limit for charts or responses.
    #[error("{artifact} is larger than {limit} MiB")]
    TooLarge { artifact: String, limit: usize },
    /// Exceeds the limit for tag lists.
    #[error("{repository} has more than {limit} tags; set an exact version, which needs no tag list")]
    TooManyTags { repository: String, limit: usize },
    /// The archive can't be unpacked.
    #[error("can't unpack the archive of {artifact}")]
    Unpack {
        artifact: String,
        #[source]
        source: ReadArchiveError,
    },
    /// A packed chart has a single directory, with the chart's name.
    #[error("the archive of {artifact} has {path:?} outside directory {chart}")]
    Layout {
        artifact: String,
        chart: ChartName,
        /// The stray path.
        path: String,
    },
    /// The registry failed otherwise.
    #[error("registry {registry} failed to return {artifact}")]
    Registry {
        registry: String,
        artifact: String,
        #[source]
        source: Box<OciDistributionError>,
    },
    /// The charts can't be used as this release.
    #[error(transparent)]
    Assemble(AssembleError),
    /// The release can't be written to the catalog.
    #[error(transparent)]
    Put(PutError),
}

impl PullError {
    /// Classifies an error of the registry.
    pub(super) fn of(error: OciDistributionError, reference: &Reference, credentials: &Credentials) -> Self {
        let artifact = reference.to_string();
        let registry = reference.registry().to_owned();
        match ErrorClass::of(&error) {
            ErrorClass::Denied => Self::Denied { registry, artifact, who: credentials.to_string() },
            ErrorClass::Missing => Self::Missing { artifact },
            ErrorClass::Other => match error {
                OciDistributionError::RequestError(source) => Self::Unreachable { registry, source: Box::new(source) },
                source => Self::Registry { registry, artifact, source: Box::new(source) },
            },
        }
    }
}

/// The error codes for objects that don't exist.
const MISSING: &[OciErrorCode] =
    &[OciErrorCode::ManifestUnknown, OciErrorCode::NameUnknown, OciErrorCode::BlobUnknown, OciErrorCode::NotFound];

/// The classes of errors, for which registries use several codes.
#[derive(Debug, PartialEq, Eq)]
enum ErrorClass {
    Denied,
    Missing,
    Other,
}

impl ErrorClass {
    fn of(error: &OciDistributionError) -> Self {
        match error {
            OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => {
                Self::Denied
            }
            OciDistributionError::ServerError { code: 401 | 403, .. } => Self::Denied,
            OciDistributionError::ServerError { code: 404, .. }
            | OciDistributionError::ImageManifestNotFoundError(_) => Self::Missing,
            OciDistributionError::RegistryError { envelope, .. } => {
                let any = |codes: &[OciErrorCode]| envelope.errors.iter().any(|error| codes.contains(&error.code));
                if any(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                    Self::Denied
                } else if any(MISSING) {
                    Self::Missing
                } else {
                    Self::Other
                }
            }
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use oci_client::errors::{OciEnvelope, OciError};

    use super::*;

    fn registry_error(code: OciErrorCode) -> ErrorClass {
        let error = OciError { code, message: String::new(), detail: serde_json::Value::Null };
        let envelope = OciEnvelope { errors: vec![error] };
        ErrorClass::of(&OciDistributionError::RegistryError { envelope, url: String::new() })
    }

    fn status(code: u16) -> ErrorClass {
        ErrorClass::of(&OciDistributionError::ServerError { code, url: String::new(), message: String::new() })
    }

    #[test]
    fn classifies_registry_errors() {
        assert_eq!([registry_error(OciErrorCode::Denied), status(403)], [ErrorClass::Denied, ErrorClass::Denied]);
        assert_eq!(ErrorClass::of(&OciDistributionError::UnauthorizedError { url: String::new() }), ErrorClass::Denied);
        assert_eq!(
            [registry_error(OciErrorCode::NameUnknown), registry_error(OciErrorCode::ManifestUnknown)],
            [ErrorClass::Missing, ErrorClass::Missing]
        );
        assert_eq!([status(404), status(500)], [ErrorClass::Missing, ErrorClass::Other]);
        assert_eq!(registry_error(OciErrorCode::Toomanyrequests), ErrorClass::Other);
    }
}
