//! Generates the API reference in Markdown, from the schema and from examples. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use meshwright_api::crd;
use serde_json::Value;

use super::fields::{Field, ReferenceSection, sections};

/// Examples by section; together they contain every field.
const EXAMPLES: &str = include_str!("examples.yaml");
/// Path of the examples, for messages.
const EXAMPLES_FILE: &str = "operator/src/cli/crd/examples.yaml";

/// The reference can't be generated.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// The CRD can't be serialized.
    #[error("can't serialize the schema")]
    Schema(#[source] serde_json::Error),
    /// The examples are invalid.
    #[error("can't read {EXAMPLES_FILE}")]
    Examples(#[source] Box<serde_saphyr::Error>),
    /// A section has no example.
    #[error("{0} has no example; add one to {EXAMPLES_FILE}")]
    NoExample(String),
}

/// Generates the reference.
pub(super) fn reference() -> Result<String, ReferenceError> {
    let schema = schema()?;
    let examples = examples()?;
    let mut text = intro(&schema);
    for section in all_sections(&schema) {
        let examples = examples.get(&section.path).ok_or_else(|| ReferenceError::NoExample(section.path.clone()))?;
        write_section(&mut text, &section, examples);
    }
    Ok(text)
}

fn schema() -> Result<Value, ReferenceError> {
    let version = crd().spec.versions.into_iter().next();
    let schema = version.and_then(|version| version.schema?.open_api_v3_schema);
    serde_json::to_value(schema).map_err(ReferenceError::Schema)
}

fn examples() -> Result<BTreeMap<String, Vec<String>>, ReferenceError> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(EXAMPLES, options).map_err(|error| ReferenceError::Examples(Box::new(error)))
}

fn all_sections(schema: &Value) -> Vec<ReferenceSection> {
    let part = |name: &str| sections(name, schema.pointer(&format!("/properties/{name}")).unwrap_or(&Value::Null));
    [part("spec"), part("status")].concat()
}

fn intro(schema: &Value) -> String {
    let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array);
    let message = |rule: &Value| Some(format!("- {}\n", rule.get("message")?.as_str()?));
    let rules: String = rules.into_iter().flatten().filter_map(message).collect();
    format!(
        "\
<!-- Generated from api/src and {EXAMPLES_FILE}; don't edit. To update: make generate -->
# MeshInstallation API reference

`apiVersion: meshwright.dev/v1alpha1`, `kind: MeshInstallation`, short name `mi`, category `mesh`, cluster-scoped.
`meshwright crd --document` prints this page; `kubectl explain meshinstallation.spec` prints parts of it. Unknown fields are
rejected, except in objects of type *any fields*.

Examples of `spec` are fragments: they omit the required field `version` unless it matters. A *quantity* has the format of
pod resources (`500m`, `2Gi`), a *time* that of `2026-11-21T17:20:00Z`. The API server rejects values that violate a field's
rules. It also validates these rules across fields:

{rules}"
    )
}

fn write_section(text: &mut String, section: &ReferenceSection, examples: &[String]) {
    let _ = write!(text, "\n## `{}`\n\n{}\n", section.path, section.meaning);
    if !section.rules.is_empty() {
        let _ = write!(text, "\nValidation: {}.\n", section.rules.join("; "));
    }
    text.push_str("\n| field | type | default | description | validation |\n|---|---|---|---|---|\n");
    for field in &section.fields {
        text.push_str(&row(field));
    }
    for example in examples {
        let _ = write!(text, "\n```yaml\n{}\n```\n", example.trim_end());
    }
}

fn row(field: &Field) -> String {
    let kind = match &field.section {
        Some(section) => format!("[{}](#{})", field.kind, anchor(section)),
        None => field.kind.clone(),
    };
    let default = if field.required { "**required**" } else { field.default.as_deref().unwrap_or_default() };
    let (name, rules) = (format!("`{}`", field.name), field.rules.join("; "));
    // A pipe character would end the cell.
    let cells = [name.as_str(), &kind, default, &field.meaning, &rules].map(|cell| cell.replace('|', "\\|"));
    format!("| {} |\n", cells.join(" | "))
}

