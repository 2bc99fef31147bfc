//! How consoles show the fields of a custom resource: by name, with the schema's description, and with what the schema
//! says of their values. Pure.

use serde_json::{Map, Value, json};

use super::base::Shown;
use super::{text, texts};

/// What consoles do for a field of the spec begins with this.
const UI: &str = "urn:alm:descriptor:com.tectonic.ui:";

/// A descriptor doesn't fit the CRD.
#[derive(Debug, thiserror::Error)]
pub enum DescriptorError {
    /// The schema has no such field.
    #[error("the CRD has no field {part}.{path}")]
    NoField {
        /// `spec` or `status`.
        part: &'static str,
        /// The field.
        path: String,
    },
    /// The schema says nothing of the field.
    #[error("the CRD has no description of {part}.{path}")]
    NoDescription {
        /// `spec` or `status`.
        part: &'static str,
        /// The field.
        path: String,
    },
}

/// The descriptors of a part of the schema.
pub(crate) fn descriptors(schema: &Value, part: &'static str, shown: &[Shown]) -> Result<Vec<Value>, DescriptorError> {
    let properties = schema.pointer(&format!("/properties/{part}")).unwrap_or(&Value::Null);
    shown.iter().map(|field| descriptor(properties, part, field)).collect()
}

fn descriptor(schema: &Value, part: &'static str, field: &Shown) -> Result<Value, DescriptorError> {
    let path = || field.path.clone();
    let node = find(schema, &field.path).ok_or_else(|| DescriptorError::NoField { part, path: path() })?;
    let description = first_sentence(text(node, "/description"));
    if description.is_empty() {
        return Err(DescriptorError::NoDescription { part, path: path() });
    }
    let mut ways: Vec<String> =
        field.show.iter().map(|way| if way.starts_with("urn:") { way.clone() } else { format!("{UI}{way}") }).collect();
    // What was said by hand about the field stands for what its type would give.
    if !field.show.iter().any(|way| way.starts_with("urn:")) {
        ways.extend(if part == "spec" { editors(node) } else { views(node) });
    }
    let mut descriptor = Map::from_iter([
        ("path".to_owned(), json!(field.path)),
        ("displayName".to_owned(), json!(field.name)),
        ("description".to_owned(), json!(description)),
    ]);
    if !ways.is_empty() {
        descriptor.insert("x-descriptors".to_owned(), json!(ways));
    }
    Ok(Value::Object(descriptor))
}

/// The schema of a field.
pub(crate) fn find<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(schema, |node, step| {
        let (name, item) = step.strip_suffix("[0]").map_or((step, false), |name| (name, true));
        let field = node.get("properties")?.get(name)?;
        if item { field.get("items") } else { Some(field) }
    })
}

/// How a field is edited.
fn editors(node: &Value) -> Vec<String> {
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

/// How a field is shown: what isn't a plain value, consoles show by themselves.
fn views(node: &Value) -> Vec<String> {
    match text(node, "/type") {
        "string" | "boolean" | "integer" => vec!["urn:alm:descriptor:text".to_owned()],
        _ => Vec::new(),
    }
}

/// What a description says first; the rest is for documents.
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

    fn shown(path: &str, show: &[&str]) -> Shown {
        Shown { path: path.into(), name: "Name".into(), show: show.iter().map(ToString::to_string).collect() }
    }

    fn ways(path: &str, show: &[&str]) -> Vec<String> {
        let made = descriptors(&schema(), "spec", &[shown(path, show)]).unwrap().remove(0);
        texts(&made, "/x-descriptors").map(ToOwned::to_owned).collect()
    }

    #[test]
    fn a_field_is_described_by_the_first_sentence_of_its_schema() {
        let made = descriptors(&schema(), "spec", &[shown("version", &[])]).unwrap();
        assert_eq!(made[0]["description"], "The version.");
        assert_eq!(first_sentence("Only one, without an end"), "Only one, without an end");
    }

    #[test]
    fn a_field_is_edited_as_its_type_asks_for() {
        assert_eq!(ways("version", &[]), [format!("{UI}text")]);
        assert_eq!(ways("mode", &[]), [format!("{UI}select:On"), format!("{UI}select:Off")]);
        assert_eq!(ways("gateways[0].resources", &[]), [format!("{UI}resourceRequirements")]);
        assert_eq!(ways("gateways[0].replicas", &[]), [format!("{UI}number")]);
        assert!(ways("gateways", &[]).is_empty());
    }

    #[test]
    fn what_is_said_by_hand_comes_first_and_a_whole_urn_stands_alone() {
        assert_eq!(ways("version", &["advanced"]), [format!("{UI}advanced"), format!("{UI}text")]);
        assert_eq!(ways("mode", &["urn:x"]), ["urn:x"]);
    }

    #[test]
    fn a_descriptor_of_no_field_or_of_one_without_description_is_refused() {
        let refusal = |path| descriptors(&schema(), "spec", &[shown(path, &[])]).unwrap_err().to_string();
        assert_eq!(refusal("gateways.replicas"), "the CRD has no field spec.gateways.replicas");
        assert_eq!(refusal("silent"), "the CRD has no description of spec.silent");
    }
}
