//! A spec, resolved to everything that follows from it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::mesh::object::{DesiredObject, ObjectKey};
use crate::mesh::problem::Problem;
use crate::mesh::revision::ResolvedInputs;
use crate::mesh::validated::ValidatedSpec;

/// An accepted spec with its exact inputs and the objects that they render to.
#[derive(Clone, Debug)]
pub struct ResolvedRevision {
    /// What the ControllerRevision stores.
    pub inputs: ResolvedInputs,
    /// The validated spec, from which the objects are rendered.
    pub validated: ValidatedSpec,
    /// Objects that the operator writes.
    pub desired: Vec<Arc<DesiredObject>>,
    /// Cluster-scoped objects that a cluster administrator applies beforehand.
    pub external: Vec<Arc<DesiredObject>>,
    /// Why the objects must not be rolled out: istiod would not load its configuration, or gateways would share pods.
    pub problems: Vec<Problem>,
    /// Keys of the spec that have no effect.
    pub unknown_keys: Vec<Problem>,
}

impl ResolvedRevision {
    /// All objects, including those that the operator does not write.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<DesiredObject>> {
        self.desired.iter().chain(&self.external).cloned().collect()
    }

    /// The keys of all objects.
    #[must_use]
    pub fn keys(&self) -> BTreeSet<ObjectKey> {
        self.desired.iter().chain(&self.external).map(|desired| desired.key.clone()).collect()
    }
}
