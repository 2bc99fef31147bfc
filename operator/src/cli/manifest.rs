//! Reads a MeshInstallation from a file and validates it as strictly as the API server, reporting all errors at once.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use kube::core::cel::{ValidationError, Validator};
use meshwright_api::{ChartValues, MeshInstallation};
use meshwright_chart::Schema;
use serde_json::{Map, Value, json};
use serde_saphyr::UserMessageFormatter;

use super::names::is_dns_name;

const API_VERSION: &str = "meshwright.dev/v1alpha1";
const KIND: &str = "MeshInstallation";
/// Path that means standard input.
const STDIN: &str = "-";

/// The file has no valid MeshInstallation.
#[derive(Debug, thiserror::Error)]
pub enum ReadManifestError {
    /// The file can't be read.
    #[error("can't read {}", display_path(.path))]
    Open {
        /// Path of the file.
        path: PathBuf,
        /// The underlying error.
        #[source]
        source: io::Error,
    },
    /// The file isn't valid YAML.
    #[error("{} is not valid YAML: {problem}", display_path(.path))]
    Yaml {
        /// Path of the file.
        path: PathBuf,
        /// The error with its position.
        problem: String,
    },
    /// The file doesn't have exactly one document.
    #[error("{} has {count} documents; expected one {KIND}", display_path(.path))]
    Documents {
        /// Path of the file.
        path: PathBuf,
        /// Number of documents.
        count: usize,
    },
    /// The document has another kind.
    #[error("{} has {found}; expected {KIND} of {API_VERSION}", display_path(.path))]
    Kind {
        /// Path of the file.
        path: PathBuf,
        /// The kind that was found.
        found: String,
    },
    /// The API server would reject the MeshInstallation.
    #[error("the API server would reject {}:\n  {}", display_path(.path), .problems.join("\n  "))]
    Invalid {
        /// Path of the file.
        path: PathBuf,
        /// The validation errors.
        problems: Vec<String>,
    },
    /// The file isn't valid as `spec.values`.
    #[error("{} is not valid as spec.values:\n  {}", display_path(.path), .problems.join("\n  "))]
    Values {
        /// Path of the file.
        path: PathBuf,
        /// The validation errors.
        problems: Vec<String>,
    },
    /// The document matches the schema, but can't be deserialized.
    #[error("can't read the MeshInstallation in {}", display_path(.path))]
    Types {
        /// Path of the file.
        path: PathBuf,
        /// The underlying error.
        #[source]
        source: serde_json::Error,
    },
}

fn display_path(path: &Path) -> std::borrow::Cow<'_, str> {
    if path == Path::new(STDIN) { "standard input".into() } else { path.to_string_lossy() }
}

/// Reads the MeshInstallation of a file, or of standard input if the path is `-`.
pub(super) fn read(path: &Path) -> Result<MeshInstallation, ReadManifestError> {
    parse(&text_of(path)?, path)
}

/// Reads and validates a file in the format of `spec.values`.
pub(super) fn read_values(path: &Path) -> Result<ChartValues, ReadManifestError> {
    values(&text_of(path)?, path)
}

fn values(text: &str, path: &Path) -> Result<ChartValues, ReadManifestError> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
    let values: Option<Value> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| yaml_error(&error, path))?;
    let spec = json!({"version": "1.31", "values": values.unwrap_or_else(|| json!({}))});
    let object = json!({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "values"}, "spec": spec});
    match parse(&object.to_string(), path) {
        Ok(mesh) => Ok(mesh.spec.values),
        Err(ReadManifestError::Invalid { path, problems }) => Err(ReadManifestError::Values { path, problems }),
        Err(error) => Err(error),
    }
}

fn yaml_error(error: &serde_saphyr::Error, path: &Path) -> ReadManifestError {
    // The library's default messages are for developers.
    let problem = error.render_with_formatter(&UserMessageFormatter);
    ReadManifestError::Yaml { path: path.to_owned(), problem }
}

fn text_of(path: &Path) -> Result<String, ReadManifestError> {
    let text = if path == Path::new(STDIN) {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(path)
    };
    text.map_err(|source| ReadManifestError::Open { path: path.to_owned(), source })
}

/// Parses a MeshInstallation; `path` is for messages.
pub(super) fn parse(text: &str, path: &Path) -> Result<MeshInstallation, ReadManifestError> {
    let path = || path.to_owned();
    let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
    let documents = serde_saphyr::from_multiple_with_options(text, options);
    let documents: Vec<Value> = documents.map_err(|error| yaml_error(&error, &path()))?;
    let mut documents: Vec<Value> = documents.into_iter().filter(|document| !document.is_null()).collect();
    let count = documents.len();
    let (Some(mut object), 1) = (documents.pop(), count) else {
        return Err(ReadManifestError::Documents { path: path(), count });
    };
    let string_field = |field: &str| object.get(field).and_then(Value::as_str);
    let found = match (string_field("apiVersion"), string_field("kind")) {
        (Some(API_VERSION), Some(KIND)) => None,
        (Some(version), Some(kind)) => Some(format!("{kind} of {version}")),
        (None, Some(kind)) => Some(format!("{kind} without apiVersion")),
        (_, None) => Some("a document without kind".to_owned()),
    };
    if let Some(found) = found {
        return Err(ReadManifestError::Kind { path: path(), found });
    }
    // Accept the output of `kubectl get`; status doesn't matter.
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    let problems = problems(&object);
    if !problems.is_empty() {
        return Err(ReadManifestError::Invalid { path: path(), problems });
    }
    serde_json::from_value(object).map_err(|source| ReadManifestError::Types { path: path(), source })
}

