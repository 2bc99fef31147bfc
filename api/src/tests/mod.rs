//! Tests of the CRD, of each of its rules, and of the samples. They read files of the repository
//! and nothing else.

mod crd;
mod rules;
mod samples;

use kube::{api::ObjectMeta, core::cel::Validator};
use serde_json::{Value, json};

use crate::{MeshInstallation, crd as final_crd};

/// The schema as the API server gets it, so that the rules that are tested are the installed ones.
fn schema() -> Value {
    let crd = final_crd();
    serde_json::to_value(crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap()).unwrap()
}

/// YAML as a user would write it.
fn yaml(text: &str) -> Value {
    serde_saphyr::from_str_with_options(text, serde_saphyr::options! { legacy_octal_numbers: true }).unwrap()
}

/// An installation of that name and spec; the version is filled in if the spec has none. It goes
/// through the types, which fill in defaults as the API server does.
fn installation(name: &str, spec: &str) -> MeshInstallation {
    let mut spec = if spec.is_empty() { json!({}) } else { yaml(spec) };
    spec.as_object_mut().unwrap().entry("version").or_insert_with(|| json!("1.31"));
    MeshInstallation {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        spec: serde_json::from_value(spec).unwrap(),
        status: None,
    }
}

/// What the API server would say to a new object, or to the change from an old one.
fn complaints(new: &MeshInstallation, old: Option<&MeshInstallation>) -> Vec<String> {
    let new = serde_json::to_value(new).unwrap();
    let old = old.map(|old| serde_json::to_value(old).unwrap());
    match Validator::new().validate(&schema(), &new, old.as_ref()) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.into_vec().into_iter().map(|error| error.message).collect(),
    }
}
