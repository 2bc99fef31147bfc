//! Builds the descriptors by which consoles show the fields of a custom resource: name, description and type from the
//! CRD's schema. Pure.

use serde_json::{Map, Value, json};

use super::base::DescribedField;
use super::{text, texts};

/// The prefix of descriptors for spec fields.
const UI: &str = "urn:alm:descriptor:com.tectonic.ui:";

/// A descriptor doesn't match the CRD.
#[derive(Debug, thiserror::Error)]
pub enum DescriptorError {
    /// The schema has no such field.
    #[error("the CRD has no field {part}.{path}")]
    NoField {
        /// `spec` or `status`.
        part: &'static str,
        path: String,
    },
    /// The field has no description in the schema.
    #[error("the CRD has no description of {part}.{path}")]
    NoDescription {
        /// `spec` or `status`.
        part: &'static str,
        path: String,
    },
}

/// Builds the descriptors of `spec` or `status`.
pub(crate) fn descriptors(
    schema: &Value,
    part: &'static str,
    shown: &[DescribedField],
) -> Result<Vec<Value>, DescriptorError> {
    let properties = schema.pointer(&format!("/properties/{part}")).unwrap_or(&Value::Null);
    shown.iter().map(|field| descriptor(properties, part, field)).collect()
}

fn descriptor(schema: &Value, part: &'static str, field: &DescribedField) -> Result<Value, DescriptorError> {
    let path = || field.path.clone();
    let node = find(schema, &field.path).ok_or_else(|| DescriptorError::NoField { part, path: path() })?;
    let description = first_sentence(text(node, "/description"));
    if description.is_empty() {
        return Err(DescriptorError::NoDescription { part, path: path() });
    }
    let expand = |name: &String| if name.starts_with("urn:") { name.clone() } else { format!("{UI}{name}") };
    let mut descriptors: Vec<String> = field.show.iter().map(expand).collect();
    // A manually set descriptor replaces those for the field's type.
    if !field.show.iter().any(|name| name.starts_with("urn:")) {
        descriptors.extend(if part == "spec" { spec_descriptors(node) } else { status_descriptors(node) });
    }
    let mut descriptor = Map::from_iter([
        ("path".to_owned(), json!(field.path)),
        ("displayName".to_owned(), json!(field.name)),
        ("description".to_owned(), json!(description)),
    ]);
    if !descriptors.is_empty() {
        descriptor.insert("x-descriptors".to_owned(), json!(descriptors));
    }
    Ok(Value::Object(descriptor))
}

/// Returns the schema of a field.
pub(crate) fn find<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(schema, |node, step| {
        let (name, item) = step.strip_suffix("[0]").map_or((step, false), |name| (name, true));
        let field = node.get("properties")?.get(name)?;
        if item { field.get("items") } else { Some(field) }
    })
}

/// The descriptors for the type of a spec field.
fn spec_descriptors(node: &Value) -> Vec<String> {
    let choices: Vec<String> = texts(node, "/enum").map(|choice| format!("{UI}select:{choice}")).collect();
    if !choices.is_empty() {
        return choices;
    }
    let quantities = |name| node.pointer("/properties").is_some_and(|fields| fields.get(name).is_some());
    match text(node, "/type") {
        "boolean" => vec![format!("{UI}booleanSwitch")],
        "integer" => vec![format!("{UI}number")],
        "string" => vec![format!("{UI}text")],
        "object" if quantities("requests") && quantities("limits") => vec![format!("{UI}resourceRequirements")],
        _ => Vec::new(),
    }
}

/// The descriptors for the type of a status field; consoles need none for objects and lists.
fn status_descriptors(node: &Value) -> Vec<String> {
    match text(node, "/type") {
        "string" | "boolean" | "integer" => vec!["urn:alm:descriptor:text".to_owned()],
        _ => Vec::new(),
    }
}

/// Returns the first sentence of a description.
fn first_sentence(description: &str) -> String {
    let line = description.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = line.find(". ").map_or(line.len(), |at| at + 1);
    line.get(..end).unwrap_or(&line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Value {
        json!({"properties": {"spec": {"properties": {
            "version": {"type": "string", "description": "The version.\nA release. Example: `1.2.3`."},
            "mode": {"type": "string", "enum": ["On", "Off"], "description": "Whether"},
            "gateways": {"type": "array", "description": "Gateways.", "items": {"properties": {
                "resources": {"type": "object", "description": "CPU.", "properties": {"requests": {}, "limits": {}}},
                "replicas": {"type": "integer", "description": "How many."},
            }}},
            "silent": {"type": "boolean"},
        }}}})
    }

    fn shown(path: &str, show: &[&str]) -> DescribedField {
        DescribedField { path: path.into(), name: "Name".into(), show: show.iter().map(ToString::to_string).collect() }
    }

    fn x_descriptors(path: &str, show: &[&str]) -> Vec<String> {
        let result = descriptors(&schema(), "spec", &[shown(path, show)]).unwrap().remove(0);
        texts(&result, "/x-descriptors").map(ToOwned::to_owned).collect()
    }

    #[test]
    fn describes_field_by_first_sentence() {
        let result = descriptors(&schema(), "spec", &[shown("version", &[])]).unwrap();
        assert_eq!(result[0]["description"], "The version.");
        assert_eq!(first_sentence("Only one, without an end"), "Only one, without an end");
    }

    #[test]
    fn derives_descriptors_from_type() {
        assert_eq!(x_descriptors("version", &[]), [format!("{UI}text")]);
        assert_eq!(x_descriptors("mode", &[]), [format!("{UI}select:On"), format!("{UI}select:Off")]);
        assert_eq!(x_descriptors("gateways[0].resources", &[]), [format!("{UI}resourceRequirements")]);
        assert_eq!(x_descriptors("gateways[0].replicas", &[]), [format!("{UI}number")]);
        assert!(x_descriptors("gateways", &[]).is_empty());
    }

    #[test]
    fn manual_descriptors_precede_or_replace_derived_ones() {
        assert_eq!(x_descriptors("version", &["advanced"]), [format!("{UI}advanced"), format!("{UI}text")]);
        assert_eq!(x_descriptors("mode", &["urn:x"]), ["urn:x"]);
    }

    #[test]
    fn rejects_unknown_field_and_missing_description() {
        let error = |path| descriptors(&schema(), "spec", &[shown(path, &[])]).unwrap_err().to_string();
        assert_eq!(error("gateways.replicas"), "the CRD has no field spec.gateways.replicas");
        assert_eq!(error("silent"), "the CRD has no description of spec.silent");
    }
}
