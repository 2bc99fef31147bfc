//! Free texts of a spec on their way through Istio's templates, which write some of them without quotes: what would
//! arrive as something else, or break the document around it, is refused with its field.

use std::collections::BTreeMap;

use meshwright_api::{MeshInstallationSpec, Resources};
use meshwright_chart::{Rendered, documents};
use serde_json::{Value, json};

use super::problem::Problem;

/// Keys that are ours begin so.
const OURS: &str = "meshwright.dev/";
/// Annotations that istiod's chart writes into the pod template itself; a second one would break the document.
const WRITTEN_BY_THE_CHART: [&str; 3] = ["prometheus.io/port", "prometheus.io/scrape", "sidecar.istio.io/inject"];
/// Longest name in a key, and longest value of a label.
const LONGEST: usize = 63;
/// Longest prefix of a key.
const LONGEST_PREFIX: usize = 253;

/// Looks at every text of the spec that the schema leaves free.
pub fn texts(spec: &MeshInstallationSpec, problems: &mut Vec<Problem>) {
    let mut found = Found(problems);
    found.labels("spec.namespaceLabels", &spec.namespace_labels);
    if let Some(revision) = &spec.revision {
        found.written_bare("spec.revision", revision);
    }
    for tag in &spec.tags {
        found.written_bare(&format!("spec.tags[{}].name", tag.name), &tag.name);
    }
    let istiod = &spec.control_plane;
    for variable in &istiod.env {
        found.written_bare(&format!("spec.controlPlane.env[{}].name", variable.name), &variable.name);
    }
    found.resources("spec.controlPlane.resources", &istiod.resources);
    found.labels("spec.controlPlane.nodeSelector", &istiod.node_selector);
    found.annotations("spec.controlPlane.podAnnotations", &istiod.pod_annotations);
    for key in WRITTEN_BY_THE_CHART.into_iter().filter(|key| istiod.pod_annotations.contains_key(*key)) {
        found.add(&format!("spec.controlPlane.podAnnotations[{key}]"), "istiod's chart sets it itself; leave it out");
    }
    found.annotations("spec.injector.injectedAnnotations", &spec.injector.injected_annotations);
    found.resources("spec.proxy.resources", &spec.proxy.resources);
    found.resources("spec.cni.resources", &spec.cni.resources);
    found.resources("spec.ztunnel.resources", &spec.ztunnel.resources);
    for name in &spec.images.pull_secrets {
        found.written_bare(&format!("spec.images.pullSecrets[{name}]"), name);
    }
    for gateway in &spec.gateways {
        let field = |name: &str| format!("spec.gateways[{}].{name}", gateway.name);
        found.written_bare(&field("name"), &gateway.name);
        // A label of the gateway's pods is its name without this.
        if let Some(label) = gateway.name.strip_prefix("istio-") {
            found.written_bare(&field("name"), label);
        }
        if let Some(class) = &gateway.service.load_balancer_class {
            found.written_bare(&field("service.loadBalancerClass"), class);
        }
        found.annotations(&field("service.annotations"), &gateway.service.annotations);
        found.resources(&field("resources"), &gateway.resources);
        found.labels(&field("nodeSelector"), &gateway.node_selector);
        found.annotations(&field("podAnnotations"), &gateway.pod_annotations);
    }
}

struct Found<'a>(&'a mut Vec<Problem>);

impl Found<'_> {
    fn add(&mut self, field: &str, message: impl Into<String>) {
        self.0.push(Problem::new(field, message));
    }

    /// A text that a template writes as it is.
    fn written_bare(&mut self, field: &str, text: &str) {
        if !arrives_bare(text) {
            let message = format!(
                "{text:?} would not arrive as it is: Istio's charts write it into YAML without quotes; choose another"
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
                    self.written_bare(&field, name);
                }
            }
        }
    }

    fn labels(&mut self, field: &str, labels: &BTreeMap<String, String>) {
        for (key, value) in labels {
            let field = format!("{field}[{key}]");
            self.key(&field, key);
            if !(value.is_empty() || is_name(value)) {
                let what = complaint(value, is_name_char);
                self.add(
                    &field,
                    format!("{what}; a label's value has up to {LONGEST} letters, digits, '-', '_' and '.', and begins and ends with a letter or digit"),
                );
            }
        }
    }

    fn annotations(&mut self, field: &str, annotations: &BTreeMap<String, String>) {
        for key in annotations.keys() {
            let field = format!("{field}[{key}]");
            self.key(&field, key);
            if key.starts_with(OURS) {
                self.add(&field, "is set by the operator; leave it out");
            }
        }
    }

    fn key(&mut self, field: &str, key: &str) {
        if !is_key(key) {
            let what = complaint(key, |c| is_name_char(c) || c == '/');
            self.add(
                field,
                format!("{what}; a key is a DNS name and a slash, which can be left out, and up to {LONGEST} letters, digits, '-', '_' and '.'"),
            );
        }
    }
}

/// What is wrong with a text, by its first character that can't be in it.
fn complaint(text: &str, fits: impl Fn(char) -> bool) -> String {
    match text.chars().find(|c| !fits(*c)) {
        Some(c) => format!("{text:?} has {c:?}"),
        None => format!("{text:?} is malformed"),
    }
}

const fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

fn is_name(text: &str) -> bool {
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= LONGEST && end(text.chars().next()) && end(text.chars().last()) && text.chars().all(is_name_char)
}

