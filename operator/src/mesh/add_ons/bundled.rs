//! The charts of the add-ons, which are compiled into the binary.

use std::collections::BTreeMap;

use meshwright_api::AddOnName;
use meshwright_chart::{Chart, LoadError};
use serde_json::Value;

use crate::mesh::merge::merge;

/// Path below `bundled-manifests/addons`, and content.
const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/add_ons.rs"));
/// Directory of the templates that all add-on charts share.
const COMMON: &str = "common/";
const SCHEMA: &str = "values.schema.json";

/// A bundled chart can't be loaded, which is a defect of the build.
#[derive(Debug, thiserror::Error)]
pub enum LoadAddOnError {
    /// `values.schema.json` is not valid JSON.
    #[error("can't parse the values schema of add-on {}", name.as_str())]
    Schema {
        /// Add-on whose chart is affected.
        name: AddOnName,
        /// Error of the JSON parser.
        #[source]
        source: serde_json::Error,
    },
    /// The files are not a valid Helm chart.
    #[error("can't load the chart of add-on {}", name.as_str())]
    Chart {
        /// Add-on whose chart is affected.
        name: AddOnName,
        /// Error of the chart loader.
        #[source]
        source: Box<LoadError>,
    },
}

/// Loads the chart of an add-on: its own files plus the shared templates, with its values schema merged over the shared
/// one.
pub(super) fn chart(name: AddOnName) -> Result<Chart, LoadAddOnError> {
    let own_directory = format!("{}/", name.as_str());
    let mut files = BTreeMap::new();
    let mut schema = Value::Null;
    for (path, text) in FILES {
        let Some(path) = path.strip_prefix(COMMON).or_else(|| path.strip_prefix(&own_directory)) else { continue };
        if path == SCHEMA {
            let part = serde_json::from_str(text).map_err(|source| LoadAddOnError::Schema { name, source })?;
            merge(&mut schema, part);
        } else {
            files.insert(path.to_owned(), text.as_bytes().to_vec());
        }
    }
    files.insert(SCHEMA.to_owned(), schema.to_string().into_bytes());
    Chart::from_files(files).map_err(|source| LoadAddOnError::Chart { name, source: Box::new(source) })
}
