//! Loads and renders Helm charts in process, deterministically. No Kubernetes client, no I/O but loading.
//!
//! # Why an evaluator of our own
//!
//! Istio's charts overlay their defaults, a profile, the platform and the user's values *inside templates*, by
//! changing maps in place (`set`, `unset`, `mustMergeOverwrite` on `.Values`); later templates see the result. The
//! template engines to be had for Rust have maps that are values, so those templates would silently do nothing. Here
//! maps are shared and mutable as in Go, and the charts run as they are. The function table holds what the charts
//! use and nothing else: an unknown function is an error when the chart is loaded, never a false condition later.
//!
//! What "like Helm" means is settled by the differential test, which compares whole renders with `helm template`.
//!
//! # Rooms
//!
//! - `load` reads a chart (the only I/O), `values` lays the user's values over the chart's, `schema` checks them,
//!   `render` runs the templates, `documents` splits the text.
//! - `template` is Go's text/template, `functions` what templates can call, `value` what they work on.
//! - `yaml`, `json`, `number`, `format` write values exactly as the Go libraries behind Helm do.
//! - [`yaml_text`] and [`Schema`] are for the operator's command line too, which writes and checks manifests.
//! - `budget` bounds steps, depth and output, in place of a clock.

mod budget;
mod documents;
mod error;
mod format;
mod functions;
mod json;
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
pub use load::Chart;
pub use schema::Schema;
pub use yaml::yaml_text;

/// What the templates learn about the release: always the first revision of an installation, by service `Helm`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// `.Release.Name`.
    pub name: String,
    /// `.Release.Namespace`.
    pub namespace: String,
}

/// What the templates learn about the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The server's version as it states it, for example `v1.36.3` or `v1.33.4-gke.1245000`.
    pub kube_version: String,
    /// What `.Capabilities.APIVersions.Has` answers yes to: `apps/v1`, `apps/v1/Deployment`.
    pub api_versions: BTreeSet<String>,
}

impl Capabilities {
    /// Those of a server of this version, of whose kinds nothing is said.
    pub fn of_version(kube_version: impl Into<String>) -> Self {
        Self { kube_version: kube_version.into(), api_versions: BTreeSet::new() }
    }
}

/// What one call of [`Chart::render`] may use before it is stopped with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all rendered texts together, and of any single text on the way there.
    pub max_output_bytes: usize,
    /// Steps of evaluation: nodes visited, values copied, characters parsed. Istio's largest chart takes a few
    /// millions.
    pub max_steps: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_output_bytes: 32 << 20, max_steps: 100_000_000 }
    }
}

/// The text that one template gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Name of the template with the chart's in front, for example `istiod/templates/deployment.yaml`.
    pub template: String,
    /// Its output: any number of YAML documents.
    pub text: String,
}
