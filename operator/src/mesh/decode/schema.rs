//! The types, as data: `bundled-manifests/schemas/istiod.json`, which names the versions of Istio's modules that it is from.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

/// Types by name. A field's type is a scalar (`bool`, `int32`), or the name of a message or enum; `[]` before it is a list,
/// `{}` a map with string keys.
#[derive(Debug, Default, Deserialize)]
pub(super) struct IstiodSchema {
    /// Root message by document.
    pub roots: BTreeMap<String, String>,
    /// Fields by message. The other spelling of a field names the first: `status_port` is `=statusPort`.
    pub messages: BTreeMap<String, BTreeMap<String, String>>,
    /// Values by enum.
    pub enums: BTreeMap<String, BTreeMap<String, i32>>,
}

/// A test reads it, so that it can't be broken in a build.
pub(super) static SCHEMA: LazyLock<IstiodSchema> = LazyLock::new(|| {
    let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../bundled-manifests/schemas/istiod.json"));
    serde_json::from_str(text).unwrap_or_default()
});

/// `statusPort` for `status_port`, as protocol buffers name fields in JSON.
pub(super) fn json_name(name: &str) -> String {
    let mut words = name.split('_');
    let mut json = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        json.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        json.push_str(letters.as_str());
    }
    json
}
