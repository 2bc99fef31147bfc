//! Rules of OLM v1, which installs bundles for all namespaces without dependencies. It supports webhooks and API
//! services only with a certificate provider, which Meshwright doesn't need.

use std::collections::BTreeSet;

use super::super::{Bundle, list, text, texts};
use super::csv::supported_modes;
use super::{Rule, RuleOrigin, violation_unless};

pub(super) const RULES: &[Rule] = &[
    Rule::error("all-namespaces-only", RuleOrigin::OlmV1, all_namespaces_only),
    Rule::error("no-dependencies", RuleOrigin::OlmV1, no_dependencies),
    Rule::error("no-webhooks", RuleOrigin::OlmV1, no_webhooks),
    Rule::error("no-api-services", RuleOrigin::OlmV1, no_api_services),
    Rule::error("no-operator-conditions", RuleOrigin::OlmV1, no_operator_conditions),
    Rule::error("deployments", RuleOrigin::OlmV1, deployments),
    Rule::error("package", RuleOrigin::OlmV1, package),
];

fn all_namespaces_only(bundle: &Bundle) -> Vec<String> {
    let modes = supported_modes(bundle);
    violation_unless(modes == ["AllNamespaces"], || format!("the install modes are {modes:?}, not only AllNamespaces"))
}

/// Checks `metadata` and the `ClusterServiceVersion`.
fn no_dependencies(bundle: &Bundle) -> Vec<String> {
    const PROPERTIES: [&str; 3] = ["olm.gvk.required", "olm.package.required", "olm.constraint"];
    let named = |text: &String| PROPERTIES.iter().any(|property| text.contains(property));
    let files = bundle.others.iter().filter(|(path, text)| path.ends_with("/dependencies.yaml") || named(text));
    let mut wrong: Vec<String> = files.map(|(path, _)| format!("{path} has a dependency")).collect();
    for path in ["/spec/customresourcedefinitions/required", "/spec/apiservicedefinitions/required", "/spec/nativeAPIs"]
    {
        wrong.extend(violation_unless(list(bundle.csv(), path).is_empty(), || format!("{path} has a dependency")));
    }
    wrong
}

fn no_webhooks(bundle: &Bundle) -> Vec<String> {
    violation_unless(list(bundle.csv(), "/spec/webhookdefinitions").is_empty(), || "the bundle has a webhook".into())
}

fn no_api_services(bundle: &Bundle) -> Vec<String> {
    violation_unless(list(bundle.csv(), "/spec/apiservicedefinitions/owned").is_empty(), || {
        "the bundle has an API service".into()
    })
}

/// OLM v1 has no `OperatorConditions`; an operator that writes them requests the permission.
fn no_operator_conditions(bundle: &Bundle) -> Vec<String> {
    let named =
        bundle.permission_rules().any(|rule| texts(rule, "/apiGroups").any(|group| group == "operators.coreos.com"));
    violation_unless(!named, || "the operator requests permissions for OLM's own resources".into())
}

/// Deployments must have valid and unique names.
fn deployments(bundle: &Bundle) -> Vec<String> {
    let names: Vec<&str> = bundle.deployments().iter().map(|it| text(it, "/name")).collect();
    let valid = |name: &&str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        !name.is_empty() && name.len() <= 253 && name.chars().all(inner)
    };
    let unique: BTreeSet<&str> = names.iter().copied().collect();
    violation_unless(!names.is_empty() && names.iter().all(valid) && unique.len() == names.len(), || {
        format!("the Deployments {names:?} must have valid and unique names")
    })
}

fn package(bundle: &Bundle) -> Vec<String> {
    violation_unless(bundle.annotation(super::super::PACKAGE).is_some_and(|name| !name.is_empty()), || {
        "the package annotation is missing".into()
    })
}
