//! Compares two revisions field by field.

use crate::mesh::fields::FieldChange;
use crate::mesh::revision::ResolvedInputs;
use crate::mesh::value_changes::value_changes;

/// The changes between two revisions by field path, in the spec and in everything resolved from it: release, charts,
/// platform, node ports. Lists of named elements are compared element by element.
#[must_use]
pub fn input_changes(old: &ResolvedInputs, new: &ResolvedInputs) -> Vec<FieldChange> {
    let value = |inputs: &ResolvedInputs| serde_json::to_value(inputs).unwrap_or_default();
    value_changes(&value(old), &value(new))
}
