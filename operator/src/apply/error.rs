//! What can go wrong with one request, and what class of trouble it is.

use crate::mesh::kind::Kind;
use crate::mesh::object::ObjectKey;
use crate::nodeports::PortRefusal;
use crate::runtime::requests::why;

/// A request about one object failed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Reading it.
    #[error("reading {key} failed: {}", why(.source))]
    Read {
        /// Which object.
        key: ObjectKey,
        /// Cause.
        #[source]
        source: Box<kube::Error>,
    },
    /// Applying it: the API server has no such kind.
    #[error("{key} can't be applied: the cluster has no {} ({}): install what defines it, or choose another profile", .key.kind.plural(), .key.kind.group())]
    NotServed {
        /// Which object.
        key: ObjectKey,
    },
    /// Applying it.
    #[error("applying {key} failed: {}", why(.source))]
    Apply {
        /// Which object.
        key: ObjectKey,
        /// Cause.
        #[source]
        source: Box<kube::Error>,
    },
    /// Taking additions out of it.
    #[error("taking additions out of {key} failed: {}", why(.source))]
    TakeOut {
        /// Which object.
        key: ObjectKey,
        /// Cause.
        #[source]
        source: Box<kube::Error>,
    },
    /// Taking our marks off it.
    #[error("taking our marks off {key} failed: {}", why(.source))]
    Release {
        /// Which object.
        key: ObjectKey,
        /// Cause.
        #[source]
        source: Box<kube::Error>,
    },
    /// Deleting it.
    #[error("deleting {key} failed: {}", why(.source))]
    Delete {
        /// Which object.
        key: ObjectKey,
        /// Cause.
        #[source]
        source: Box<kube::Error>,
    },
}

/// What kind of trouble an error is: it decides the reason in the condition and when to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// A right is missing: nothing but a person helps.
    Forbidden,
    /// The API server finds the object wrong.
    Invalid,
    /// Somebody wrote at the same time.
    Conflict,
    /// The server, the network or a webhook: likely to pass.
    Transient,
}

impl ErrorClass {
    /// The class of a client error.
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

/// Whether there is no such object, or no such kind: for that the API server answers with the bare code.
pub(crate) fn absent(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

impl ApplyError {
    /// Which object it is about.
    #[must_use]
    pub const fn key(&self) -> &ObjectKey {
        match self {
            Self::Read { key, .. }
            | Self::NotServed { key }
            | Self::Apply { key, .. }
            | Self::TakeOut { key, .. }
            | Self::Release { key, .. }
            | Self::Delete { key, .. } => key,
        }
    }

    /// What it says about node ports, if the API server refused a Service for their sake.
    #[must_use]
    pub fn port_refusal(&self) -> Option<PortRefusal> {
        match self {
            Self::Apply { key: ObjectKey { kind: Kind::Service, .. }, source } => match source.as_ref() {
                kube::Error::Api(status) => PortRefusal::read(&status.message),
                _ => None,
            },
            _ => None,
        }
    }

    /// Its class.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotServed { .. } => ErrorClass::Transient,
            Self::Read { source, .. }
            | Self::Apply { source, .. }
            | Self::TakeOut { source, .. }
            | Self::Release { source, .. }
            | Self::Delete { source, .. } => ErrorClass::of(source),
        }
    }
}
