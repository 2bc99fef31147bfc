//! Which custom resource definitions a base chart brings. Pure.

use std::collections::BTreeSet;

use meshwright_chart::{Capabilities, Chart, DocumentError, Limits, Release, RenderError, documents};
use serde_json::{Value, json};

/// What a base chart brings can't be found out.
#[derive(Debug, thiserror::Error)]
pub enum ListDefinitionsError {
    /// It can't be rendered with its own values.
    #[error("can't render it with its own values")]
    Render(#[source] RenderError),
    /// What it renders is no YAML.
    #[error("what it renders is no YAML")]
    Document(#[source] DocumentError),
}

/// Those of the `expected` definitions (as `plural.group`) that the chart doesn't bring with its own values, on a server
/// of version `kubernetes`.
pub(super) fn missing<'a>(
    chart: &Chart,
    expected: &'a [String],
    kubernetes: &str,
) -> Result<Vec<&'a str>, ListDefinitionsError> {
    let release = Release { name: "istio-base".to_owned(), namespace: "istio-system".to_owned() };
    let capabilities = Capabilities { kube_version: kubernetes.to_owned(), api_versions: BTreeSet::new() };
    let rendered = chart.render(&release, &json!({}), &capabilities, &Limits::default());
    let mut there = BTreeSet::new();
    for text in rendered.map_err(ListDefinitionsError::Render)? {
        for document in documents(&text) {
            let document = document.map_err(ListDefinitionsError::Document)?;
            if document.get("kind").and_then(Value::as_str) == Some("CustomResourceDefinition") {
                there.extend(document.pointer("/metadata/name").and_then(Value::as_str).map(str::to_owned));
            }
        }
    }
    Ok(expected.iter().map(String::as_str).filter(|name| !there.contains(*name)).collect())
}
