//! The `CustomResourceDefinition` in the form that is committed and installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use serde_json::{Number, Value, json};

use crate::MeshInstallation;

/// Why the CRD could not be written as YAML.
#[derive(Debug, thiserror::Error)]
pub enum CrdYamlError {
    /// The CRD's types could not be turned into plain data.
    #[error("serializing the MeshInstallation CRD")]
    Serialize(#[source] serde_json::Error),
    /// The data could not be written as YAML.
    #[error("writing the MeshInstallation CRD as YAML")]
    Write(#[source] serde_saphyr::ser::Error),
}

/// The CRD as the operator wants it in a cluster.
///
/// It differs from the derived one: optional fields aren't nullable (the API server then drops an
/// explicit null and fills in the default, where a nullable field would keep the null), status
/// starts with an observedGeneration of -1, so that tools see an object which the operator hasn't
/// looked at yet, and Kubernetes' own types inside are documented by name rather than at length.
#[must_use]
pub fn crd() -> CustomResourceDefinition {
    let mut crd = MeshInstallation::crd();
    for version in &mut crd.spec.versions {
        let Some(root) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) else {
            continue;
        };
        refine(root);
        if let Some(status) = property(root, "status") {
            status.default = Some(JSON(json!({ "observedGeneration": -1 })));
        }
    }
    crd
}

/// Tells a reader of the committed file where to change it.
const HEADER: &str = "# Generated from the types in api/src; don't edit. To renew: make generate\n";

/// [`crd`] as one YAML document, the same bytes each time.
pub fn crd_yaml() -> Result<String, CrdYamlError> {
    let mut value = serde_json::to_value(crd()).map_err(CrdYamlError::Serialize)?;
    whole_numbers(&mut value);
    let body = serde_saphyr::to_string(&value).map_err(CrdYamlError::Write)?;
    Ok(format!("{HEADER}{body}"))
}

fn property<'a>(schema: &'a mut JSONSchemaProps, name: &str) -> Option<&'a mut JSONSchemaProps> {
    schema.properties.as_mut()?.get_mut(name)
}

/// Applies what [`crd`] says to a schema and everything below it.
fn refine(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    // A title repeats the type's name at the root and is nowhere else.
    schema.title = None;
    unwrap_description(schema);
    for child in children(schema) {
        refine(child);
    }
    for (name, child) in schema.properties.iter_mut().flatten() {
        if matches!(name.as_str(), "affinity" | "tolerations" | "neverInjectSelector" | "alwaysInjectSelector") {
            children(child).for_each(strip_descriptions);
        }
    }
}

/// Doc comments are wrapped for the source; `kubectl explain` wraps for the terminal.
fn unwrap_description(schema: &mut JSONSchemaProps) {
    if let Some(description) = &mut schema.description {
        *description = description.replace('\n', " ");
    }
}

/// Kubernetes' own texts would be most of the CRD, and `kubectl explain pod.spec` has them.
fn strip_descriptions(schema: &mut JSONSchemaProps) {
    schema.description = None;
    children(schema).for_each(strip_descriptions);
}

fn children(schema: &mut JSONSchemaProps) -> impl Iterator<Item = &mut JSONSchemaProps> {
    let items = schema.items.as_mut().map(|items| match items {
        JSONSchemaPropsOrArray::Schema(one) => std::slice::from_mut(one.as_mut()),
        JSONSchemaPropsOrArray::Schemas(many) => many.as_mut_slice(),
    });
    let additional = match &mut schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(one)) => Some(one.as_mut()),
        Some(JSONSchemaPropsOrBool::Bool(_)) | None => None,
    };
    schema
        .properties
        .iter_mut()
        .flat_map(|properties| properties.values_mut())
        .chain(items.into_iter().flatten())
        .chain(additional)
}

/// The typed schema holds bounds as floats; people write and read `minimum: 1`, not `1.0`.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(whole) = as_whole(number) {
                *number = whole;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

fn as_whole(number: &Number) -> Option<Number> {
    let text = number.to_string();
    text.strip_suffix(".0")?.parse::<i64>().ok().map(Number::from)
}
