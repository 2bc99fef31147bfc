//! Parses a bundle from its files.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{ANNOTATIONS, Bundle, Files, MANIFESTS};
use crate::yaml;

/// A bundle can't be parsed.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// A file is not YAML.
    #[error("{path} is not YAML")]
    Yaml {
        /// The path in the bundle.
        path: String,
        /// The YAML error.
        #[source]
        source: Box<serde_saphyr::Error>,
    },
    /// A required file is missing.
    #[error("the bundle has no file {0}")]
    Missing(&'static str),
}

impl TryFrom<&Files> for Bundle {
    type Error = ParseError;

    fn try_from(files: &Files) -> Result<Self, ParseError> {
        let mut manifests = BTreeMap::new();
        let mut annotations = None;
        let mut others = Files::new();
        for (path, text) in files {
            if path.starts_with(MANIFESTS) {
                manifests.insert(path.clone(), parse(path, text)?);
            } else if path == ANNOTATIONS {
                annotations = parse(path, text)?.get("annotations").cloned();
            } else {
                others.insert(path.clone(), text.clone());
            }
        }
        let annotations = annotations.ok_or(ParseError::Missing(ANNOTATIONS))?;
        Ok(Self { manifests, annotations, others, size: files.values().map(String::len).sum() })
    }
}

fn parse(path: &str, text: &str) -> Result<Value, ParseError> {
    yaml::parse(text).map_err(|source| ParseError::Yaml { path: path.to_owned(), source })
}
