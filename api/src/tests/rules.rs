//! Tests of all CEL rules with accepted and rejected specs.

mod gateways;
mod mesh;
mod proxies;

use std::collections::BTreeSet;

use serde_json::Value;

use super::{installation, schema, violations};
use crate::version::VersionRequest;

/// A rule, identified by its message, with specs that it accepts and specs that only this rule rejects.
struct RuleCase {
    message: &'static str,
    accepted: &'static [&'static str],
    rejected: &'static [&'static str],
}

fn cases() -> impl Iterator<Item = &'static RuleCase> {
    [mesh::CASES, gateways::CASES, proxies::CASES].into_iter().flatten()
}

/// Messages of rules that depend on more than the spec. Each has its own test.
const NAME_TOO_LONG: &str =
    "metadata.name must have at most 63 characters, because it is a label value on every object of the mesh";
const NAME_OF_COMPONENT: &str = "metadata.name must not be base, cni, istiod, istio-base, istio-cni or ztunnel, because tools that track objects by app.kubernetes.io/instance would confuse it with that component";
const NAME_OF_GATEWAY: &str = "metadata.name must not be the name of a gateway in spec.gateways, because tools that track objects by app.kubernetes.io/instance would confuse them";
const REVISION_IMMUTABLE: &str = "revision is immutable; create a new MeshInstallation for another revision";
const NAMESPACE_IMMUTABLE: &str = "namespace is immutable; create a new MeshInstallation for another namespace";

fn new(name: &str, spec: &str) -> Vec<String> {
    violations(&installation(name, spec), None)
}

#[test]
fn rules_accept_valid_specs() {
    for case in cases() {
        for spec in case.accepted {
            assert_eq!(new("mesh", spec), Vec::<String>::new(), "{spec}");
        }
    }
}

#[test]
fn rules_reject_invalid_specs_with_their_message() {
    for case in cases() {
        for spec in case.rejected {
            let violations = new("mesh", spec);
            assert!(violations.iter().any(|violation| violation == case.message), "{spec}: {violations:?}");
        }
    }
}

#[test]
fn invalid_specs_violate_a_single_rule() {
    for case in cases() {
        for spec in case.rejected {
            assert_eq!(new("mesh", spec).len(), 1, "{spec}");
        }
    }
}

#[test]
fn rejects_names_longer_than_label_values() {
    assert_eq!(new(&"m".repeat(63), ""), Vec::<String>::new());
    assert_eq!(new(&"m".repeat(64), ""), [NAME_TOO_LONG]);
}

#[test]
fn rejects_names_of_components() {
    assert_eq!(new("istiod-prod", ""), Vec::<String>::new());
    for name in ["base", "cni", "istiod", "istio-base", "istio-cni", "ztunnel"] {
        assert_eq!(new(name, ""), [NAME_OF_COMPONENT], "{name}");
    }
}

#[test]
fn rejects_names_of_gateways() {
    assert_eq!(new("mesh", "gateways: [{name: edge}]"), Vec::<String>::new());
    assert_eq!(new("edge", "gateways: [{name: other}, {name: edge}]"), [NAME_OF_GATEWAY]);
}

#[test]
fn namespace_is_immutable() {
    let created = installation("mesh", "namespace: istio-system");
    let same = installation("mesh", "{namespace: istio-system, profile: demo}");
    let moved = installation("mesh", "namespace: mesh-system");
    assert_eq!(violations(&same, Some(&created)), Vec::<String>::new());
    assert_eq!(violations(&moved, Some(&created)), [NAMESPACE_IMMUTABLE]);
}

#[test]
fn default_namespace_is_immutable() {
    let created = installation("mesh", "");
    assert_eq!(violations(&installation("mesh", "namespace: other"), Some(&created)), [NAMESPACE_IMMUTABLE]);
}

#[test]
fn revision_is_immutable() {
    let with = |revision: &str| installation("mesh", revision);
    let violations = |new: &str, old: &str| violations(&with(new), Some(&with(old)));
    assert_eq!(violations("{revision: a, profile: demo}", "revision: a"), Vec::<String>::new());
    assert_eq!(violations("profile: demo", ""), Vec::<String>::new());
    for (new, old) in [("revision: b", "revision: a"), ("", "revision: a"), ("revision: a", "")] {
        assert_eq!(violations(new, old), [REVISION_IMMUTABLE], "{new} after {old}");
    }
}

#[test]
fn schema_and_parser_accept_the_same_versions() {
    let texts = [
        "1.31",
        "1.31.2",
        "0.0",
        "10.20.30",
        "1.32.0-alpha.1",
        "1.32.0-alpha.eed52ebb66ad",
        "1.32.0-rc.0",
        "1.32.0-0a",
        "1.32.0--",
        "1",
        "1.",
        ".1",
        "1.31.",
        "1.x",
        "01.31",
        "1.031",
        "1.31.02",
        "1.32.0-",
        "1.32.0-01",
        "1.32.0-a..b",
        "1.32-alpha",
        "1.31.2+solo",
        "1.31.2.3",
        "latest",
        "v1.31",
        "V1.31.2",
        "v",
        "version",
        " 1.31",
        "1.31 ",
        "1,31",
    ];
    for text in texts {
        let schema_accepts = new("mesh", &format!("version: {text:?}")).is_empty();
        assert_eq!(schema_accepts, text.parse::<VersionRequest>().is_ok(), "{text:?}");
    }
}

#[test]
fn every_rule_has_test_cases() {
    let mut expected: BTreeSet<String> = cases().map(|case| case.message.to_owned()).collect();
    expected.extend(
        [NAME_TOO_LONG, NAME_OF_COMPONENT, NAME_OF_GATEWAY, NAMESPACE_IMMUTABLE, REVISION_IMMUTABLE].map(str::to_owned),
    );
    let mut found = BTreeSet::new();
    collect_messages(&schema(), &mut found);
    assert_eq!(found, expected);
}

fn collect_messages(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            let rules = fields.get("x-kubernetes-validations").and_then(Value::as_array);
            for rule in rules.into_iter().flatten() {
                found.insert(rule["message"].as_str().unwrap().to_owned());
            }
            fields.values().for_each(|field| collect_messages(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_messages(item, found)),
        _ => {}
    }
}
