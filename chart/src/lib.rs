//! Loads and renders Helm charts in process, deterministically. Does no I/O except loading charts from disk.
//!
//! # Why a custom evaluator
//!
//! Istio's charts merge their defaults, a profile, the platform and the user's values *inside templates*, by changing
//! maps in place (`set`, `unset`, `mustMergeOverwrite` on `.Values`); later templates see the result. Existing template
//! engines for Rust copy maps, so these templates would silently do nothing. Here, maps are shared and mutable as in
//! Go, and the charts run unmodified. The function table has only the functions that the charts use: an unknown
//! function is an error when the chart is loaded.
//!
//! A differential test compares the output with that of `helm template`.
//!
//! # Modules
//!
//! - `load` reads a chart (the only I/O), `values` merges the user's values over the chart's, `schema` validates them,
//!   `render` runs the templates, `documents` splits the output.
//! - `known_keys` lists the keys that the values can have.
//! - `template` implements Go's text/template, `functions` the template functions, `value` the values of templates.
//! - `yaml`, `json`, `number`, `format` write values exactly like the Go libraries that Helm uses.
//! - [`yaml_text`] and [`Schema`] are also used by the operator's command line to write and validate manifests.
//! - `budget` limits steps, depth and output.

mod budget;
mod documents;
mod error;
mod format;
mod functions;
mod json;
mod known_keys;
mod load;
mod number;
mod render;
mod schema;
mod template;
mod value;
mod values;
mod yaml;

use std::collections::BTreeSet;

pub use documents::documents;
pub use error::{DocumentError, LoadError, RenderError};
pub use known_keys::KnownKeys;
pub use load::Chart;
pub use schema::Schema;
pub use yaml::{YamlError, parse_yaml, yaml_text};

/// The Helm release, as templates see it in `.Release`: always revision 1 of an installation by service `Helm`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The value of `.Release.Name`.
    pub name: String,
    /// The value of `.Release.Namespace`.
    pub namespace: String,
}

/// The cluster, as templates see it in `.Capabilities`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The API server's version, for example `v1.36.3` or `v1.33.4-gke.1245000`.
    pub kube_version: String,
    /// The values for which `.Capabilities.APIVersions.Has` is true: `apps/v1`, `apps/v1/Deployment`.
    pub api_versions: BTreeSet<String>,
}

impl Capabilities {
    /// Creates capabilities with this version and without API versions.
    pub fn of_version(kube_version: impl Into<String>) -> Self {
        Self { kube_version: kube_version.into(), api_versions: BTreeSet::new() }
    }
}

/// The limits of one call of [`Chart::render`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The bytes of the whole output, and of any intermediate text.
    pub max_output_bytes: usize,
    /// The steps of evaluation: nodes visited, values copied, characters parsed. Istio's largest chart needs a few
    /// million.
    pub max_steps: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_output_bytes: 32 << 20, max_steps: 100_000_000 }
    }
}

/// The output of one template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The name of the template, prefixed with the chart's name, for example `istiod/templates/deployment.yaml`.
    pub template: String,
    /// The output: any number of YAML documents.
    pub text: String,
}
