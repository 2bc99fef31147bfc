//! The `OperatorHub` bundle: made from `config/`, so that nothing in it can drift, and judged by the rules of the
//! Operator Framework and of the community's catalogs. Only [`sources`] does I/O: it reads.

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

pub use base::{Base, Maintainer, Publication};
pub use make::{MakeError, make};
pub use parse::ParseError;

/// The texts of a bundle's files by their paths in it, such as `metadata/annotations.yaml`.
pub type Files = BTreeMap<String, String>;

/// Where a bundle's objects are.
pub(crate) const MANIFESTS: &str = "manifests/";
/// The annotation that says of which package a bundle is.
pub(crate) const PACKAGE: &str = "operators.operatorframework.io.bundle.package.v1";
/// Where it says which package it is of.
pub(crate) const ANNOTATIONS: &str = "metadata/annotations.yaml";
/// The kind that a bundle has one of.
pub(crate) const CSV: &str = "ClusterServiceVersion";

/// A bundle as catalogs read it.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The objects below `manifests/`, by path.
    pub manifests: BTreeMap<String, Value>,
    /// The annotations of `metadata/annotations.yaml`.
    pub annotations: Value,
    /// The other files, by path.
    pub others: Files,
    /// The sum of the files' sizes, in bytes.
    pub size: usize,
}

impl Bundle {
    /// The objects of a kind.
    pub(crate) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.manifests.values().filter(move |object| text(object, "/kind") == kind)
    }

    /// The `ClusterServiceVersion`; null when there is none.
    #[must_use]
    pub fn csv(&self) -> &Value {
        self.of_kind(CSV).next().unwrap_or(&Value::Null)
    }

    /// An annotation of the `ClusterServiceVersion`.
    pub(crate) fn csv_annotation(&self, name: &str) -> Option<&str> {
        self.csv().get("metadata")?.get("annotations")?.get(name)?.as_str()
    }

    /// An annotation of the bundle.
    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name)?.as_str()
    }

    /// The Deployments that the `ClusterServiceVersion` installs, each with `name` and `spec`.
    pub(crate) fn deployments(&self) -> &[Value] {
        list(self.csv(), "/spec/install/spec/deployments")
    }

    /// The containers of these Deployments.
    pub(crate) fn containers(&self) -> impl Iterator<Item = &Value> {
        self.deployments().iter().flat_map(|deployment| list(deployment, "/spec/template/spec/containers"))
    }

    /// The rules of rights that the `ClusterServiceVersion` asks for, in namespaces and in the cluster.
    pub(crate) fn rights(&self) -> impl Iterator<Item = &Value> {
        ["/spec/install/spec/permissions", "/spec/install/spec/clusterPermissions"]
            .into_iter()
            .flat_map(|path| list(self.csv(), path))
            .flat_map(|permission| list(permission, "/rules"))
    }

    /// What the `ClusterServiceVersion` says of the CRDs that it owns.
    pub(crate) fn owned(&self) -> &[Value] {
        list(self.csv(), "/spec/customresourcedefinitions/owned")
    }
}

/// The text at a JSON pointer; empty when there is none.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Whether there is `true` at a JSON pointer.
pub(crate) fn is_true(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer) == Some(&Value::Bool(true))
}

/// The list at a JSON pointer; empty when there is none.
pub(crate) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The texts of the list at a JSON pointer.
pub(crate) fn texts<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a str> {
    list(value, pointer).iter().filter_map(Value::as_str)
}
