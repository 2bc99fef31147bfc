//! Errors of applying patches.

use serde_json::Value;

use super::{MAX_OBJECT_DEPTH, MAX_OBJECT_SIZE, RESERVED_PREFIX, TargetObject};

/// A patch can't be applied to the rendered objects.
#[derive(Debug, thiserror::Error)]
pub enum ApplyPatchError {
    /// The mesh has no such object.
    #[error("spec.patches[{index}].target: {target} not found; the mesh has these of that kind: {}", join_or_none(.others))]
    TargetNotFound {
        /// Index in `spec.patches`.
        index: usize,
        /// Target of the patch.
        target: TargetObject,
        /// Names of the rendered objects of that kind.
        others: Vec<String>,
    },
    /// The mesh has several such objects.
    #[error("spec.patches[{index}].target: {target} exists in several namespaces ({}); set target.namespace", join_or_none(.namespaces))]
    Ambiguous {
        /// Index in `spec.patches`.
        index: usize,
        /// Target of the patch.
        target: TargetObject,
        /// Namespaces of the matching objects.
        namespaces: Vec<String>,
    },
    /// An operation failed.
    #[error("spec.patches[{index}].patch[{operation}] can't be applied to {target}: {} at {:?}", .source.kind, .source.path.as_str())]
    Operation {
        /// Index in `spec.patches`.
        index: usize,
        /// Target of the patch.
        target: TargetObject,
        /// Index of the operation.
        operation: usize,
        /// Error of the JSON patch.
        #[source]
        source: json_patch::PatchError,
    },
    /// The patch changes the object's identity.
    #[error("spec.patches[{index}] must not change {field} of {target}, which identifies the object")]
    Identity {
        /// Index in `spec.patches`.
        index: usize,
        /// Target of the patch.
        target: TargetObject,
        /// Path of the field.
        field: String,
    },
    /// The patch changes ownership metadata, or makes labels or annotations invalid.
    #[error(
        "spec.patches[{index}] must not set {field} of {target} to {value}: labels and annotations must be maps without \
         keys of {RESERVED_PREFIX}, which are reserved"
    )]
    ReservedMetadata {
        /// Index in `spec.patches`.
        index: usize,
        /// Target of the patch.
        target: TargetObject,
        /// Path of the field.
        field: String,
        /// Value after the patch.
        value: Value,
    },
    /// The patch makes the object too large.
    #[error(
        "spec.patches[{index}].patch[{operation}] makes {target} larger than {MAX_OBJECT_SIZE} bytes, the API server's limit"
    )]
    TooLarge {
        /// Index in `spec.patches`.
        index: usize,
        /// Target of the patch.
        target: TargetObject,
        /// Index of the operation.
        operation: usize,
    },
    /// The patch nests the object too deep.
    #[error("spec.patches[{index}].patch[{operation}] nests {target} deeper than {MAX_OBJECT_DEPTH} levels")]
    TooDeep {
        /// Index in `spec.patches`.
        index: usize,
        /// Target of the patch.
        target: TargetObject,
        /// Index of the operation.
        operation: usize,
    },
}

fn join_or_none(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
