//! What OLM v1 installs: bundles for all namespaces, without dependencies and what goes with them. Webhooks and API
//! services it takes by now, with a provider of certificates; we have none.

use std::collections::BTreeSet;

use super::super::{Bundle, list, text, texts};
use super::csv::supported_modes;
use super::{Origin, Rule, unless};

pub(super) const RULES: &[Rule] = &[
    Rule::error("all-namespaces-only", Origin::OlmV1, all_namespaces_only),
    Rule::error("no-dependencies", Origin::OlmV1, no_dependencies),
    Rule::error("no-webhooks", Origin::OlmV1, no_webhooks),
    Rule::error("no-api-services", Origin::OlmV1, no_api_services),
    Rule::error("no-operator-conditions", Origin::OlmV1, no_operator_conditions),
    Rule::error("deployments", Origin::OlmV1, deployments),
    Rule::error("package", Origin::OlmV1, package),
];

fn all_namespaces_only(bundle: &Bundle) -> Vec<String> {
    let modes = supported_modes(bundle);
    unless(modes == ["AllNamespaces"], || format!("the install modes are {modes:?}, not AllNamespaces alone"))
}

/// Neither in `metadata` nor in the `ClusterServiceVersion`.
fn no_dependencies(bundle: &Bundle) -> Vec<String> {
    const PROPERTIES: [&str; 3] = ["olm.gvk.required", "olm.package.required", "olm.constraint"];
    let named = |text: &String| PROPERTIES.iter().any(|property| text.contains(property));
    let files = bundle.others.iter().filter(|(path, text)| path.ends_with("/dependencies.yaml") || named(text));
    let mut wrong: Vec<String> = files.map(|(path, _)| format!("{path} names a dependency")).collect();
    for path in ["/spec/customresourcedefinitions/required", "/spec/apiservicedefinitions/required", "/spec/nativeAPIs"]
    {
        wrong.extend(unless(list(bundle.csv(), path).is_empty(), || format!("{path} names a dependency")));
    }
    wrong
}

fn no_webhooks(bundle: &Bundle) -> Vec<String> {
    unless(list(bundle.csv(), "/spec/webhookdefinitions").is_empty(), || "there is a webhook".into())
}

fn no_api_services(bundle: &Bundle) -> Vec<String> {
    unless(list(bundle.csv(), "/spec/apiservicedefinitions/owned").is_empty(), || "there is an API service".into())
}

/// OLM v1 has no `OperatorConditions`; whoever writes them asks for the right.
fn no_operator_conditions(bundle: &Bundle) -> Vec<String> {
    let named = bundle.rights().any(|rule| texts(rule, "/apiGroups").any(|group| group == "operators.coreos.com"));
    unless(!named, || "the operator asks for rights to OLM's own objects".into())
}

/// Each by a good name, and only once.
fn deployments(bundle: &Bundle) -> Vec<String> {
    let names: Vec<&str> = bundle.deployments().iter().map(|it| text(it, "/name")).collect();
    let good = |name: &&str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        !name.is_empty() && name.len() <= 253 && name.chars().all(inner)
    };
    let unique: BTreeSet<&str> = names.iter().copied().collect();
    unless(!names.is_empty() && names.iter().all(good) && unique.len() == names.len(), || {
        format!("the Deployments {names:?} are not all named, and each once")
    })
}

fn package(bundle: &Bundle) -> Vec<String> {
    unless(bundle.annotation(super::super::PACKAGE).is_some_and(|name| !name.is_empty()), || {
        "the annotations name no package".into()
    })
}
