//! Errors of loading and rendering.

use std::{io, path::PathBuf};

/// A chart can't be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file or directory of the chart can't be read.
    #[error("can't read {}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The I/O error.
        #[source]
        source: io::Error,
    },
    /// A symbolic link points out of the chart.
    #[error("{} points out of the chart; a chart must be self-contained", path.display())]
    Escapes {
        /// The symbolic link.
        path: PathBuf,
    },
    /// `Chart.yaml` is missing or invalid.
    #[error("Chart.yaml: {problem}")]
    Metadata {
        /// The reason, in one sentence.
        problem: String,
    },
    /// `values.yaml` is not a YAML map.
    #[error("chart {chart}: values.yaml: {problem}")]
    Values {
        /// The name of the chart.
        chart: String,
        /// The reason, in one sentence.
        problem: String,
    },
    /// `values.schema.json` is not a JSON schema, or has an unsupported keyword.
    #[error("chart {chart}: values.schema.json: {problem}")]
    Schema {
        /// The name of the chart.
        chart: String,
        /// The reason, in one sentence.
        problem: String,
    },
    /// A template is malformed.
    #[error("chart {chart}: {template}:{line}: {problem}")]
    Template {
        /// The name of the chart.
        chart: String,
        /// The name of the template file.
        template: String,
        /// The line in the template, from 1.
        line: u32,
        /// The reason, in one sentence.
        problem: String,
    },
    /// A template calls an unsupported function.
    #[error("chart {chart}: {template}:{line}: function {function:?} is not supported")]
    UnknownFunction {
        /// The name of the chart.
        chart: String,
        /// The name of the template file.
        template: String,
        /// The line in the template, from 1.
        line: u32,
        /// The name of the function.
        function: String,
    },
    /// The chart has subcharts.
    #[error("chart {chart}: {path}: subcharts are not supported; render each chart separately")]
    Subchart {
        /// The name of the chart.
        chart: String,
        /// The first file of the subchart.
        path: String,
    },
}

/// A chart can't be rendered with these values.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The values violate the chart's schema.
    #[error("chart {chart}: values violate the schema: {}", problems.join("; "))]
    Schema {
        /// The name of the chart.
        chart: String,
        /// One sentence per violation, with its path first (`service.ports[0].port`).
        problems: Vec<String>,
    },
    /// The values are not a map.
    #[error("chart {chart}: values must be a map, but are {found}")]
    Values {
        /// The name of the chart.
        chart: String,
        /// The type of the values.
        found: &'static str,
    },
    /// The chart rejects the values, with `fail` or `required`.
    #[error("chart {chart}: {template}:{line}: {message}")]
    Rejected {
        /// The name of the chart.
        chart: String,
        /// The name of the template.
        template: String,
        /// The line in the template, from 1; 0 if unknown.
        line: u32,
        /// The chart's message.
        message: String,
    },
    /// A template fails with these values.
    #[error("chart {chart}: {template}:{line}: {problem}")]
    Template {
        /// The name of the chart.
        chart: String,
        /// The name of the template.
        template: String,
        /// The line in the template, from 1; 0 if unknown.
        line: u32,
        /// The reason, in one sentence.
        problem: String,
    },
    /// A limit of [`crate::Limits`] or the depth limit was exceeded.
    #[error("chart {chart}: {template}:{line}: stopped after too {limit}")]
    Limit {
        /// The name of the chart.
        chart: String,
        /// The name of the template.
        template: String,
        /// The line in the template, from 1; 0 if unknown.
        line: u32,
        /// The limit: `many steps`, `much output` or `deep nesting`.
        limit: &'static str,
    },
}

/// A rendered document is not YAML.
#[derive(Debug, thiserror::Error)]
#[error("{template}:{line}: {problem}")]
pub struct DocumentError {
    /// The name of the template that rendered it.
    pub template: String,
    /// The line in the rendered text, from 1.
    pub line: usize,
    /// The parser's message.
    pub problem: String,
}
