//! What can go wrong between here and a registry, in words that say what to do.

use std::error::Error;

use oci_client::{
    Reference,
    errors::{OciDistributionError, OciErrorCode},
};

use super::Credentials;
use crate::catalog::{ChartName, Digest, archive::ReadArchiveError, assemble::AssembleError, put::PutError};

/// A release can't be pulled; the catalog is as it was.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The machine's certificates or its proxy settings can't be used.
    #[error("can't make a client for registries")]
    Client(#[source] Box<reqwest::Error>),
    /// No answer.
    #[error("registry {registry} can't be reached, or broke off")]
    Unreachable {
        /// The registry.
        registry: String,
        /// Cause.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// Credentials are missing or wrong.
    #[error(
        "registry {registry} refuses {artifact} when asked {who}: its credentials come from Docker's configuration, as \
         `docker login {registry}` or a mounted Secret leaves it, or by --username"
    )]
    Refused {
        /// The registry.
        registry: String,
        /// What was asked for.
        artifact: String,
        /// By whom.
        who: String,
    },
    /// No such artifact.
    #[error("there is no {artifact}")]
    Missing {
        /// What was asked for.
        artifact: String,
    },
    /// The manifest is there, and what it names isn't.
    #[error("{artifact} is incomplete: the registry lacks its archive {digest}")]
    Incomplete {
        /// What was asked for.
        artifact: String,
        /// The archive's digest.
        digest: String,
    },
    /// Something else was pushed there.
    #[error("{artifact} is no Helm chart: it has {found}")]
    NotAChart {
        /// What was asked for.
        artifact: String,
        /// What it is made of.
        found: String,
    },
    /// What was sent isn't what it was to be.
    #[error("{artifact} is damaged: what the registry sends has digest {found}, not {wanted}")]
    Damaged {
        /// What was asked for.
        artifact: String,
        /// Digest that it should have.
        wanted: String,
        /// Digest that it has.
        found: String,
    },
    /// The tag means something else by now.
    #[error(
        "{artifact} is not the chart that this mesh was made with: its files have digest {found}, not {wanted}; push that \
         one again, or change the spec to take the new one"
    )]
    Moved {
        /// What was asked for.
        artifact: String,
        /// Digest of the files that it should have.
        wanted: Digest,
        /// Digest of those that it has.
        found: Digest,
    },
    /// More than any chart of Istio's has, or any answer about one.
    #[error("{artifact} is larger than {limit} MiB")]
    TooLarge {
        /// What was asked for.
        artifact: String,
        /// What is allowed.
        limit: usize,
    },
    /// More than any chart has.
    #[error("{repository} has more than {limit} tags: name the release in full, for which no tags are listed")]
    TooManyTags {
        /// The repository.
        repository: String,
        /// What is allowed.
        limit: usize,
    },
    /// The archive is no good.
    #[error("the archive of {artifact} can't be unpacked")]
    Unpack {
        /// What was asked for.
        artifact: String,
        /// Cause.
        #[source]
        source: ReadArchiveError,
    },
    /// A packed chart has one folder, of its own name.
    #[error("the archive of {artifact} has {path:?}, which isn't in the folder {chart}")]
    Layout {
        /// What was asked for.
        artifact: String,
        /// The chart.
        chart: ChartName,
        /// What lies elsewhere.
        path: String,
    },
    /// The registry said something else.
    #[error("registry {registry} doesn't give {artifact}")]
    Registry {
        /// The registry.
        registry: String,
        /// What was asked for.
        artifact: String,
        /// Cause.
        #[source]
        source: Box<OciDistributionError>,
    },
    /// The charts don't make this release.
    #[error(transparent)]
    Assemble(AssembleError),
    /// The release can't be put into the catalog.
    #[error(transparent)]
    Put(PutError),
}

impl PullError {
    /// What an answer of the registry means.
    pub(super) fn of(error: OciDistributionError, reference: &Reference, credentials: &Credentials) -> Self {
        let artifact = reference.to_string();
        let registry = reference.registry().to_owned();
        match Answer::of(&error) {
            Answer::Refused => Self::Refused { registry, artifact, who: credentials.to_string() },
            Answer::Missing => Self::Missing { artifact },
            Answer::Other => match error {
                OciDistributionError::RequestError(source) => Self::Unreachable { registry, source: Box::new(source) },
                source => Self::Registry { registry, artifact, source: Box::new(source) },
            },
        }
    }
}

/// Names of "not there", of the several things that may not be.
const MISSING: &[OciErrorCode] =
    &[OciErrorCode::ManifestUnknown, OciErrorCode::NameUnknown, OciErrorCode::BlobUnknown, OciErrorCode::NotFound];

/// What registries say in several ways.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Refused,
    Missing,
    Other,
}

impl Answer {
    fn of(error: &OciDistributionError) -> Self {
        match error {
            OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => {
                Self::Refused
            }
            OciDistributionError::ServerError { code: 401 | 403, .. } => Self::Refused,
            OciDistributionError::ServerError { code: 404, .. }
            | OciDistributionError::ImageManifestNotFoundError(_) => Self::Missing,
            OciDistributionError::RegistryError { envelope, .. } => {
                let any = |codes: &[OciErrorCode]| envelope.errors.iter().any(|error| codes.contains(&error.code));
                if any(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                    Self::Refused
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

    fn said(code: OciErrorCode) -> Answer {
        let error = OciError { code, message: String::new(), detail: serde_json::Value::Null };
        let envelope = OciEnvelope { errors: vec![error] };
        Answer::of(&OciDistributionError::RegistryError { envelope, url: String::new() })
    }

    fn status(code: u16) -> Answer {
        Answer::of(&OciDistributionError::ServerError { code, url: String::new(), message: String::new() })
    }

    #[test]
    fn what_registries_say_is_understood_in_all_its_forms() {
        assert_eq!([said(OciErrorCode::Denied), status(403)], [Answer::Refused, Answer::Refused]);
        assert_eq!(Answer::of(&OciDistributionError::UnauthorizedError { url: String::new() }), Answer::Refused);
        assert_eq!(
            [said(OciErrorCode::NameUnknown), said(OciErrorCode::ManifestUnknown)],
            [Answer::Missing, Answer::Missing]
        );
        assert_eq!([status(404), status(500)], [Answer::Missing, Answer::Other]);
        assert_eq!(said(OciErrorCode::Toomanyrequests), Answer::Other);
    }
}
