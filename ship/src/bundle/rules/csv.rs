//! Rules for the `ClusterServiceVersion`: names, versions, examples.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::{Bundle, is_true, list, text, texts};
use super::{Rule, RuleOrigin, violation_unless};

pub(super) const RULES: &[Rule] = &[
    Rule::error("csv-fields", RuleOrigin::Framework, fields),
    Rule::error("csv-name", RuleOrigin::Framework, name),
    Rule::warning("csv-name-has-version", RuleOrigin::Framework, name_has_version),
    Rule::error("csv-replaces", RuleOrigin::Community, replaces),
    Rule::error("csv-version", RuleOrigin::Framework, version),
    Rule::error("install-modes", RuleOrigin::Framework, install_modes),
    Rule::error("min-kube-version", RuleOrigin::Framework, min_kube_version),
    Rule::error("examples-are-json", RuleOrigin::Framework, examples_are_json),
    Rule::error("examples-have-owned-kinds", RuleOrigin::Framework, examples_have_owned_kinds),
    Rule::warning("owned-kinds-have-examples", RuleOrigin::Framework, owned_have_examples),
    Rule::error("annotation-case", RuleOrigin::Framework, annotation_case),
    Rule::warning("no-properties-annotation", RuleOrigin::Framework, no_properties),
];

/// Checks the required fields.
fn fields(bundle: &Bundle) -> Vec<String> {
    let required = [
        "/apiVersion",
        "/kind",
        "/metadata",
        "/spec/displayName",
        "/spec/install/strategy",
        "/spec/install/spec/deployments",
    ];
    let csv = bundle.csv();
    let absent = |path: &&str| match csv.pointer(path) {
        None | Some(Value::Null) => true,
        Some(Value::String(value)) => value.is_empty(),
        Some(Value::Array(value)) => value.is_empty(),
        Some(_) => false,
    };
    required.iter().filter(|path| absent(path)).map(|path| format!("the ClusterServiceVersion lacks {path}")).collect()
}

/// The name is used as a label value.
fn name(bundle: &Bundle) -> Vec<String> {
    let name = text(bundle.csv(), "/metadata/name");
    violation_unless(is_label(name), || format!("the name {name:?} must be a DNS name of at most 63 characters"))
}

