//! Validation of free-form strings in a spec. Istio's templates write some of them without quotes, so that a string
//! could be parsed as another type or break the YAML document.

use std::collections::BTreeMap;

use meshwright_api::{MeshInstallationSpec, Resources};
use meshwright_chart::{Rendered, documents};
use serde_json::{Value, json};

use super::problem::Problem;

/// Prefix of the labels and annotations that the operator sets.
const RESERVED_PREFIX: &str = "meshwright.dev/";
/// Annotations that istiod's chart sets on the pod template. A second one would be a duplicate YAML key.
const SET_BY_CHART: [&str; 3] = ["prometheus.io/port", "prometheus.io/scrape", "sidecar.istio.io/inject"];
/// Maximum length of the name in a key, and of a label's value.
const MAX_NAME_LENGTH: usize = 63;
/// Maximum length of a key's prefix.
const MAX_PREFIX_LENGTH: usize = 253;

/// Checks all strings of the spec that the CRD's schema doesn't restrict.
pub fn check_free_text(spec: &MeshInstallationSpec, problems: &mut Vec<Problem>) {
    let mut checker = TextChecker(problems);
    checker.labels("spec.namespaceLabels", &spec.namespace_labels);
    if let Some(revision) = &spec.revision {
        checker.check_unquoted("spec.revision", revision);
    }
    for tag in &spec.tags {
        checker.check_unquoted(&format!("spec.tags[{}].name", tag.name), &tag.name);
    }
    let istiod = &spec.control_plane;
    for variable in &istiod.env {
        checker.check_unquoted(&format!("spec.controlPlane.env[{}].name", variable.name), &variable.name);
    }
    checker.resources("spec.controlPlane.resources", &istiod.resources);
    checker.labels("spec.controlPlane.nodeSelector", &istiod.node_selector);
    checker.annotations("spec.controlPlane.podAnnotations", &istiod.pod_annotations);
    for key in SET_BY_CHART.into_iter().filter(|key| istiod.pod_annotations.contains_key(*key)) {
        checker.add(&format!("spec.controlPlane.podAnnotations[{key}]"), "is set by istiod's chart; remove it");
    }
    checker.annotations("spec.injector.injectedAnnotations", &spec.injector.injected_annotations);
    checker.resources("spec.proxy.resources", &spec.proxy.resources);
    checker.resources("spec.cni.resources", &spec.cni.resources);
    checker.resources("spec.ztunnel.resources", &spec.ztunnel.resources);
    for secret in &spec.images.image_pull_secrets {
        checker.check_unquoted(&format!("spec.images.imagePullSecrets[{}]", secret.name), &secret.name);
    }
    for gateway in &spec.gateways {
        let field = |name: &str| format!("spec.gateways[{}].{name}", gateway.name);
        checker.check_unquoted(&field("name"), &gateway.name);
        // The chart sets the name without this prefix as a label of the gateway's pods.
        if let Some(label) = gateway.name.strip_prefix("istio-") {
            checker.check_unquoted(&field("name"), label);
        }
        if let Some(class) = &gateway.service.load_balancer_class {
            checker.check_unquoted(&field("service.loadBalancerClass"), class);
        }
        checker.annotations(&field("service.annotations"), &gateway.service.annotations);
        checker.resources(&field("resources"), &gateway.resources);
        checker.labels(&field("nodeSelector"), &gateway.node_selector);
        checker.annotations(&field("podAnnotations"), &gateway.pod_annotations);
    }
}

/// Collects the problems of a spec's strings.
struct TextChecker<'a>(&'a mut Vec<Problem>);