/// Validates like the API server: the schema with unknown fields rejected, then the CEL rules.
fn problems(object: &Value) -> Vec<String> {
    let schema = schema();
    let mut problems = metadata_problems(object.get("metadata").unwrap_or(&Value::Null));
    let spec = object.get("spec");
    match (spec, Schema::parse(&closed(schema.clone()).to_string())) {
        (None, _) => problems.push("spec: is required".into()),
        (Some(spec), Ok(schema)) => problems.extend(schema.problems(&json!({"spec": spec}))),
        (_, Err(problem)) => problems.push(problem),
    }
    for (field, _) in object.as_object().into_iter().flatten() {
        if !matches!(field.as_str(), "apiVersion" | "kind" | "metadata" | "spec") {
            problems.push(format!("{field}: unknown field; known fields are apiVersion, kind, metadata, spec"));
        }
    }
    repeated_keys(&schema, object, "", &mut problems);
    // The rules assume that fields have the right types.
    if problems.is_empty()
        && let Err(errors) = Validator::new().validate(&schema, object, None)
    {
        problems.extend(errors.into_vec().into_iter().map(broken_rule));
    }
    problems
}

/// Validates an update like the API server: CEL rules about immutable fields.
pub(super) fn update_errors(old: &MeshInstallation, new: &MeshInstallation) -> Vec<String> {
    let value = |installation: &MeshInstallation| {
        let mut value = serde_json::to_value(installation).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            fields.remove("status");
        }
        value
    };
    match Validator::new().validate(&schema(), &value(new), Some(&value(old))) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.into_vec().into_iter().map(broken_rule).collect(),
    }
}

fn broken_rule(error: ValidationError) -> String {
    match error.field_path.as_str() {
        "" => error.message,
        path => format!("{path}: {}", error.message),
    }
}

fn schema() -> Value {
    let crd = meshwright_api::crd();
    let schema = crd.spec.versions.into_iter().next().and_then(|version| version.schema?.open_api_v3_schema);
    // Serialization can't fail; an empty schema would reject everything, which tests would detect.
    serde_json::to_value(schema).unwrap_or_default()
}

/// The schema with unknown fields rejected, as in `kubectl apply` with strict validation; free-form objects stay open.
pub(super) fn closed(mut schema: Value) -> Value {
    close(&mut schema);
    schema
}

fn close(schema: &mut Value) {
    let Value::Object(words) = schema else { return };
    let free = words.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    if words.contains_key("properties") && !free {
        words.entry("additionalProperties").or_insert(Value::Bool(false));
    }
    if let Some(Value::Object(properties)) = words.get_mut("properties") {
        properties.values_mut().for_each(close);
    }
    for string_field in ["items", "additionalProperties"] {
        words.get_mut(string_field).into_iter().for_each(close);
    }
}

fn metadata_problems(metadata: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    match metadata.get("name").and_then(Value::as_str) {
        None => problems.push("metadata.name: is required".into()),
        Some(name) if !is_dns_name(name) => problems.push(format!(
            "metadata.name: {name:?} must consist of lower-case letters, digits, '-' and '.', and start and end with a \
             letter or digit"
        )),
        Some(_) => {}
    }
    let parsed: Result<kube::core::ObjectMeta, _> = serde_json::from_value(metadata.clone());
    let known = match parsed.and_then(serde_json::to_value) {
        Ok(known) => known,
        Err(error) => {
            problems.push(format!("metadata: {error}"));
            return problems;
        }
    };
    let unknown = |(field, value): &(&String, &Value)| !value.is_null() && known.get(field.as_str()).is_none();
    let fields = metadata.as_object().into_iter().flat_map(Map::iter).filter(unknown);
    problems.extend(fields.map(|(field, _)| format!("metadata.{field}: unknown field")));
    problems
}

/// Reports duplicate keys in lists of type map, which JSON schema can't express.
fn repeated_keys(schema: &Value, value: &Value, path: &str, problems: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                let schema = schema.pointer("/properties").and_then(|p| p.get(name)).unwrap_or(&Value::Null);
                let path_of_field = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                repeated_keys(schema, inner, &path_of_field, problems);
            }
        }
        Value::Array(items) => {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
            let key = |item: &Value| -> Option<Vec<Value>> {
                Some(
                    keys?
                        .iter()
                        .filter_map(Value::as_str)
                        .map(|key| item.get(key).cloned().unwrap_or_default())
                        .collect(),
                )
            };
            for (index, item) in items.iter().enumerate() {
                let earlier = items.iter().take(index).position(|other| key(item).is_some() && key(other) == key(item));
                if let Some(earlier) = earlier {
                    problems.push(format!("{path}[{index}]: has the same key as {path}[{earlier}]"));
                }
                let inner = schema.get("items").unwrap_or(&Value::Null);
                repeated_keys(inner, item, &format!("{path}[{index}]"), problems);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
