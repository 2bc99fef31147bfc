//! The add-ons' charts, as they come with the program.

use std::collections::BTreeMap;

use meshwright_api::AddOnName;
use meshwright_chart::{Chart, LoadError};
use serde_json::Value;

use crate::mesh::merge::merge;

/// Path below `bundled-manifests/addons`, and text.
const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/add_ons.rs"));
/// What all charts have in common.
const COMMON: &str = "common/";
const SCHEMA: &str = "values.schema.json";

/// A chart that comes with the program can't be used: the program was built wrong.
#[derive(Debug, thiserror::Error)]
pub enum LoadAddOnError {
    /// Its schema is no JSON.
    #[error("the schema of the add-on {} can't be read", name.as_str())]
    Schema {
        /// Which.
        name: AddOnName,
        /// Cause.
        #[source]
        source: serde_json::Error,
    },
    /// It is no chart.
    #[error("the chart of the add-on {} can't be read", name.as_str())]
    Chart {
        /// Which.
        name: AddOnName,
        /// Cause.
        #[source]
        source: Box<LoadError>,
    },
}

/// The chart of an add-on: its own files with the common templates, and its own schema laid on the common one.
pub(super) fn chart(name: AddOnName) -> Result<Chart, LoadAddOnError> {
    let own = format!("{}/", name.as_str());
    let mut files = BTreeMap::new();
    let mut schema = Value::Null;
    for (path, text) in FILES {
        let Some(path) = path.strip_prefix(COMMON).or_else(|| path.strip_prefix(&own)) else { continue };
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
