//! `spec.patches`: JSON patches for rendered objects.

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A JSON patch for one object of the mesh. The operator patches the rendered object before applying it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectPatch {
    /// Object to patch. It must be part of the mesh.
    pub target: PatchTarget,
    /// Operations of a JSON patch (RFC 6902). They can't change the object's apiVersion, kind, name or namespace, nor
    /// labels and annotations with the prefix `meshwright.dev/`.
    #[schemars(length(min = 1, max = 64))]
    pub patch: Vec<PatchOperation>,
}

/// Reference to an object of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PatchTarget {
    /// Kind of the object. Example: `Deployment`.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Name of the object. Example: `istiod`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of the object. Required only if the mesh has several objects of this kind and name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// An operation of a JSON patch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PatchOperation {
    /// Operation: `add`, `remove`, `replace`, `move`, `copy` or `test`.
    pub op: PatchVerb,
    /// JSON pointer to the target location. `~1` stands for a slash in a key, `-` for the position after the last
    /// element of a list. Example: `/spec/template/spec/priorityClassName`.
    #[schemars(length(max = 1024))]
    pub path: String,
    /// JSON pointer to the source location, for `move` and `copy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub from: Option<String>,
    /// Value for `add`, `replace` and `test`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_value")]
    pub value: Option<Value>,
}

/// Kind of a JSON patch operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PatchVerb {
    /// Adds a value.
    Add,
    /// Removes a value.
    Remove,
    /// Replaces a value.
    Replace,
    /// Moves the value at `from`.
    Move,
    /// Copies the value at `from`.
    Copy,
    /// Fails the whole patch if the value differs.
    Test,
}

fn any_value(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "x-kubernetes-preserve-unknown-fields": true })
}
