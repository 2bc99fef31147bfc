//! Ownership metadata: the labels and annotations by which the operator recognizes its objects.

use serde_json::Value;

use super::object::{
    COMPONENT_LABEL, Component, FIELD_MANAGER, HASH_ANNOTATION, INSTALLATION_LABEL, RELEASE_ANNOTATION,
    REPLACED_ANNOTATION, UID_ANNOTATION,
};

/// The operator's labels and annotations on a live object; each is `None` when missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnershipMeta {
    /// Name of the MeshInstallation that owns the object.
    pub installation: Option<String>,
    /// UID of that MeshInstallation.
    pub uid: Option<String>,
    /// The component that the object belongs to.
    pub component: Option<Component>,
    /// Hash of the desired object that was applied last.
    pub hash: Option<String>,
    /// Istio release that it was rendered from: the operator's annotation, else the chart's version label.
    pub release: Option<semver::Version>,
    /// The operator's field manager has written fields of it.
    pub is_applied: bool,
    /// The object exceeds the limits of responses, so that it may lack labels and annotations.
    pub is_replaced: bool,
}

impl OwnershipMeta {
    /// The object is unmanaged: neither the label nor the annotation of an installation is on it.
    #[must_use]
    pub const fn is_absent(&self) -> bool {
        self.installation.is_none() && self.uid.is_none()
    }

    /// Whether labels and annotations were left out of the response, so that the owner is unknown.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        self.is_replaced && self.is_absent()
    }

    /// Reads the metadata of an object.
    #[must_use]
    pub fn of(object: &Value) -> Self {
        let read = |table: &str, key: &str| {
            object.get("metadata").and_then(|m| m.get(table)).and_then(|t| t.get(key)).and_then(Value::as_str)
        };
        let managers = object.pointer("/metadata/managedFields").and_then(Value::as_array);
        let is_own = |entry: &Value| entry.get("manager").and_then(Value::as_str) == Some(FIELD_MANAGER);
        let release = read("annotations", RELEASE_ANNOTATION).or_else(|| read("labels", "app.kubernetes.io/version"));
        Self {
            installation: read("labels", INSTALLATION_LABEL).map(str::to_owned),
            uid: read("annotations", UID_ANNOTATION).map(str::to_owned),
            component: read("labels", COMPONENT_LABEL).and_then(Component::from_label),
            hash: read("annotations", HASH_ANNOTATION).map(str::to_owned),
            release: release.and_then(|v| v.parse().ok()),
            is_applied: managers.is_some_and(|managers| managers.iter().any(is_own)),
            is_replaced: read("annotations", REPLACED_ANNOTATION).is_some(),
        }
    }
}
