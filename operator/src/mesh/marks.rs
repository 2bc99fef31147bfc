//! Our marks on objects: whose they are, and what they were made from.

use serde_json::Value;

use super::object::{
    COMPONENT_LABEL, Component, HASH_ANNOTATION, INSTALLATION_LABEL, RELEASE_ANNOTATION, UID_ANNOTATION,
};

/// Our marks on a live object; each is `None` where it is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Name of the installation.
    pub installation: Option<String>,
    /// UID of the installation.
    pub uid: Option<String>,
    /// Component.
    pub component: Option<Component>,
    /// Hash of the desired state that it was last applied from.
    pub hash: Option<String>,
    /// Release that it was rendered from, ours or the chart's own label.
    pub release: Option<semver::Version>,
}

impl Marks {
    /// Nothing says that the object is any installation's.
    #[must_use]
    pub const fn are_missing(&self) -> bool {
        self.installation.is_none() && self.uid.is_none()
    }

    /// Reads the marks of an object.
    #[must_use]
    pub fn of(object: &Value) -> Self {
        let read = |table: &str, key: &str| {
            object.get("metadata").and_then(|m| m.get(table)).and_then(|t| t.get(key)).and_then(Value::as_str)
        };
        let release = read("annotations", RELEASE_ANNOTATION).or_else(|| read("labels", "app.kubernetes.io/version"));
        Self {
            installation: read("labels", INSTALLATION_LABEL).map(str::to_owned),
            uid: read("annotations", UID_ANNOTATION).map(str::to_owned),
            component: read("labels", COMPONENT_LABEL).and_then(Component::from_label),
            hash: read("annotations", HASH_ANNOTATION).map(str::to_owned),
            release: release.and_then(|v| v.parse().ok()),
        }
    }
}
