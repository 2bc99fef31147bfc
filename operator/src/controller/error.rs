//! Errors that end a reconcile early. Problems that a user can fix are reported in status; these go to queue and log.

use kube::runtime::reflector::ObjectRef;

use super::Watched;
use crate::apply::{ApplyError, ErrorClass, RevisionHistoryError};
use crate::mesh::object::ParseObjectError;
use crate::runtime::requests::api_error_message;

/// A reconcile failed.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The MeshInstallation does not match the operator's API types.
    #[error("{0} can't be parsed; it was probably written for another version of the CRD")]
    Unreadable(ObjectRef<Watched>),
    /// The finalizer could not be written.
    #[error("writing the finalizer of {name} failed: {}", api_error_message(.source))]
    Finalizer {
        /// Name of the MeshInstallation.
        name: String,
        /// The failed request.
        #[source]
        source: Box<kube::Error>,
    },
    /// Pods with a proxy could not be listed.
    #[error("listing pods with a proxy failed: {}", api_error_message(.0))]
    InUse(#[source] Box<kube::Error>),
    /// ControllerRevisions could not be read or written.
    #[error(transparent)]
    RevisionHistory(RevisionHistoryError),
    /// An object could not be adjusted to those that a peer shares.
    #[error("assigning objects shared with other installations failed: {0}")]
    AssignObjects(#[source] ParseObjectError),
    /// An object could not be read or deleted during an uninstall.
    #[error(transparent)]
    Object(ApplyError),
}

impl ReconcileError {
    /// The error's class, which decides reason and retry.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Unreadable(_) | Self::AssignObjects(_) => ErrorClass::Invalid,
            Self::Finalizer { source, .. } | Self::InUse(source) => ErrorClass::of(source),
            Self::RevisionHistory(error) => error.class(),
            Self::Object(error) => error.class(),
        }
    }
}
