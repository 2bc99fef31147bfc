//! The types that istiod of a release decodes: those of [`super::schema`], changed by what its minor lacks or adds
//! (`bundled-manifests/schemas/minors.json`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use semver::Version;
use serde::Deserialize;

use super::ConfigDocument;
use super::schema::SCHEMA;
use crate::catalog::facts::Minor;

/// What a minor has instead: a type or a number, or null for what it lacks.
#[derive(Debug, Default, Deserialize)]
struct TypeChanges {
    #[serde(default)]
    messages: BTreeMap<String, BTreeMap<String, Option<String>>>,
    #[serde(default)]
    enums: BTreeMap<String, BTreeMap<String, Option<i32>>>,
}

/// A test reads it, so that it can't be broken in a build.
static MINORS: LazyLock<BTreeMap<Minor, TypeChanges>> = LazyLock::new(|| {
    let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../bundled-manifests/schemas/minors.json"));
    serde_json::from_str(text).unwrap_or_default()
});

/// The types that istiod of a release decodes.
#[derive(Clone, Copy, Debug)]
pub struct ReleaseTypes {
    changes: Option<&'static TypeChanges>,
    has_unknown_enum_values: bool,
}

impl ReleaseTypes {
    /// The types as they were exported from Istio's modules.
    pub const EXPORTED: Self = Self { changes: None, has_unknown_enum_values: false };

    /// The types of a release's minor, or of the nearest minor whose types are known. A newer minor may have more enum
    /// values, which istiod has to judge.
    #[must_use]
    pub fn of(release: &Version) -> Self {
        let minor = Minor::of(release);
        let nearest = MINORS.range(..=minor).next_back().or_else(|| MINORS.first_key_value());
        let is_newer = MINORS.last_key_value().is_some_and(|(newest, _)| minor > *newest);
        Self { changes: nearest.map(|(_, changes)| changes), has_unknown_enum_values: is_newer }
    }

    /// The type of a document.
    pub(in crate::mesh) fn root(document: ConfigDocument) -> Option<&'static str> {
        SCHEMA.roots.get(document.key()).map(String::as_str)
    }

    /// Whether the type is a message whose fields are known.
    pub(super) fn is_message(self, type_name: &str) -> bool {
        // Istio's own type reads a string or a number.
        !type_name.ends_with(".IntOrString")
            && (SCHEMA.messages.contains_key(type_name)
                || self.changes.is_some_and(|changes| changes.messages.contains_key(type_name)))
    }

    /// The JSON name and the type of a field, by either of its names.
    pub(super) fn field<'a>(self, message: &str, name: &'a str) -> Option<(&'a str, &'static str)> {
        let type_name = self.type_of(message, name)?;
        match type_name.strip_prefix('=') {
            Some(json) => Some((json, self.type_of(message, json)?)),
            None => Some((name, type_name)),
        }
    }

    fn type_of(self, message: &str, name: &str) -> Option<&'static str> {
        match self.changes.and_then(|changes| changes.messages.get(message)?.get(name)) {
            Some(changed) => changed.as_deref(),
            None => SCHEMA.messages.get(message)?.get(name).map(String::as_str),
        }
    }

    /// The names of an enum's values; `None` for other types.
    pub(super) fn enum_names(self, type_name: &str) -> Option<BTreeSet<&'static str>> {
        let exported = SCHEMA.enums.get(type_name);
        let changed = self.changes.and_then(|changes| changes.enums.get(type_name));
        if exported.is_none() && changed.is_none() {
            return None;
        }
        let mut names: BTreeSet<&str> = exported.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        for (name, number) in changed.into_iter().flatten() {
            if number.is_some() {
                names.insert(name);
            } else {
                names.remove(name.as_str());
            }
        }
        Some(names)
    }

    /// Whether enums may have values that are not in [`Self::enum_names`].
    pub(super) const fn has_unknown_enum_values(self) -> bool {
        self.has_unknown_enum_values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_minor_changes_the_exported_types() {
        let minors: Vec<String> = MINORS.keys().map(ToString::to_string).collect();
        assert_eq!(minors, ["1.28", "1.29", "1.30", "1.31", "1.32"]);
        for (minor, changes) in MINORS.iter() {
            for (message, fields) in &changes.messages {
                for (name, changed) in fields {
                    let exported = SCHEMA.messages.get(message).and_then(|fields| fields.get(name));
                    assert_ne!(exported, changed.as_ref(), "{minor}: {message}.{name}");
                }
            }
            for (name, values) in &changes.enums {
                for (value, changed) in values {
                    let exported = SCHEMA.enums.get(name).and_then(|values| values.get(value));
                    assert_ne!(exported, changed.as_ref(), "{minor}: {name}.{value}");
                }
            }
        }
    }

    #[test]
    fn added_fields_have_known_types() {
        let scalars = ["bool", "string", "int32", "uint32", "int64", "uint64", "double", "float"];
        for (minor, changes) in MINORS.iter() {
            let types = ReleaseTypes { changes: Some(changes), has_unknown_enum_values: false };
            for (message, fields) in &changes.messages {
                for name in fields.iter().filter(|(_, changed)| changed.is_some()).map(|(name, _)| name) {
                    let (_, type_name) = types.field(message, name).unwrap();
                    let type_name = type_name.trim_start_matches(['[', ']', '{', '}']);
                    let is_known = scalars.contains(&type_name)
                        || type_name.starts_with("google.protobuf.")
                        || types.is_message(type_name)
                        || types.enum_names(type_name).is_some();
                    assert!(is_known, "{minor}: {message}.{name} is {type_name}");
                }
            }
        }
    }

    #[test]
    fn selects_nearest_minor() {
        let has = |minor: u64, field: &str| {
            ReleaseTypes::of(&Version::new(1, minor, 0)).field("istio.mesh.v1alpha1.MeshConfig", field).is_some()
        };
        for (minor, hbone, zones, retries) in [
            (24, false, false, false),
            (28, false, false, false),
            (29, true, false, false),
            (30, true, false, false),
            (31, true, true, false),
            (32, true, true, true),
            (40, true, true, true),
        ] {
            assert_eq!(has(minor, "hbone_idle_timeout"), hbone, "{minor}");
            assert_eq!(has(minor, "zoneAwareLbSetting"), zones, "{minor}");
            assert_eq!(has(minor, "defaultInboundHttpRetryPolicy"), retries, "{minor}");
        }
        assert!(!ReleaseTypes::of(&Version::new(1, 32, 9)).has_unknown_enum_values());
        assert!(ReleaseTypes::of(&Version::new(1, 33, 0)).has_unknown_enum_values());
    }
}
