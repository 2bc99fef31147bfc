//! What a spec comes to.

use std::sync::Arc;

use crate::mesh::object::Desired;
use crate::mesh::revision::ResolvedInputs;
use crate::mesh::validated::Validated;

/// A spec that can be followed.
#[derive(Debug)]
pub struct Accepted {
    /// What is remembered of it.
    pub inputs: ResolvedInputs,
    /// What it stands for.
    pub validated: Validated,
    /// The objects.
    pub desired: Vec<Arc<Desired>>,
}
