//! Generation of the `MeshInstallation` CRD.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use serde_json::{Number, Value, json};

use crate::MeshInstallation;

/// The CRD could not be serialized as YAML.
#[derive(Debug, thiserror::Error)]
pub enum CrdYamlError {
    /// Converting the CRD to JSON values failed.
    #[error("can't serialize the MeshInstallation CRD")]
    Serialize(#[source] serde_json::Error),
    /// Formatting the JSON values as YAML failed.
    #[error("can't write the MeshInstallation CRD as YAML")]
    Write(#[source] serde_saphyr::ser::Error),
}

/// Returns the CRD as it is installed in a cluster.
///
/// It differs from the derived CRD in three ways. Optional fields are not nullable, so that the API server drops an
/// explicit null and applies the default. The default of status has an observedGeneration of -1, by which tools
/// recognize an object that has not been reconciled yet. The schemas of embedded Kubernetes types have no
/// descriptions.
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

/// First line of the committed file.
const HEADER: &str = "# Generated from the types in api/src; don't edit. To renew: make generate\n";

/// Serializes [`crd`] as a YAML document. The output is deterministic.
pub fn crd_yaml() -> Result<String, CrdYamlError> {
    let mut value = serde_json::to_value(crd()).map_err(CrdYamlError::Serialize)?;
    whole_numbers(&mut value);
    let body = serde_saphyr::to_string(&value).map_err(CrdYamlError::Write)?;
    Ok(format!("{HEADER}{body}"))
}

fn property<'a>(schema: &'a mut JSONSchemaProps, name: &str) -> Option<&'a mut JSONSchemaProps> {
    schema.properties.as_mut()?.get_mut(name)
}

/// Adjusts a schema and its subschemas as documented at [`crd`].
fn refine(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    // Only the root has a title, which repeats the type's name.
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

/// Removes the line breaks of doc comments, because `kubectl explain` wraps descriptions itself.
fn unwrap_description(schema: &mut JSONSchemaProps) {
    if let Some(description) = &mut schema.description {
        *description = description.replace('\n', " ");
    }
}

/// Removes the descriptions of embedded Kubernetes types, which would be most of the CRD. `kubectl explain pod.spec`
/// shows them.
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

/// Converts bounds from floats to integers: the typed schema serializes `minimum: 1` as `1.0`.
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
