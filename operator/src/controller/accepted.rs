//! What a spec comes to.

use std::sync::Arc;

use crate::mesh::object::Desired;
use crate::mesh::revision::ResolvedInputs;
use crate::mesh::validated::Validated;

/// A spec that can be followed.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// What is remembered of it.
    pub inputs: ResolvedInputs,
    /// What it stands for.
    pub validated: Validated,
    /// The objects, as far as they are the operator's to write.
    pub desired: Vec<Arc<Desired>>,
    /// Those in no namespace, where others apply them beforehand.
    pub preinstalled: Vec<Arc<Desired>>,
}

impl Accepted {
    /// All objects, whoever writes them.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Desired>> {
        self.desired.iter().chain(&self.preinstalled).cloned().collect()
    }
}
