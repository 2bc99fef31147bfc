//! `spec.adoption`: what becomes of objects that somebody else made.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What becomes of objects that are there already, without the operator's mark, under the names of the mesh's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Adoption {
    /// They are left alone, and nothing is written while they are there.
    #[default]
    Refuse,
    /// They become the installation's as they are. Where that would change anything in them, nothing is written, and
    /// what would change is told.
    Adopt,
    /// They become the installation's, and what differs is changed; pods whose template differs are replaced, and those of
    /// gateways always.
    Overwrite,
}
