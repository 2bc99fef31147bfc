//! What can go wrong, named after what was being done.

use std::{io, path::PathBuf};

/// A chart that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file or folder of the chart can't be read.
    #[error("can't read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A symbolic link leads out of the chart.
    #[error("{} leads out of the chart; a chart must be complete in its folder", path.display())]
    Escapes {
        /// The link.
        path: PathBuf,
    },
    /// `Chart.yaml` is missing or lacks what a chart needs.
    #[error("Chart.yaml: {problem}")]
    Metadata {
        /// What is wrong with it.
        problem: String,
    },
    /// `values.yaml` is not a map in YAML.
    #[error("chart {chart}: values.yaml: {problem}")]
    Values {
        /// Name of the chart.
        chart: String,
        /// What is wrong with it.
        problem: String,
    },
    /// `values.schema.json` is no JSON schema, or asks for something that is not supported.
    #[error("chart {chart}: values.schema.json: {problem}")]
    Schema {
        /// Name of the chart.
        chart: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A template is malformed.
    #[error("chart {chart}: {template}:{line}: {problem}")]
    Template {
        /// Name of the chart.
        chart: String,
        /// Name of the template file.
        template: String,
        /// Line in it, from 1.
        line: u32,
        /// What is wrong there.
        problem: String,
    },
    /// A template calls a function that this crate does not have.
    #[error("chart {chart}: {template}:{line}: function {function:?} is not supported")]
    UnknownFunction {
        /// Name of the chart.
        chart: String,
        /// Name of the template file.
        template: String,
        /// Line in it, from 1.
        line: u32,
        /// The name that was called.
        function: String,
    },
    /// The chart brings charts of its own.
    #[error("chart {chart}: {path}: charts within charts are not supported; render each by itself")]
    Subchart {
        /// Name of the chart.
        chart: String,
        /// The first file of the inner chart.
        path: String,
    },
}

/// Values and a chart that don't give a result.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The values break the chart's schema.
    #[error("chart {chart}: values don't fit its schema: {}", problems.join("; "))]
    Schema {
        /// Name of the chart.
        chart: String,
        /// One sentence for each place, beginning with its path (`service.ports[0].port`).
        problems: Vec<String>,
    },
    /// The values are not a map.
    #[error("chart {chart}: values must be a map, but are {found}")]
    Values {
        /// Name of the chart.
        chart: String,
        /// What they are.
        found: &'static str,
    },
    /// The chart itself refuses the values, by `fail` or `required`.
    #[error("chart {chart}: {template}:{line}: {message}")]
    Refused {
        /// Name of the chart.
        chart: String,
        /// Name of the template.
        template: String,
        /// Line in it, from 1; 0 where unknown.
        line: u32,
        /// The chart's own words.
        message: String,
    },
    /// A template does something with the values that Go's templates don't allow.
    #[error("chart {chart}: {template}:{line}: {problem}")]
    Template {
        /// Name of the chart.
        chart: String,
        /// Name of the template.
        template: String,
        /// Line in it, from 1; 0 where unknown.
        line: u32,
        /// What went wrong.
        problem: String,
    },
    /// A limit of [`crate::Limits`], or the limit of depth, was reached.
    #[error("chart {chart}: {template}:{line}: stopped after too {limit}")]
    Limit {
        /// Name of the chart.
        chart: String,
        /// Name of the template.
        template: String,
        /// Line in it, from 1; 0 where unknown.
        line: u32,
        /// Which limit: `many steps`, `much output`, `deep nesting`.
        limit: &'static str,
    },
}

/// A document of a rendered text that is no YAML.
#[derive(Debug, thiserror::Error)]
#[error("{template}:{line}: {problem}")]
pub struct DocumentError {
    /// Name of the template that gave the text.
    pub template: String,
    /// Line in the rendered text, from 1.
    pub line: usize,
    /// The parser's words.
    pub problem: String,
}
