//! Parses YAML like Kubernetes' own tools.

use serde::de::DeserializeOwned;

/// Parses one document.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Box<serde_saphyr::Error>> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(Box::new)
}

/// Parses all documents of a text.
pub(crate) fn parse_all<T: DeserializeOwned>(text: &str) -> Result<Vec<T>, Box<serde_saphyr::Error>> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
    serde_saphyr::from_multiple_with_options(text, options).map_err(Box::new)
}