/// Whether Kubernetes takes this for the key of a label or annotation, or the name of a resource.
fn is_key(text: &str) -> bool {
    match text.split_once('/') {
        None => is_name(text),
        Some((prefix, name)) => {
            let label = |part: &str| is_name(part) && !part.contains('_') && !part.contains(|c: char| c.is_uppercase());
            prefix.len() <= LONGEST_PREFIX && prefix.split('.').all(label) && is_name(name)
        }
    }
}

/// Whether a text is the same text again where a template writes it without quotes: read by the parser that reads what
/// templates write.
fn arrives_bare(text: &str) -> bool {
    let rendered = Rendered { template: String::new(), text: format!("text: {text}\n") };
    let read: Vec<Option<Value>> = documents(&rendered).map(Result::ok).collect();
    read == [Some(json!({"text": text}))]
}

/// Whether a text is the same text again between double quotes, written there without escapes.
#[must_use]
pub fn arrives_between_quotes(text: &str) -> bool {
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
        texts(&spec, &mut problems);
        problems
    }

    fn fields(of: Value) -> Vec<String> {
        problems(of).into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn keys_of_labels_and_annotations_are_kubernetes_keys() {
        let right = ["a", "a.b_c-D", "example.com/a", "sub.example.com/A_1", &"n".repeat(63)];
        let wrong =
            ["", "-a", "a-", "a b", "a\"b", "a\nb", "a: b", "/a", "a/", "a/b/c", "Example.com/a", "é", &"n".repeat(64)];
        for (keys, good) in [(&right[..], true), (&wrong[..], false)] {
            for key in keys {
                assert_eq!(is_key(key), good, "{key:?}");
                let edge = json!({"name": "edge", "nodeSelector": {*key: ""}, "podAnnotations": {*key: ""},
                    "service": {"annotations": {*key: ""}}, "resources": {"limits": {*key: "1"}}});
                let spec = json!({
                    "namespaceLabels": {*key: ""},
                    "injector": {"injectedAnnotations": {*key: ""}},
                    "controlPlane": {"nodeSelector": {*key: ""}, "podAnnotations": {*key: ""}},
                    "proxy": {"resources": {"requests": {*key: "1"}}},
                    "gateways": [edge],
                });
                assert_eq!(fields(spec).len(), if good { 0 } else { 9 }, "{key:?}");
            }
        }
    }

    #[test]
    fn the_field_and_the_character_are_named() {
        let found = problems(json!({"controlPlane": {"podAnnotations": {"a\"b": ""}}}));
        let said = found[0].to_string();
        assert!(said.starts_with("spec.controlPlane.podAnnotations[a\"b]: \"a\\\"b\" has '\"'; a key is"), "{said}");
    }

    #[test]
    fn values_of_labels_are_checked_and_values_of_annotations_are_free() {
        for (value, good) in
            [("", true), ("baseline", true), ("1.31", true), ("a b", false), ("a:", false), ("-", false)]
        {
            let expected = if good { vec![] } else { vec!["spec.namespaceLabels[k]"] };
            assert_eq!(fields(json!({"namespaceLabels": {"k": value}})), expected, "{value:?}");
            assert_eq!(fields(json!({"controlPlane": {"podAnnotations": {"k": value}}})), Vec::<String>::new());
        }
    }

    #[test]
    fn names_that_yaml_reads_as_something_else_are_refused_where_charts_do_not_quote_them() {
        for (text, good) in [("a", true), ("a1", true), ("1a", true), ("true", false), ("y", false), ("null", false)] {
            assert_eq!(arrives_bare(text), good, "{text:?}");
            let spec = json!({
                "controlPlane": {"env": [{"name": text, "value": ""}], "resources": {"limits": {text: "1"}}},
                "images": {"pullSecrets": [text]},
                "gateways": [{"name": text, "service": {"loadBalancerClass": text}}],
            });
            assert_eq!(fields(spec).len(), if good { 0 } else { 5 }, "{text:?}");
        }
        for text in ["123", "1e3", "0x1f", "1.5", "a: b", "a #b", "*a", "&a", "\"a", "", " a", "a\nb", "[a", "{a", "~"]
        {
            assert!(!arrives_bare(text), "{text:?}");
        }
    }

    #[test]
    fn a_gateways_name_without_istio_before_it_is_a_label_too() {
        assert_eq!(fields(json!({"gateways": [{"name": "istio-443"}]})), ["spec.gateways[istio-443].name"]);
        assert_eq!(fields(json!({"gateways": [{"name": "istio-a443"}]})), Vec::<String>::new());
    }

    #[test]
    fn annotations_that_the_chart_or_the_operator_sets_are_refused() {
        let on_istiod = |key: &str| fields(json!({"controlPlane": {"podAnnotations": {key: "x"}}}));
        assert_eq!(on_istiod("prometheus.io/scrape"), ["spec.controlPlane.podAnnotations[prometheus.io/scrape]"]);
        assert_eq!(on_istiod("prometheus.io/path"), Vec::<String>::new());
        let on_gateway = |key: &str| fields(json!({"gateways": [{"name": "edge", "podAnnotations": {key: "x"}}]}));
        assert_eq!(on_gateway("prometheus.io/scrape"), Vec::<String>::new());
        assert_eq!(on_gateway("meshwright.dev/x"), ["spec.gateways[edge].podAnnotations[meshwright.dev/x]"]);
    }

    #[test]
    fn what_double_quotes_would_change_is_known() {
        for text in ["", "a", "a: b", "#", "{x}", "it's", " a ", "é", "true"] {
            assert!(arrives_between_quotes(text), "{text:?}");
        }
        for text in ["\"", "a\\b", "a\nb", "\t", "\u{85}", "\u{2028}", "\u{7f}"] {
            assert!(!arrives_between_quotes(text), "{text:?}");
        }
    }
}