/// Whether a string is both a DNS-1123 subdomain and a label value.
fn is_label(name: &str) -> bool {
    let part = |part: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !part.is_empty() && part.chars().all(inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    name.len() <= 63 && name.split('.').all(part)
}

/// The name must have package and version, as in `meshwright.v0.1.0`.
fn name_has_version(bundle: &Bundle) -> Vec<String> {
    let csv = bundle.csv();
    let (name, version) = (text(csv, "/metadata/name"), text(csv, "/spec/version"));
    let package = bundle.annotation(super::super::PACKAGE).unwrap_or_default();
    violation_unless(name == format!("{package}.v{version}"), || {
        format!("the name is {name:?}, not {package}.v{version}")
    })
}

/// `replaces` must be another version with a valid name.
fn replaces(bundle: &Bundle) -> Vec<String> {
    let csv = bundle.csv();
    let Some(replaced) = csv.pointer("/spec/replaces").and_then(Value::as_str) else { return Vec::new() };
    violation_unless(is_label(replaced) && replaced != text(csv, "/metadata/name"), || {
        format!("spec.replaces {replaced:?} is its own name or not a valid name")
    })
}

fn version(bundle: &Bundle) -> Vec<String> {
    let version = text(bundle.csv(), "/spec/version");
    violation_unless(
        semver::Version::parse(version).is_ok_and(|version| version > semver::Version::new(0, 0, 0)),
        || format!("the version {version:?} must be a semantic version above 0.0.0"),
    )
}

/// At least one mode must be supported, and none listed twice.
fn install_modes(bundle: &Bundle) -> Vec<String> {
    let modes = list(bundle.csv(), "/spec/installModes");
    let names: BTreeSet<&str> = modes.iter().map(|mode| text(mode, "/type")).collect();
    let mut wrong = violation_unless(modes.iter().any(|mode| is_true(mode, "/supported")), || {
        "no install mode is supported".into()
    });
    wrong.extend(violation_unless(names.len() == modes.len(), || "an install mode is listed twice".into()));
    wrong
}

fn min_kube_version(bundle: &Bundle) -> Vec<String> {
    let version = text(bundle.csv(), "/spec/minKubeVersion");
    violation_unless(semver::Version::parse(version).is_ok(), || {
        format!("minKubeVersion {version:?} must have the form 1.33.0")
    })
}

/// Returns the examples; empty if they can't be parsed.
pub(super) fn examples(bundle: &Bundle) -> Vec<Value> {
    let text = bundle.csv_annotation("alm-examples").unwrap_or_default();
    serde_json::from_str(text).unwrap_or_default()
}

fn examples_are_json(bundle: &Bundle) -> Vec<String> {
    let text = bundle.csv_annotation("alm-examples").unwrap_or_default();
    match serde_json::from_str::<Vec<Value>>(text) {
        Ok(_) => Vec::new(),
        Err(error) => vec![format!("alm-examples is not a JSON list: {error}")],
    }
}

/// Returns the owned kinds with their versions, such as `meshwright.dev/v1alpha1/MeshInstallation`.
fn owned_kinds(bundle: &Bundle) -> BTreeSet<String> {
    let kind = |crd: &Value| {
        let (_, group) = text(crd, "/name").split_once('.')?;
        Some(format!("{group}/{}/{}", text(crd, "/version"), text(crd, "/kind")))
    };
    bundle.owned().iter().filter_map(kind).collect()
}

fn example_kinds(bundle: &Bundle) -> BTreeSet<String> {
    examples(bundle).iter().map(|it| format!("{}/{}", text(it, "/apiVersion"), text(it, "/kind"))).collect()
}

fn examples_have_owned_kinds(bundle: &Bundle) -> Vec<String> {
    let unowned = &example_kinds(bundle) - &owned_kinds(bundle);
    unowned.iter().map(|kind| format!("alm-examples has {kind}, which the operator doesn't own")).collect()
}

fn owned_have_examples(bundle: &Bundle) -> Vec<String> {
    let without_example = &owned_kinds(bundle) - &example_kinds(bundle);
    without_example.iter().map(|kind| format!("alm-examples has no {kind}")).collect()
}

/// OLM's annotations are case-sensitive.
fn annotation_case(bundle: &Bundle) -> Vec<String> {
    const KNOWN: [&str; 5] =
        ["olm.operatorGroup", "olm.operatorNamespace", "olm.targetNamespaces", "olm.providedAPIs", "olm.skipRange"];
    let annotations = bundle.csv().pointer("/metadata/annotations").and_then(Value::as_object);
    let names = annotations.into_iter().flat_map(|annotations| annotations.keys());
    names
        .filter_map(|name| {
            let known = KNOWN.iter().find(|known| known.eq_ignore_ascii_case(name) && **known != name.as_str())?;
            Some(format!("the annotation {name} must be written {known}"))
        })
        .collect()
}

fn no_properties(bundle: &Bundle) -> Vec<String> {
    violation_unless(bundle.csv_annotation("olm.properties").is_none(), || {
        "properties belong in metadata/properties.yaml, not in an annotation".into()
    })
}

/// Returns the supported install modes.
pub(super) fn supported_modes(bundle: &Bundle) -> Vec<&str> {
    let modes = list(bundle.csv(), "/spec/installModes").iter();
    modes.filter(|mode| is_true(mode, "/supported")).map(|mode| text(mode, "/type")).collect()
}

/// Returns all images of the Deployments.
pub(super) fn images(bundle: &Bundle) -> BTreeSet<&str> {
    bundle.containers().map(|container| text(container, "/image")).collect()
}

/// Whether the value is a list of non-empty strings.
pub(super) fn is_list_of_strings(value: &Value, pointer: &str) -> bool {
    let all = list(value, pointer);
    !all.is_empty() && texts(value, pointer).filter(|text| !text.trim().is_empty()).count() == all.len()
}
