//! Every CEL rule, both ways.

mod gateways;
mod mesh;
mod proxies;

use std::collections::BTreeSet;

use serde_json::Value;

use super::{complaints, installation, schema};
use crate::version::VersionRequest;

/// A rule, by its message, with specs that it lets pass and specs that it alone refuses.
struct Case {
    message: &'static str,
    passes: &'static [&'static str],
    refuses: &'static [&'static str],
}

/// All of them, by what they are about.
fn cases() -> impl Iterator<Item = &'static Case> {
    [mesh::CASES, gateways::CASES, proxies::CASES].into_iter().flatten()
}

/// Rules that need more than a spec; each has a test of its own below.
const NAME_TOO_LONG: &str =
    "metadata.name must have at most 63 characters: it becomes a label value on every object of the mesh";
const NAME_OF_COMPONENT: &str = "metadata.name must not be base, cni, istiod, istio-base, istio-cni or ztunnel: tools that read app.kubernetes.io/instance would mix it up with that component";
const NAME_OF_GATEWAY: &str = "metadata.name must not be the name of one of its gateways: tools that read app.kubernetes.io/instance would mix them up";
const REVISION_IMMUTABLE: &str = "revision can't be changed; make a new MeshInstallation for another revision";
const NAMESPACE_IMMUTABLE: &str = "namespace can't be changed; make a new MeshInstallation for another namespace";

fn new(name: &str, spec: &str) -> Vec<String> {
    complaints(&installation(name, spec), None)
}

#[test]
fn each_rule_lets_pass_what_is_right() {
    for case in cases() {
        for spec in case.passes {
            assert_eq!(new("mesh", spec), Vec::<String>::new(), "{spec}");
        }
    }
}

#[test]
fn each_rule_refuses_what_is_wrong_and_says_what_would_be_right() {
    for case in cases() {
        for spec in case.refuses {
            let complaints = new("mesh", spec);
            assert!(complaints.iter().any(|complaint| complaint == case.message), "{spec}: {complaints:?}");
        }
    }
}

#[test]
fn nothing_but_the_rule_meant_refuses() {
    for case in cases() {
        for spec in case.refuses {
            assert_eq!(new("mesh", spec).len(), 1, "{spec}");
        }
    }
}

#[test]
fn a_name_longer_than_a_label_value_is_refused() {
    assert_eq!(new(&"m".repeat(63), ""), Vec::<String>::new());
    assert_eq!(new(&"m".repeat(64), ""), [NAME_TOO_LONG]);
}

#[test]
fn a_name_that_is_a_components_is_refused() {
    assert_eq!(new("istiod-prod", ""), Vec::<String>::new());
    for name in ["base", "cni", "istiod", "istio-base", "istio-cni", "ztunnel"] {
        assert_eq!(new(name, ""), [NAME_OF_COMPONENT], "{name}");
    }
}

#[test]
fn a_name_that_is_also_a_gateways_is_refused() {
    assert_eq!(new("mesh", "gateways: [{name: edge}]"), Vec::<String>::new());
    assert_eq!(new("edge", "gateways: [{name: other}, {name: edge}]"), [NAME_OF_GATEWAY]);
}

#[test]
fn the_namespace_stays_as_it_was_made() {
    let made = installation("mesh", "namespace: istio-system");
    let same = installation("mesh", "{namespace: istio-system, profile: demo}");
    let moved = installation("mesh", "namespace: mesh-system");
    assert_eq!(complaints(&same, Some(&made)), Vec::<String>::new());
    assert_eq!(complaints(&moved, Some(&made)), [NAMESPACE_IMMUTABLE]);
}

#[test]
fn the_namespace_cannot_be_set_on_an_object_that_left_it_out() {
    let made = installation("mesh", "");
    assert_eq!(complaints(&installation("mesh", "namespace: other"), Some(&made)), [NAMESPACE_IMMUTABLE]);
}

#[test]
fn the_revision_stays_as_it_was_made() {
    let made = |revision: &str| installation("mesh", revision);
    let complaints = |new: &str, old: &str| complaints(&made(new), Some(&made(old)));
    assert_eq!(complaints("{revision: a, profile: demo}", "revision: a"), Vec::<String>::new());
    assert_eq!(complaints("profile: demo", ""), Vec::<String>::new());
    for (new, old) in [("revision: b", "revision: a"), ("", "revision: a"), ("revision: a", "")] {
        assert_eq!(complaints(new, old), [REVISION_IMMUTABLE], "{new} after {old}");
    }
}

#[test]
fn the_schema_and_the_parser_agree_on_what_a_version_is() {
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
fn no_rule_is_without_a_case() {
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
