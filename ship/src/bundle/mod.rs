//! The `OperatorHub` bundle. It is generated from `config/`, so that it can't diverge, and validated by the rules of
//! the Operator Framework and of the community's catalogs. Only [`sources`] does I/O; it reads files.

mod base;
mod csv;
mod descriptors;
mod make;
mod parse;
pub mod rules;
pub mod sources;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::Value;

pub use base::{Base, Maintainer, PublicationSettings};
pub use make::{MakeError, make};
pub use parse::ParseError;

/// The content of a bundle's files by path, such as `metadata/annotations.yaml`.
pub type Files = BTreeMap<String, String>;

/// The directory of a bundle's objects.
pub(crate) const MANIFESTS: &str = "manifests/";
/// The annotation with the bundle's package.
pub(crate) const PACKAGE: &str = "operators.operatorframework.io.bundle.package.v1";
/// The file with the bundle's annotations.
pub(crate) const ANNOTATIONS: &str = "metadata/annotations.yaml";
/// The kind of the object that describes the operator.
pub(crate) const CSV: &str = "ClusterServiceVersion";

/// A parsed bundle.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The objects below `manifests/`, by path.
    pub manifests: BTreeMap<String, Value>,
    /// The annotations of `metadata/annotations.yaml`.
    pub annotations: Value,
    /// The other files, by path.
    pub others: Files,
    /// The total size of the files, in bytes.
    pub size: usize,
}

impl Bundle {
    /// Returns the objects of a kind.
    pub(crate) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.manifests.values().filter(move |object| text(object, "/kind") == kind)
    }

    /// Returns the `ClusterServiceVersion`; null if there is none.
    #[must_use]
    pub fn csv(&self) -> &Value {
        self.of_kind(CSV).next().unwrap_or(&Value::Null)
    }

    /// Returns an annotation of the `ClusterServiceVersion`.
    pub(crate) fn csv_annotation(&self, name: &str) -> Option<&str> {
        self.csv().get("metadata")?.get("annotations")?.get(name)?.as_str()
    }

    /// Returns an annotation of the bundle.
    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name)?.as_str()
    }

    /// Returns the Deployments of the `ClusterServiceVersion`, each with `name` and `spec`.
    pub(crate) fn deployments(&self) -> &[Value] {
        list(self.csv(), "/spec/install/spec/deployments")
    }

    /// Returns the containers of the Deployments.
    pub(crate) fn containers(&self) -> impl Iterator<Item = &Value> {
        self.deployments().iter().flat_map(|deployment| list(deployment, "/spec/template/spec/containers"))
    }

    /// Returns the RBAC rules of the `ClusterServiceVersion`, namespaced and cluster-wide.
    pub(crate) fn permission_rules(&self) -> impl Iterator<Item = &Value> {
        ["/spec/install/spec/permissions", "/spec/install/spec/clusterPermissions"]
            .into_iter()
            .flat_map(|path| list(self.csv(), path))
            .flat_map(|permission| list(permission, "/rules"))
    }

    /// Returns the owned CRDs of the `ClusterServiceVersion`.
    pub(crate) fn owned(&self) -> &[Value] {
        list(self.csv(), "/spec/customresourcedefinitions/owned")
    }
}

/// Returns the string at a JSON pointer, or an empty string.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Whether the value at a JSON pointer is `true`.
pub(crate) fn is_true(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer) == Some(&Value::Bool(true))
}

/// Returns the list at a JSON pointer, or an empty list.
pub(crate) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Returns the strings in the list at a JSON pointer.
pub(crate) fn texts<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a str> {
    list(value, pointer).iter().filter_map(Value::as_str)
}
