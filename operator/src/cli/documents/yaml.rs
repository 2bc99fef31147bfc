//! Tests that MeshInstallations and fragments of them in documents are valid.

use std::path::Path;

use semver::Version;
use serde_json::{Value, json};

use super::super::manifest;
use super::documents;
use super::markdown::Document;
use crate::catalog::Profile;
use crate::mesh::object::Owner;
use crate::mesh::problem::sentence;
use crate::mesh::validate::validate;
use crate::platform::{GENERIC, Platforms};

/// The validation error of a YAML document that is a MeshInstallation or a fragment of one.
fn fragment_error(value: &Value) -> Option<String> {
    let fields = value.as_object()?;
    let object = if fields.get("kind").is_some_and(|kind| kind == "MeshInstallation") {
        value.clone()
    } else if fields.keys().eq(["spec"]) {
        let mut spec = json!({"version": "1.31"});
        spec.as_object_mut()?.extend(fields.get("spec")?.as_object()?.clone());
        json!({
            "apiVersion": "meshwright.dev/v1alpha1", "kind": "MeshInstallation", "metadata": {"name": "mesh"}, "spec": spec,
        })
    } else {
        return None;
    };
    validation_error(&object)
}

/// The error with which the API server or the operator would reject a MeshInstallation.
pub(in crate::cli) fn validation_error(object: &Value) -> Option<String> {
    let read = manifest::parse(&object.to_string(), Path::new("it"));
    let spec = match read {
        Ok(installation) => installation.spec,
        Err(error) => return Some(error.to_string()),
    };
    let platforms = Platforms::bundled().unwrap();
    let platform = if spec.platform.is_auto() { GENERIC } else { spec.platform.as_str() };
    let profile = Profile::get(spec.profile).unwrap();
    let owner = Owner { installation: "mesh".into(), uid: String::new(), release: Version::new(1, 31, 2) };
    let validated = validate(&spec, owner, &profile, platforms.get(platform).unwrap());
    validated.err().map(|problems| sentence(&problems))
}

fn document_problems(document: &Document) -> Vec<String> {
    let mut found = Vec::new();
    for block in document.blocks.iter().filter(|block| block.info == "yaml") {
        let at = |what: String| format!("{}:{}: {what}", document.path, block.line);
        // Documents abbreviate digests.
        let text = block.text.replace("sha256:...", &format!("sha256:{}", "0".repeat(64)));
        let read: Result<Vec<Value>, _> = serde_saphyr::from_multiple(&text);
        match read {
            Ok(values) => found.extend(values.iter().filter_map(fragment_error).map(at)),
            Err(error) => found.push(at(error.to_string())),
        }
    }
    found
}

#[test]
fn mesh_installations_in_documents_are_valid() {
    let found: Vec<String> = documents().iter().flat_map(document_problems).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn reports_unknown_fields() {
    let of = |text: &str| document_problems(&Document::parse("x.md", &format!("```yaml\n{text}\n```\n"))).len();
    assert_eq!((of("spec: {paused: true}"), of("other: {pausd: true}")), (0, 0));
    assert_eq!((of("spec: {pausd: true}"), of("a: b: c")), (1, 1));
    assert_eq!(of("apiVersion: meshwright.dev/v1alpha1\nkind: MeshInstallation\nmetadata: {name: a}"), 1);
}
