//! `spec.patches`: changes to objects that no value of a chart can make.

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A change to one object of the mesh, made after its chart was rendered and before it is applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectPatch {
    /// The object that is changed. It must be one that the mesh consists of.
    pub target: PatchTarget,
    /// What is changed, as a JSON patch (RFC 6902). It can't change which object it is, nor touch
    /// labels and annotations that begin with `meshwright.dev/`.
    #[schemars(length(min = 1, max = 64))]
    pub patch: Vec<PatchOperation>,
}

/// One object of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PatchTarget {
    /// Its kind. Example: `Deployment`.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Its name. Example: `istiod`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its namespace; needed only where the mesh has two objects of that kind and name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// One step of a JSON patch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PatchOperation {
    /// What is done at `path`.
    pub op: PatchVerb,
    /// Where, as a JSON pointer; `~1` stands for a slash in a key, and `-` for the place behind the
    /// last element of a list. Example: `/spec/template/spec/priorityClassName`.
    #[schemars(length(max = 1024))]
    pub path: String,
    /// Where it is taken from, for `move` and `copy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub from: Option<String>,
    /// The value, for `add`, `replace` and `test`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_value")]
    pub value: Option<Value>,
}

/// The operations of a JSON patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PatchVerb {
    /// Puts a value there.
    Add,
    /// Takes away what is there.
    Remove,
    /// Puts another value in place of what is there.
    Replace,
    /// Moves what is at `from`.
    Move,
    /// Copies what is at `from`.
    Copy,
    /// Refuses the whole patch unless the value is there.
    Test,
}

fn any_value(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "x-kubernetes-preserve-unknown-fields": true })
}
