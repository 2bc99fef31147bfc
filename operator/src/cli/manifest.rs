//! Reading a MeshInstallation from a file as the API server would take it: strictly, and with all that is wrong at once.

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
/// The path that stands for standard input.
const STDIN: &str = "-";

/// A file has no MeshInstallation that could be installed.
#[derive(Debug, thiserror::Error)]
pub enum ReadManifestError {
    /// The file can't be read.
    #[error("can't read {}", shown(.path))]
    Open {
        /// Which.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// It is no YAML.
    #[error("{} is no YAML: {problem}", shown(.path))]
    Yaml {
        /// Which.
        path: PathBuf,
        /// Why not, and where.
        problem: String,
    },
    /// One is wanted.
    #[error("{} has {count} documents; give exactly one, a {KIND}", shown(.path))]
    Documents {
        /// Which.
        path: PathBuf,
        /// How many there are.
        count: usize,
    },
    /// It is of another kind.
    #[error("{} has {found}, not a {KIND} of {API_VERSION}", shown(.path))]
    Kind {
        /// Which.
        path: PathBuf,
        /// What it has instead.
        found: String,
    },
    /// The API server would refuse it.
    #[error("the API server would refuse {}:\n  {}", shown(.path), .problems.join("\n  "))]
    Refused {
        /// Which.
        path: PathBuf,
        /// Why.
        problems: Vec<String>,
    },
    /// It has what can't stand in `spec.values`.
    #[error("{} is not what spec.values may hold:\n  {}", shown(.path), .problems.join("\n  "))]
    Values {
        /// Which.
        path: PathBuf,
        /// Why.
        problems: Vec<String>,
    },
    /// It fits the schema, but not the types that the schema was made from.
    #[error("{} can't be understood", shown(.path))]
    Types {
        /// Which.
        path: PathBuf,
        /// Cause.
        #[source]
        source: serde_json::Error,
    },
}

fn shown(path: &Path) -> std::borrow::Cow<'_, str> {
    if path == Path::new(STDIN) { "standard input".into() } else { path.to_string_lossy() }
}

/// Reads the one MeshInstallation of a file, or of standard input if the file is `-`.
pub(super) fn read(path: &Path) -> Result<MeshInstallation, ReadManifestError> {
    parse(&text_of(path)?, path)
}

/// Reads a file that holds what `spec.values` may hold, as strictly as if it stood there.
pub(super) fn read_values(path: &Path) -> Result<ChartValues, ReadManifestError> {
    values(&text_of(path)?, path)
}

fn values(text: &str, path: &Path) -> Result<ChartValues, ReadManifestError> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
    let values: Option<Value> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| no_yaml(&error, path))?;
    let spec = json!({"version": "1.31", "values": values.unwrap_or_else(|| json!({}))});
    let around = json!({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "values"}, "spec": spec});
    match parse(&around.to_string(), path) {
        Ok(mesh) => Ok(mesh.spec.values),
        Err(ReadManifestError::Refused { path, problems }) => Err(ReadManifestError::Values { path, problems }),
        Err(error) => Err(error),
    }
}

fn no_yaml(error: &serde_saphyr::Error, path: &Path) -> ReadManifestError {
    // What the library says by itself is for those who program with it.
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

/// Reads the one MeshInstallation of a text; `path` is where it is from.
pub(super) fn parse(text: &str, path: &Path) -> Result<MeshInstallation, ReadManifestError> {
    let path = || path.to_owned();
    let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
    let documents = serde_saphyr::from_multiple_with_options(text, options);
    let documents: Vec<Value> = documents.map_err(|error| no_yaml(&error, &path()))?;
    let mut documents: Vec<Value> = documents.into_iter().filter(|document| !document.is_null()).collect();
    let count = documents.len();
    let (Some(mut object), 1) = (documents.pop(), count) else {
        return Err(ReadManifestError::Documents { path: path(), count });
    };
    let word = |field: &str| object.get(field).and_then(Value::as_str);
    let found = match (word("apiVersion"), word("kind")) {
        (Some(API_VERSION), Some(KIND)) => None,
        (Some(version), Some(kind)) => Some(format!("a {kind} of {version}")),
        (None, Some(kind)) => Some(format!("a {kind} without apiVersion")),
        (_, None) => Some("something without kind".to_owned()),
    };
    if let Some(found) = found {
        return Err(ReadManifestError::Kind { path: path(), found });
    }
    // What `kubectl get` prints may be read back; the state in it says nothing of what is wanted.
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    let problems = problems(&object);
    if !problems.is_empty() {
        return Err(ReadManifestError::Refused { path: path(), problems });
    }
    serde_json::from_value(object).map_err(|source| ReadManifestError::Types { path: path(), source })
}

/// What the API server would say: to the schema with unknown fields refused, then to the rules.
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
            problems.push(format!("{field}: unknown; known here are apiVersion, kind, metadata, spec"));
        }
    }
    repeated_keys(&schema, object, "", &mut problems);
    // Rules take it for granted that fields have their types.
    if problems.is_empty()
        && let Err(errors) = Validator::new().validate(&schema, object, None)
    {
        problems.extend(errors.into_vec().into_iter().map(broken_rule));
    }
    problems
}

/// What the API server would say of a change from one installation to another: rules about what can't be changed later.
pub(super) fn refused_change(old: &MeshInstallation, new: &MeshInstallation) -> Vec<String> {
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
    // Its own type serializes; without a schema everything would be refused, which a test would see.
    serde_json::to_value(schema).unwrap_or_default()
}

/// The schema with every object closed that isn't free-form: the API server drops unknown fields, or refuses them when
/// it is asked to be strict, as `kubectl apply` asks.
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
    for word in ["items", "additionalProperties"] {
        words.get_mut(word).into_iter().for_each(close);
    }
}

fn metadata_problems(metadata: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    match metadata.get("name").and_then(Value::as_str) {
        None => problems.push("metadata.name: is required".into()),
        Some(name) if !is_dns_name(name) => problems.push(format!(
            "metadata.name: {name:?} must be lower-case letters, digits, '-' and '.', beginning and ending with a \
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
    problems.extend(fields.map(|(field, _)| format!("metadata.{field}: unknown")));
    problems
}

/// Two entries with one key in a list that is a map by it, which no JSON schema can say.
fn repeated_keys(schema: &Value, value: &Value, path: &str, problems: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                let schema = schema.pointer("/properties").and_then(|p| p.get(name)).unwrap_or(&Value::Null);
                let place = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                repeated_keys(schema, inner, &place, problems);
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
