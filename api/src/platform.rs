//! `spec.platform`: what the cluster runs on.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The platforms that come with the operator, by the names of their files.
const BUNDLED: &[&str] = include!(concat!(env!("OUT_DIR"), "/platforms.rs"));
/// Stands for whatever is detected.
const AUTO: &str = "auto";

/// The name of a platform, or `auto`. The schema admits only those that the operator knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlatformName(String);

impl PlatformName {
    /// Every platform that the operator knows, in alphabetical order; `auto` is none.
    pub const KNOWN: &'static [&'static str] = BUNDLED;

    /// Whether the platform is to be detected.
    #[must_use]
    pub fn is_auto(&self) -> bool {
        self.0 == AUTO
    }

    /// The name as the spec spells it.
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
