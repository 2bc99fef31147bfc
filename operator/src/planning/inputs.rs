//! What differs between two accepted specs, and in what was worked out from them, field by field.

use crate::mesh::fields::FieldChange;
use crate::mesh::revision::ResolvedInputs;
use crate::mesh::value_changes::value_changes;

/// The changes from one accepted spec to another, by place; with what was worked out from it: release, charts, platform,
/// node ports. Lists whose elements have names are compared element by element.
#[must_use]
pub fn input_changes(old: &ResolvedInputs, new: &ResolvedInputs) -> Vec<FieldChange> {
    let value = |inputs: &ResolvedInputs| serde_json::to_value(inputs).unwrap_or_default();
    value_changes(&value(old), &value(new))
}
