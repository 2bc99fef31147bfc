//! What istiod accepts of the configuration that is rendered for it. A value of the wrong type makes istiod crash at its next
//! start, or drop the whole mesh configuration, so every document is checked before it is written.
//!
//! istiod decodes `mesh` and `values` with the legacy JSON decoder of protocol buffers (`protomarshal.ApplyYAML`), then
//! validates the mesh configuration (`agent.ValidateMeshConfig`); `config` is decoded by Go's encoding/json. Types come from
//! Istio's modules (`e2e/lab/istio/export-schema`, and `e2e/lab/schemas` for other minors); a test compares the verdicts
//! with those of istiod's own functions.

mod duration;
mod jsonpb;
mod keys;
mod loaded;
mod mesh_config;
mod proxy_config;
mod release_types;
mod rendered;
mod schema;
#[cfg(test)]
mod tests;

use std::fmt;

use serde_json::Value;

pub(super) use keys::{field_names, field_type, message_of};
pub use loaded::{different_value, unloaded_mesh_setting};
pub use release_types::ReleaseTypes;
pub use rendered::{documents, problems};

/// A document in the ConfigMaps of istiod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigDocument {
    /// Key `mesh` of ConfigMap `istio`: `MeshConfig`.
    Mesh,
    /// Key `values` of ConfigMap `istio-sidecar-injector`: values of the injection templates.
    Values,
    /// Key `config` of ConfigMap `istio-sidecar-injector`: the injector's own configuration.
    Config,
}

impl ConfigDocument {
    /// All documents that istiod decodes.
    pub const ALL: [Self; 3] = [Self::Mesh, Self::Values, Self::Config];

    /// The key in the ConfigMap's `data`.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Mesh => "mesh",
            Self::Values => "values",
            Self::Config => "config",
        }
    }
}

/// A value that istiod does not accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Where it is in the document, as `defaultConfig.statusPort` or `extensionProviders[0].name`; empty for the whole.
    pub path: String,
    /// The error and the valid values.
    pub reason: String,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, reason } = self;
        if path.is_empty() { f.write_str(reason) } else { write!(f, "{path}: {reason}") }
    }
}

/// What istiod with these types would reject in a document. Unknown keys are not rejected: istiod ignores them.
#[must_use]
pub fn rejections(types: ReleaseTypes, document: ConfigDocument, value: &Value) -> Vec<Rejection> {
    let Some(root) = ReleaseTypes::root(document) else { return Vec::new() };
    let mut found = jsonpb::decode(types, root, value);
    if found.is_empty() && document == ConfigDocument::Mesh {
        mesh_config::validate(&jsonpb::known_part(types, root, value), &mut found);
    }
    found
}