impl TextChecker<'_> {
    fn add(&mut self, field: &str, message: impl Into<String>) {
        self.0.push(Problem::new(field, message));
    }

    /// Checks a string that a template writes without quotes.
    fn check_unquoted(&mut self, field: &str, text: &str) {
        if !survives_unquoted(text) {
            let message = format!(
                "{text:?} is not a string in YAML without quotes, as Istio's charts write it; choose another value"
            );
            self.add(field, message);
        }
    }

    fn resources(&mut self, field: &str, resources: &Resources) {
        for (list, map) in [("requests", &resources.requests), ("limits", &resources.limits)] {
            for name in map.keys() {
                let field = format!("{field}.{list}[{name}]");
                self.key(&field, name);
                if is_key(name) {
                    self.check_unquoted(&field, name);
                }
            }
        }
    }

    fn labels(&mut self, field: &str, labels: &BTreeMap<String, String>) {
        for (key, value) in labels {
            let field = format!("{field}[{key}]");
            self.key(&field, key);
            if !(value.is_empty() || is_name(value)) {
                let what = invalid_character(value, is_name_char);
                self.add(
                    &field,
                    format!(
                        "{what}; a label value has at most {MAX_NAME_LENGTH} letters, digits, '-', '_' and '.', and starts \
                         and ends with a letter or digit"
                    ),
                );
            }
        }
    }

    fn annotations(&mut self, field: &str, annotations: &BTreeMap<String, String>) {
        for key in annotations.keys() {
            let field = format!("{field}[{key}]");
            self.key(&field, key);
            if key.starts_with(RESERVED_PREFIX) {
                self.add(&field, "is set by the operator; remove it");
            }
        }
    }

    fn key(&mut self, field: &str, key: &str) {
        if !is_key(key) {
            let what = invalid_character(key, |c| is_name_char(c) || c == '/');
            self.add(
                field,
                format!(
                    "{what}; a key is an optional DNS subdomain with a slash, and at most {MAX_NAME_LENGTH} letters, digits, \
                     '-', '_' and '.'"
                ),
            );
        }
    }
}

/// Describes why a string is invalid, by its first character that isn't allowed.
fn invalid_character(text: &str, fits: impl Fn(char) -> bool) -> String {
    match text.chars().find(|c| !fits(*c)) {
        Some(c) => format!("{text:?} contains {c:?}"),
        None => format!("{text:?} is invalid"),
    }
}

const fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

fn is_name(text: &str) -> bool {
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= MAX_NAME_LENGTH
        && end(text.chars().next())
        && end(text.chars().last())
        && text.chars().all(is_name_char)
}

/// Whether a string is a valid key of a label or annotation, or a valid resource name.
fn is_key(text: &str) -> bool {
    match text.split_once('/') {
        None => is_name(text),
        Some((prefix, name)) => {
            let label = |part: &str| is_name(part) && !part.contains('_') && !part.contains(|c: char| c.is_uppercase());
            prefix.len() <= MAX_PREFIX_LENGTH && prefix.split('.').all(label) && is_name(name)
        }
    }
}

/// Whether a string is unchanged after a template wrote it without quotes, according to the parser that reads rendered
/// templates.
fn survives_unquoted(text: &str) -> bool {
    let rendered = Rendered { template: String::new(), text: format!("text: {text}\n") };
    let parsed: Vec<Option<Value>> = documents(&rendered).map(Result::ok).collect();
    parsed == [Some(json!({"text": text}))]
}

