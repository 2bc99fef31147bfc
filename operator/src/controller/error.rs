//! What ends a reconcile early. What belongs into status is in status; these are for the queue and the log.

use kube::runtime::reflector::ObjectRef;

use super::Watched;
use crate::apply::{ApplyError, ErrorClass, RevisionError};
use crate::mesh::object::AdmitObjectError;
use crate::runtime::requests::why;

/// A reconcile ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The resource is not one that this operator can read.
    #[error("{0} can't be read; it was probably written for another version of its CRD")]
    Unreadable(ObjectRef<Watched>),
    /// The finalizer could not be written.
    #[error("writing the finalizer of {name} failed: {}", why(.source))]
    Finalizer {
        /// Which installation.
        name: String,
        /// Cause.
        #[source]
        source: Box<kube::Error>,
    },
    /// Status could not be written.
    #[error("writing the status of {name} failed: {}", why(.source))]
    Status {
        /// Which installation.
        name: String,
        /// Cause.
        #[source]
        source: Box<kube::Error>,
    },
    /// Pods with a proxy could not be listed.
    #[error("looking for pods with a proxy failed: {}", why(.0))]
    InUse(#[source] Box<kube::Error>),
    /// The memory could not be read or written.
    #[error(transparent)]
    Memory(RevisionError),
    /// An object could not be made fit beside those of other installations.
    #[error("arranging the objects beside those of other installations failed: {0}")]
    Arrange(#[source] AdmitObjectError),
    /// An object could not be read or written while the installation was taken down.
    #[error(transparent)]
    Object(ApplyError),
}

impl ReconcileError {
    /// Its class.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Unreadable(_) | Self::Arrange(_) => ErrorClass::Invalid,
            Self::Finalizer { source, .. } | Self::Status { source, .. } | Self::InUse(source) => {
                ErrorClass::of(source)
            }
            Self::Memory(error) => error.class(),
            Self::Object(error) => error.class(),
        }
    }
}
