//! Rules for the descriptors of custom resources, most of them from the scorecard.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::descriptors::find;
use super::super::{Bundle, list, text};
use super::csv::examples;
use super::{Rule, RuleOrigin, violation_unless};

pub(super) const RULES: &[Rule] = &[
    Rule::warning("crds-are-described", RuleOrigin::Framework, crds_are_described),
    Rule::error("crds-have-resources", RuleOrigin::Framework, crds_have_resources),
    Rule::error("crds-have-schemas", RuleOrigin::Framework, crds_have_schemas),
    Rule::error("examples-have-specs", RuleOrigin::Framework, examples_have_specs),
    Rule::error("spec-is-described", RuleOrigin::Framework, spec_is_described),
    Rule::error("status-is-described", RuleOrigin::Framework, status_is_described),
    Rule::error("descriptors-match-fields", RuleOrigin::Own, descriptors_match_fields),
    Rule::error("descriptors-are-unique", RuleOrigin::Own, descriptors_are_unique),
];

/// Returns the schema of `spec` or `status`.
fn schema<'a>(bundle: &'a Bundle, owned: &Value, part: &str) -> &'a Value {
    let crd =
        bundle.of_kind("CustomResourceDefinition").find(|crd| text(crd, "/metadata/name") == text(owned, "/name"));
    let versions = crd.map_or(&[][..], |crd| list(crd, "/spec/versions"));
    let version = versions.iter().find(|version| text(version, "/name") == text(owned, "/version"));
    let part = format!("/schema/openAPIV3Schema/properties/{part}");
    version.and_then(|version| version.pointer(&part)).unwrap_or(&Value::Null)
}

fn paths<'a>(owned: &'a Value, descriptors: &str) -> Vec<&'a str> {
    list(owned, descriptors).iter().map(|descriptor| text(descriptor, "/path")).collect()
}

fn crds_are_described(bundle: &Bundle) -> Vec<String> {
    let missing = bundle.owned().iter().filter(|owned| text(owned, "/description").is_empty());
    missing.map(|owned| format!("{} has no description", text(owned, "/name"))).collect()
}

fn crds_have_resources(bundle: &Bundle) -> Vec<String> {
    let missing = bundle.owned().iter().filter(|owned| list(owned, "/resources").is_empty());
    missing.map(|owned| format!("{} lists no resources", text(owned, "/name"))).collect()
}

fn crds_have_schemas(bundle: &Bundle) -> Vec<String> {
    let missing = bundle.owned().iter().filter(|owned| schema(bundle, owned, "spec").get("properties").is_none());
    missing.map(|owned| format!("{} has no schema", text(owned, "/name"))).collect()
}

fn examples_have_specs(bundle: &Bundle) -> Vec<String> {
    let has_no_spec =
        |example: &&Value| example.get("spec").and_then(Value::as_object).is_none_or(serde_json::Map::is_empty);
    let examples = examples(bundle);
    examples
        .iter()
        .filter(has_no_spec)
        .map(|it| format!("example {:?} has no spec", text(it, "/metadata/name")))
        .collect()
}

/// Checks that each top-level field has a descriptor.
fn missing_descriptors(bundle: &Bundle, part: &str, descriptors: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for owned in bundle.owned() {
        let described: BTreeSet<&str> = paths(owned, descriptors).into_iter().collect();
        let fields = schema(bundle, owned, part).get("properties").and_then(Value::as_object);
        let missing =
            fields.into_iter().flat_map(|fields| fields.keys()).filter(|field| !described.contains(field.as_str()));
        wrong.extend(missing.map(|field| format!("{part}.{field} has no descriptor")));
    }
    wrong
}

/// Stricter than the scorecard, which checks only fields in the examples.
fn spec_is_described(bundle: &Bundle) -> Vec<String> {
    missing_descriptors(bundle, "spec", "/specDescriptors")
}

fn status_is_described(bundle: &Bundle) -> Vec<String> {
    missing_descriptors(bundle, "status", "/statusDescriptors")
}

const BOTH: [(&str, &str); 2] = [("spec", "/specDescriptors"), ("status", "/statusDescriptors")];

fn descriptors_match_fields(bundle: &Bundle) -> Vec<String> {
    let mut wrong = Vec::new();
    for owned in bundle.owned() {
        for (part, descriptors) in BOTH {
            let unknown =
                paths(owned, descriptors).into_iter().filter(|path| find(schema(bundle, owned, part), path).is_none());
            wrong.extend(unknown.map(|path| format!("the CRD has no field {part}.{path}")));
        }
    }
    wrong
}

fn descriptors_are_unique(bundle: &Bundle) -> Vec<String> {
    let mut wrong = Vec::new();
    for owned in bundle.owned() {
        for (part, descriptors) in BOTH {
            let all = paths(owned, descriptors);
            let unique: BTreeSet<&str> = all.iter().copied().collect();
            wrong.extend(violation_unless(unique.len() == all.len(), || {
                format!("a field of {part} has two descriptors")
            }));
        }
    }
    wrong
}
