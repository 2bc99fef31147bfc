//! Tests of the CRD, its rules and the samples. They only read files of the repository.

mod crd;
mod gateway_values;
mod rules;
mod samples;

use kube::{api::ObjectMeta, core::cel::Validator};
use serde_json::{Value, json};

use crate::{MeshInstallation, crd as final_crd};

/// The schema of the installed CRD.
fn schema() -> Value {
    let crd = final_crd();
    serde_json::to_value(crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap()).unwrap()
}

/// Parses YAML as kubectl does.
fn yaml(text: &str) -> Value {
    serde_saphyr::from_str_with_options(text, serde_saphyr::options! { legacy_octal_numbers: true }).unwrap()
}

/// Returns an installation with a default for the version. Deserializing it sets defaults as the API server does.
fn installation(name: &str, spec: &str) -> MeshInstallation {
    let mut spec = if spec.is_empty() { json!({}) } else { yaml(spec) };
    spec.as_object_mut().unwrap().entry("version").or_insert_with(|| json!("1.31"));
    MeshInstallation {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        spec: serde_json::from_value(spec).unwrap(),
        status: None,
    }
}

/// Returns the messages of the rules that a new object, or the update of an old one, violates.
fn violations(new: &MeshInstallation, old: Option<&MeshInstallation>) -> Vec<String> {
    let new = serde_json::to_value(new).unwrap();
    let old = old.map(|old| serde_json::to_value(old).unwrap());
    match Validator::new().validate(&schema(), &new, old.as_ref()) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.into_vec().into_iter().map(|error| error.message).collect(),
    }
}
