//! Lists the CRDs of a base chart. Pure.

use std::collections::BTreeSet;

use meshwright_chart::{Capabilities, Chart, DocumentError, Limits, Release, RenderError, documents};
use serde_json::{Value, json};

/// The CRDs of a base chart can't be listed.
#[derive(Debug, thiserror::Error)]
pub enum ListCrdsError {
    /// Rendering with the default values failed.
    #[error("can't render it with its default values")]
    Render(#[source] RenderError),
    /// The output is not YAML.
    #[error("the rendered output is not YAML")]
    Document(#[source] DocumentError),
}

/// Returns the `expected` CRDs (as `plural.group`) that the chart doesn't render with its default values on a server of
/// version `kubernetes`.
pub(super) fn missing<'a>(
    chart: &Chart,
    expected: &'a [String],
    kubernetes: &str,
) -> Result<Vec<&'a str>, ListCrdsError> {
    let release = Release { name: "istio-base".to_owned(), namespace: "istio-system".to_owned() };
    let capabilities = Capabilities { kube_version: kubernetes.to_owned(), api_versions: BTreeSet::new() };
    let rendered = chart.render(&release, &json!({}), &capabilities, &Limits::default());
    let mut rendered_crds = BTreeSet::new();
    for text in rendered.map_err(ListCrdsError::Render)? {
        for document in documents(&text) {
            let document = document.map_err(ListCrdsError::Document)?;
            if document.get("kind").and_then(Value::as_str) == Some("CustomResourceDefinition") {
                rendered_crds.extend(document.pointer("/metadata/name").and_then(Value::as_str).map(str::to_owned));
            }
        }
    }
    Ok(expected.iter().map(String::as_str).filter(|name| !rendered_crds.contains(*name)).collect())
}
