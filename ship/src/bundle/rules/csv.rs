//! The `ClusterServiceVersion` by itself: names, versions, examples.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::{Bundle, is_true, list, text, texts};
use super::{Origin, Rule, unless};

pub(super) const RULES: &[Rule] = &[
    Rule::error("csv-fields", Origin::Framework, fields),
    Rule::error("csv-name", Origin::Framework, name),
    Rule::warning("csv-name-has-version", Origin::Framework, name_has_version),
    Rule::error("csv-replaces", Origin::Community, replaces),
    Rule::error("csv-version", Origin::Framework, version),
    Rule::error("install-modes", Origin::Framework, install_modes),
    Rule::error("min-kube-version", Origin::Framework, min_kube_version),
    Rule::error("examples-are-json", Origin::Framework, examples_are_json),
    Rule::error("examples-are-of-owned-kinds", Origin::Framework, examples_are_owned),
    Rule::warning("owned-kinds-have-examples", Origin::Framework, owned_have_examples),
    Rule::error("annotation-case", Origin::Framework, annotation_case),
    Rule::warning("no-properties-annotation", Origin::Framework, no_properties),
];

/// Fields without which a `ClusterServiceVersion` is none.
fn fields(bundle: &Bundle) -> Vec<String> {
    let needed = [
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
    needed.iter().filter(|path| absent(path)).map(|path| format!("the ClusterServiceVersion lacks {path}")).collect()
}

/// The name becomes a label's value.
fn name(bundle: &Bundle) -> Vec<String> {
    let name = text(bundle.csv(), "/metadata/name");
    unless(is_label(name), || format!("the name {name:?} is no DNS name of at most 63 characters"))
}

/// Whether a text is both a DNS-1123 subdomain and a label's value.
fn is_label(name: &str) -> bool {
    let part = |part: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !part.is_empty() && part.chars().all(inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    name.len() <= 63 && name.split('.').all(part)
}

/// Package and version, as in `meshwright.v0.1.0`.
fn name_has_version(bundle: &Bundle) -> Vec<String> {
    let csv = bundle.csv();
    let (name, version) = (text(csv, "/metadata/name"), text(csv, "/spec/version"));
    let package = bundle.annotation(super::super::PACKAGE).unwrap_or_default();
    unless(name == format!("{package}.v{version}"), || {
        format!("the name is {name:?} and not package and version, {package}.v{version}")
    })
}

/// Another version, by a good name.
fn replaces(bundle: &Bundle) -> Vec<String> {
    let csv = bundle.csv();
    let Some(replaced) = csv.pointer("/spec/replaces").and_then(Value::as_str) else { return Vec::new() };
    unless(is_label(replaced) && replaced != text(csv, "/metadata/name"), || {
        format!("it replaces {replaced:?}, which is itself or no name")
    })
}

fn version(bundle: &Bundle) -> Vec<String> {
    let version = text(bundle.csv(), "/spec/version");
    unless(semver::Version::parse(version).is_ok_and(|version| version > semver::Version::new(0, 0, 0)), || {
        format!("the version {version:?} is not semantic, or 0.0.0")
    })
}

/// At least one that is supported, each once.
fn install_modes(bundle: &Bundle) -> Vec<String> {
    let modes = list(bundle.csv(), "/spec/installModes");
    let names: BTreeSet<&str> = modes.iter().map(|mode| text(mode, "/type")).collect();
    let mut wrong =
        unless(modes.iter().any(|mode| is_true(mode, "/supported")), || "no install mode is supported".into());
    wrong.extend(unless(names.len() == modes.len(), || "an install mode is there twice".into()));
    wrong
}

fn min_kube_version(bundle: &Bundle) -> Vec<String> {
    let version = text(bundle.csv(), "/spec/minKubeVersion");
    unless(semver::Version::parse(version).is_ok(), || format!("minKubeVersion {version:?} is not as in 1.33.0"))
}

/// The examples; none when they can't be read.
pub(super) fn examples(bundle: &Bundle) -> Vec<Value> {
    let text = bundle.csv_annotation("alm-examples").unwrap_or_default();
    serde_json::from_str(text).unwrap_or_default()
}

fn examples_are_json(bundle: &Bundle) -> Vec<String> {
    let text = bundle.csv_annotation("alm-examples").unwrap_or_default();
    match serde_json::from_str::<Vec<Value>>(text) {
        Ok(_) => Vec::new(),
        Err(error) => vec![format!("alm-examples is no list in JSON: {error}")],
    }
}

/// A kind with its version, as in `meshwright.dev/v1alpha1/MeshInstallation`.
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

fn examples_are_owned(bundle: &Bundle) -> Vec<String> {
    let strange = &example_kinds(bundle) - &owned_kinds(bundle);
    strange.iter().map(|kind| format!("alm-examples has a {kind}, which the operator doesn't own")).collect()
}

fn owned_have_examples(bundle: &Bundle) -> Vec<String> {
    let bare = &owned_kinds(bundle) - &example_kinds(bundle);
    bare.iter().map(|kind| format!("alm-examples has no {kind}")).collect()
}

/// Annotations that OLM reads are written as OLM writes them.
fn annotation_case(bundle: &Bundle) -> Vec<String> {
    const KNOWN: [&str; 5] =
        ["olm.operatorGroup", "olm.operatorNamespace", "olm.targetNamespaces", "olm.providedAPIs", "olm.skipRange"];
    let annotations = bundle.csv().pointer("/metadata/annotations").and_then(Value::as_object);
    let names = annotations.into_iter().flat_map(|annotations| annotations.keys());
    names
        .filter_map(|name| {
            let known = KNOWN.iter().find(|known| known.eq_ignore_ascii_case(name) && **known != name.as_str())?;
            Some(format!("the annotation {name} is written {known}"))
        })
        .collect()
}

fn no_properties(bundle: &Bundle) -> Vec<String> {
    unless(bundle.csv_annotation("olm.properties").is_none(), || {
        "properties belong into metadata/properties.yaml, not into an annotation".into()
    })
}

/// The names of install modes that are supported.
pub(super) fn supported_modes(bundle: &Bundle) -> Vec<&str> {
    let modes = list(bundle.csv(), "/spec/installModes").iter();
    modes.filter(|mode| is_true(mode, "/supported")).map(|mode| text(mode, "/type")).collect()
}

/// Every image that the Deployments run.
pub(super) fn images(bundle: &Bundle) -> BTreeSet<&str> {
    bundle.containers().map(|container| text(container, "/image")).collect()
}

/// Keywords, for instance: texts, none of them empty.
pub(super) fn is_list_of_texts(value: &Value, pointer: &str) -> bool {
    let all = list(value, pointer);
    !all.is_empty() && texts(value, pointer).filter(|text| !text.trim().is_empty()).count() == all.len()
}