/// Whether a string is unchanged after a template wrote it between double quotes without escaping.
#[must_use]
pub fn survives_double_quotes(text: &str) -> bool {
    let folded = ['\u{85}', '\u{2028}', '\u{2029}', '\u{feff}'];
    !text.contains(|c: char| matches!(c, '"' | '\\') || c.is_control() || folded.contains(&c))
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    fn problems(fields: Value) -> Vec<Problem> {
        let mut spec = Map::from_iter([("version".to_owned(), json!("1.31.2"))]);
        let Value::Object(fields) = fields else { panic!("{fields}") };
        spec.extend(fields);
        let spec = serde_json::from_value(Value::Object(spec)).unwrap();
        let mut problems = Vec::new();
        check_free_text(&spec, &mut problems);
        problems
    }

    fn fields(spec: Value) -> Vec<String> {
        problems(spec).into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn validates_keys_of_labels_and_annotations() {
        let valid = ["a", "a.b_c-D", "example.com/a", "sub.example.com/A_1", &"n".repeat(63)];
        let invalid =
            ["", "-a", "a-", "a b", "a\"b", "a\nb", "a: b", "/a", "a/", "a/b/c", "Example.com/a", "é", &"n".repeat(64)];
        for (keys, is_valid) in [(&valid[..], true), (&invalid[..], false)] {
            for key in keys {
                assert_eq!(is_key(key), is_valid, "{key:?}");
                let edge = json!({"name": "edge", "nodeSelector": {*key: ""}, "podAnnotations": {*key: ""},
                    "service": {"annotations": {*key: ""}}, "resources": {"limits": {*key: "1"}}});
                let spec = json!({
                    "namespaceLabels": {*key: ""},
                    "injector": {"injectedAnnotations": {*key: ""}},
                    "controlPlane": {"nodeSelector": {*key: ""}, "podAnnotations": {*key: ""}},
                    "proxy": {"resources": {"requests": {*key: "1"}}},
                    "gateways": [edge],
                });
                assert_eq!(fields(spec).len(), if is_valid { 0 } else { 9 }, "{key:?}");
            }
        }
    }

    #[test]
    fn reports_field_and_invalid_character() {
        let found = problems(json!({"controlPlane": {"podAnnotations": {"a\"b": ""}}}));
        let message = found[0].to_string();
        assert!(
            message.starts_with("spec.controlPlane.podAnnotations[a\"b]: \"a\\\"b\" contains '\"'; a key is"),
            "{message}"
        );
    }

    #[test]
    fn validates_label_values_but_not_annotation_values() {
        for (value, is_valid) in
            [("", true), ("baseline", true), ("1.31", true), ("a b", false), ("a:", false), ("-", false)]
        {
            let expected = if is_valid { vec![] } else { vec!["spec.namespaceLabels[k]"] };
            assert_eq!(fields(json!({"namespaceLabels": {"k": value}})), expected, "{value:?}");
            assert_eq!(fields(json!({"controlPlane": {"podAnnotations": {"k": value}}})), Vec::<String>::new());
        }
    }

    #[test]
    fn rejects_unquoted_names_that_yaml_misreads() {
        for (text, is_valid) in
            [("a", true), ("a1", true), ("1a", true), ("true", false), ("y", false), ("null", false)]
        {
            assert_eq!(survives_unquoted(text), is_valid, "{text:?}");
            let spec = json!({
                "controlPlane": {"env": [{"name": text, "value": ""}], "resources": {"limits": {text: "1"}}},
                "images": {"imagePullSecrets": [{"name": text}]},
                "gateways": [{"name": text, "service": {"loadBalancerClass": text}}],
            });
            assert_eq!(fields(spec).len(), if is_valid { 0 } else { 5 }, "{text:?}");
        }
        for text in ["123", "1e3", "0x1f", "1.5", "a: b", "a #b", "*a", "&a", "\"a", "", " a", "a\nb", "[a", "{a", "~"]
        {
            assert!(!survives_unquoted(text), "{text:?}");
        }
    }

    #[test]
    fn validates_gateway_name_without_istio_prefix() {
        assert_eq!(fields(json!({"gateways": [{"name": "istio-443"}]})), ["spec.gateways[istio-443].name"]);
        assert_eq!(fields(json!({"gateways": [{"name": "istio-a443"}]})), Vec::<String>::new());
    }

    #[test]
    fn rejects_annotations_that_chart_or_operator_sets() {
        let on_istiod = |key: &str| fields(json!({"controlPlane": {"podAnnotations": {key: "x"}}}));
        assert_eq!(on_istiod("prometheus.io/scrape"), ["spec.controlPlane.podAnnotations[prometheus.io/scrape]"]);
        assert_eq!(on_istiod("prometheus.io/path"), Vec::<String>::new());
        let on_gateway = |key: &str| fields(json!({"gateways": [{"name": "edge", "podAnnotations": {key: "x"}}]}));
        assert_eq!(on_gateway("prometheus.io/scrape"), Vec::<String>::new());
        assert_eq!(on_gateway("meshwright.dev/x"), ["spec.gateways[edge].podAnnotations[meshwright.dev/x]"]);
    }

    #[test]
    fn detects_text_that_double_quotes_change() {
        for text in ["", "a", "a: b", "#", "{x}", "it's", " a ", "é", "true"] {
            assert!(survives_double_quotes(text), "{text:?}");
        }
        for text in ["\"", "a\\b", "a\nb", "\t", "\u{85}", "\u{2028}", "\u{7f}"] {
            assert!(!survives_double_quotes(text), "{text:?}");
        }
    }
}
