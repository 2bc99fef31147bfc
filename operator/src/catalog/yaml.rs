//! Parses YAML like Helm.

use serde::de::DeserializeOwned;

/// Parses one document. Leading zeros mean octal, as in Kubernetes' own tools. Errors have one line, since they end up
/// in conditions.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Box<serde_saphyr::Error>> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(Box::new)
}