/// The anchor that GitHub generates for a section's heading.
fn anchor(path: &str) -> String {
    path.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use meshwright_api::MeshInstallationStatus;
    use meshwright_chart::Schema;
    use serde_json::json;

    use super::super::super::documents::validation_error;
    use super::super::super::manifest;
    use super::*;

    /// The parsed examples with their section.
    fn parsed() -> Vec<(String, Value)> {
        let read = |path: &str, text: &String| {
            let value: Value = serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{path}: {error}"));
            (path.to_owned(), value)
        };
        let examples = examples().unwrap();
        examples.iter().flat_map(|(path, texts)| texts.iter().map(move |text| read(path, text))).collect()
    }

    /// The paths of all fields in an example, with lists as `[]`.
    fn paths(path: &str, value: &Value, found: &mut BTreeSet<String>) {
        for (name, value) in value.as_object().into_iter().flatten() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            paths(&path, value, found);
            found.insert(path);
        }
        for value in value.as_array().into_iter().flatten() {
            paths(&format!("{path}[]"), value, found);
        }
    }

    #[test]
    fn committed_reference_is_up_to_date() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference.md");
        let committed = fs::read_to_string(path).unwrap_or_default();
        assert!(committed == reference().unwrap(), "docs/reference.md is out of date; run: make generate");
    }

    #[test]
    fn examples_contain_every_field() {
        for section in all_sections(&schema().unwrap()) {
            let mut found = BTreeSet::new();
            for (_, example) in parsed().iter().filter(|(path, _)| *path == section.path) {
                paths("", example, &mut found);
            }
            for field in &section.fields {
                let path = format!("{}.{}", section.path, field.name);
                assert!(
                    found.contains(&path),
                    "{path} is not in an example of {}; add it to {EXAMPLES_FILE}",
                    section.path
                );
            }
        }
    }

    #[test]
    fn examples_have_existing_sections() {
        let sections: BTreeSet<String> = all_sections(&schema().unwrap()).into_iter().map(|it| it.path).collect();
        let examples: BTreeSet<String> = examples().unwrap().into_keys().collect();
        assert_eq!(examples.difference(&sections).collect::<Vec<_>>(), Vec::<&String>::new());
    }

    #[test]
    fn spec_examples_are_valid() {
        for (path, mut example) in parsed().into_iter().filter(|(path, _)| path.starts_with("spec")) {
            if example["spec"].get("version").is_none() {
                example["spec"]["version"] = json!("1.31");
            }
            let object = json!({
                "apiVersion": "meshwright.dev/v1alpha1", "kind": "MeshInstallation",
                "metadata": {"name": "mesh"}, "spec": example["spec"],
            });
            assert_eq!(validation_error(&object), None, "example of {path}");
        }
    }

    #[test]
    fn status_examples_are_valid() {
        let closed = manifest::closed(schema().unwrap()["properties"]["status"].clone());
        let schema = Schema::parse(&closed.to_string()).unwrap();
        for (path, example) in parsed().into_iter().filter(|(path, _)| path.starts_with("status")) {
            assert_eq!(schema.problems(&example["status"]), Vec::<String>::new(), "example of {path}");
            let status: Result<MeshInstallationStatus, _> = serde_json::from_value(example["status"].clone());
            assert!(status.is_ok(), "the example of {path}: {status:?}");
        }
    }

    #[test]
    fn escapes_pipes_in_cells() {
        let field = Field {
            name: "a".into(),
            kind: "string".into(),
            section: None,
            required: false,
            default: None,
            meaning: "a|b".into(),
            rules: Vec::new(),
        };
        assert_eq!(row(&field), "| `a` | string |  | a\\|b |  |\n");
    }
}
