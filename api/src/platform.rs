//! `spec.platform`: the Kubernetes platform of the cluster.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Names of the platforms included in the operator, from their file names.
const BUNDLED: &[&str] = include!(concat!(env!("OUT_DIR"), "/platforms.rs"));
/// The value that enables platform detection.
const AUTO: &str = "auto";

/// Name of a platform or `auto`. The schema accepts only known platforms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlatformName(String);

impl PlatformName {
    /// All known platforms in alphabetical order, without `auto`.
    pub const KNOWN: &'static [&'static str] = BUNDLED;

    /// Returns whether the operator detects the platform.
    #[must_use]
    pub fn is_auto(&self) -> bool {
        self.0 == AUTO
    }

    /// Returns the name as it is written in the spec.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for PlatformName {
    fn default() -> Self {
        Self(AUTO.to_owned())
    }
}

impl JsonSchema for PlatformName {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PlatformName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = std::iter::once(AUTO).chain(Self::KNOWN.iter().copied()).collect();
        json_schema!({ "type": "string", "enum": names })
    }
}
