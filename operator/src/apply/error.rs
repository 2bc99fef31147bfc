//! Errors of requests for single objects, and their classes.

use crate::mesh::kind::Kind;
use crate::mesh::object::ObjectKey;
use crate::nodeports::PortRejection;
use crate::runtime::requests::api_error_message;

/// A request about one object failed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The object could not be read.
    #[error("reading {key} failed: {}", api_error_message(.source))]
    Read {
        /// The object of the failed request.
        key: ObjectKey,
        /// The failed request.
        #[source]
        source: Box<kube::Error>,
    },
    /// The object could not be applied, since the API server does not serve its kind.
    #[error("applying {key} failed: the cluster has no {} ({}); install the CRD, or choose another profile", .key.kind.plural(), .key.kind.group())]
    NotServed {
        /// The object of the failed request.
        key: ObjectKey,
    },
    /// The object could not be applied.
    #[error("applying {key} failed: {}", api_error_message(.source))]
    Apply {
        /// The object of the failed request.
        key: ObjectKey,
        /// The failed request.
        #[source]
        source: Box<kube::Error>,
    },
    /// Unmanaged fields could not be removed.
    #[error("removing unmanaged fields from {key} failed: {}", api_error_message(.source))]
    RemoveExtras {
        /// The object of the failed request.
        key: ObjectKey,
        /// The failed request.
        #[source]
        source: Box<kube::Error>,
    },
    /// Ownership labels could not be removed.
    #[error("removing ownership labels from {key} failed: {}", api_error_message(.source))]
    Release {
        /// The object of the failed request.
        key: ObjectKey,
        /// The failed request.
        #[source]
        source: Box<kube::Error>,
    },
    /// The object could not be deleted.
    #[error("deleting {key} failed: {}", api_error_message(.source))]
    Delete {
        /// The object of the failed request.
        key: ObjectKey,
        /// The failed request.
        #[source]
        source: Box<kube::Error>,
    },
}

/// The class of an error, which decides the condition's reason and the retry interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// RBAC denies the request; a user has to act.
    Forbidden,
    /// The API server rejects the object as invalid.
    Invalid,
    /// Another client wrote the object concurrently.
    Conflict,
    /// An error of the server, the network or a webhook, which may be temporary.
    Transient,
}

impl ErrorClass {
    /// Classifies a client error.
    #[must_use]
    pub fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.is_forbidden() => Self::Forbidden,
            kube::Error::Api(status) if status.is_conflict() => Self::Conflict,
            kube::Error::Api(status) if status.is_invalid() || status.code == 400 => Self::Invalid,
            _ => Self::Transient,
        }
    }
}

/// Whether the object or its kind does not exist. For a missing kind the response has a status code only.
pub(crate) fn absent(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

impl ApplyError {
    /// The object of the failed request.
    #[must_use]
    pub const fn key(&self) -> &ObjectKey {
        match self {
            Self::Read { key, .. }
            | Self::NotServed { key }
            | Self::Apply { key, .. }
            | Self::RemoveExtras { key, .. }
            | Self::Release { key, .. }
            | Self::Delete { key, .. } => key,
        }
    }

    /// The node port that the API server rejected, if that was the reason.
    #[must_use]
    pub fn port_rejection(&self) -> Option<PortRejection> {
        match self {
            Self::Apply { key: ObjectKey { kind: Kind::Service, .. }, source } => match source.as_ref() {
                kube::Error::Api(status) => PortRejection::parse(&status.message),
                _ => None,
            },
            _ => None,
        }
    }

    /// The error's class, which decides reason and retry.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotServed { .. } => ErrorClass::Transient,
            Self::Read { source, .. }
            | Self::Apply { source, .. }
            | Self::RemoveExtras { source, .. }
            | Self::Release { source, .. }
            | Self::Delete { source, .. } => ErrorClass::of(source),
        }
    }
}
