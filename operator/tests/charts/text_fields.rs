//! Free-text fields of a spec render unchanged, or are rejected with the field's path.

use serde_json::{Value, json};

use super::field_effects::edge;
use super::rendering::{ChartRenderer, value_at_path};

/// Texts that are special in YAML, shells or templates.
const TEXTS: [&str; 27] = [
    "plain",
    "with space",
    "a\"b",
    "a\\b",
    "a\\nb",
    "it's",
    "a: b",
    "a #b",
    "#a",
    "- a",
    "*a",
    "&a",
    "!a",
    "{a}",
    "[a",
    "{\"k\": [\"v\", 1]}",
    "{{ .Values.global }}",
    "a\nb",
    "a\tb",
    " a ",
    "true",
    "null",
    "123",
    "1e3",
    "0x1f",
    "é\u{2028}ü\u{85}",
    "$(POD_NAME)",
];

/// A free-text field: how to set it, and where it appears.
struct TextField {
    field: &'static str,
    spec: fn(&str) -> Value,
    object: fn(&str) -> String,
    path: fn(&str) -> Vec<String>,
    expected: fn(&str) -> String,
    /// Every text is valid.
    accepts_all: bool,
}

fn path(words: &str, last: &[&str]) -> Vec<String> {
    words.split_whitespace().chain(last.iter().copied()).map(str::to_owned).collect()
}

const POD: &str = "spec template metadata annotations";
const DISCOVERY: &str = "spec template spec containers name=discovery";

#[allow(clippy::too_many_lines, reason = "a table")]
fn text_fields() -> Vec<TextField> {
    let text_field =
        |field, spec, object, path, expected| TextField { field, spec, object, path, expected, accepts_all: false };
    let accepts_all = |field: TextField| TextField { accepts_all: true, ..field };
    let istiod: fn(&str) -> String = |_| "Deployment istio-system/istiod".to_owned();
    let gateway: fn(&str) -> String = |_| "Deployment istio-system/edge".to_owned();
    let service: fn(&str) -> String = |_| "Service istio-system/edge".to_owned();
    let injector: fn(&str) -> String = |_| "ConfigMap istio-system/istio-sidecar-injector".to_owned();
    let text: fn(&str) -> String = str::to_owned;
    let v: fn(&str) -> String = |_| "v".to_owned();
    vec![
        accepts_all(text_field(
            "spec.controlPlane.env[A]",
            |t| json!({"controlPlane": {"env": [{"name": "A", "value": t}]}}),
            istiod,
            |_| path(DISCOVERY, &["env", "name=A", "value"]),
            text,
        )),
        text_field(
            "spec.controlPlane.env",
            |t| json!({"controlPlane": {"env": [{"name": t, "value": "v"}]}}),
            istiod,
            |t| path(DISCOVERY, &["env", &format!("name={t}"), "value"]),
            v,
        ),
        accepts_all(text_field(
            "spec.controlPlane.podAnnotations",
            |t| json!({"controlPlane": {"podAnnotations": {"k": t}}}),
            istiod,
            |_| path(POD, &["k"]),
            text,
        )),
        text_field(
            "spec.controlPlane.podAnnotations",
            |t| json!({"controlPlane": {"podAnnotations": {t: "v"}}}),
            istiod,
            |t| path(POD, &[t]),
            v,
        ),
        text_field(
            "spec.controlPlane.nodeSelector",
            |t| json!({"controlPlane": {"nodeSelector": {"k": t}}}),
            istiod,
            |_| path("spec template spec nodeSelector k", &[]),
            text,
        ),
        text_field(
            "spec.controlPlane.nodeSelector",
            |t| json!({"controlPlane": {"nodeSelector": {t: "v"}}}),
            istiod,
            |t| path("spec template spec nodeSelector", &[t]),
            v,
        ),
        accepts_all(text_field(
            "spec.controlPlane.tolerations",
            |t| json!({"controlPlane": {"tolerations": [{"key": "k", "value": t}]}}),
            istiod,
            |_| path("spec template spec tolerations key=k value", &[]),
            text,
        )),
        text_field(
            "spec.controlPlane.resources",
            |t| json!({"controlPlane": {"resources": {"limits": {t: "7m"}}}}),
            istiod,
            |t| path(DISCOVERY, &["resources", "limits", t]),
            |_| "7m".to_owned(),
        ),
        text_field(
            "spec.namespaceLabels",
            |t| json!({"namespaceLabels": {"k": t}}),
            |_| "Namespace istio-system".to_owned(),
            |_| path("metadata labels k", &[]),
            text,
        ),
        text_field(
            "spec.namespaceLabels",
            |t| json!({"namespaceLabels": {t: "v"}}),
            |_| "Namespace istio-system".to_owned(),
            |t| path("metadata labels", &[t]),
            v,
        ),
        accepts_all(text_field(
            "spec.injector.injectedAnnotations",
            |t| json!({"injector": {"injectedAnnotations": {"k": t}}}),
            injector,
            |_| path("data config yaml injectedAnnotations k", &[]),
            text,
        )),
        text_field(
            "spec.injector.injectedAnnotations",
            |t| json!({"injector": {"injectedAnnotations": {t: "v"}}}),
            injector,
            |t| path("data config yaml injectedAnnotations", &[t]),
            v,
        ),
        accepts_all(text_field(
            "spec.injector.neverInjectSelector",
            |t| json!({"injector": {"neverInjectSelector": [{"matchLabels": {"k": t}}]}}),
            injector,
            |_| path("data config yaml neverInjectSelector 0 matchLabels k", &[]),
            text,
        )),
        accepts_all(text_field(
            "spec.proxy.accessLog.file",
            |t| json!({"proxy": {"accessLog": {"file": t}}}),
            |_| "ConfigMap istio-system/istio".to_owned(),
            |_| path("data mesh yaml accessLogFile", &[]),
            text,
        )),
        accepts_all(text_field(
            "spec.meshConfig",
            |t| json!({"meshConfig": {"accessLogFormat": t}}),
            |_| "ConfigMap istio-system/istio".to_owned(),
            |_| path("data mesh yaml accessLogFormat", &[]),
            text,
        )),
        text_field(
            "spec.images.imagePullSecrets",
            |t| json!({"images": {"imagePullSecrets": [{"name": t}]}}),
            |_| "ServiceAccount istio-system/istiod".to_owned(),
            |_| path("imagePullSecrets 0 name", &[]),
            text,
        ),
        accepts_all(text_field(
            "spec.gateways[edge].podAnnotations",
            |t| edge(json!({"podAnnotations": {"k": t}})),
            gateway,
            |_| path(POD, &["k"]),
            text,
        )),
        text_field(
            "spec.gateways[edge].podAnnotations",
            |t| edge(json!({"podAnnotations": {t: "v"}})),
            gateway,
            |t| path(POD, &[t]),
            v,
        ),
        text_field(
            "spec.gateways[edge].resources",
            |t| edge(json!({"resources": {"limits": {t: "7m"}}})),
            gateway,
            |t| path("spec template spec containers name=istio-proxy resources limits", &[t]),
            |_| "7m".to_owned(),
        ),
        accepts_all(text_field(
            "spec.gateways[edge].service.annotations",
            |t| edge(json!({"service": {"annotations": {"k": t}}})),
            service,
            |_| path("metadata annotations k", &[]),
            text,
        )),
        text_field(
            "spec.gateways[edge].service.annotations",
            |t| edge(json!({"service": {"annotations": {t: "v"}}})),
            service,
            |t| path("metadata annotations", &[t]),
            v,
        ),
        text_field(
            "spec.gateways[edge].service.loadBalancerClass",
            |t| edge(json!({"service": {"loadBalancerClass": t}})),
            service,
            |_| path("spec loadBalancerClass", &[]),
            text,
        ),
    ]
}

#[test]
fn texts_render_unchanged_or_are_rejected() {
    for renderer in ChartRenderer::all() {
        for case in text_fields() {
            for text in TEXTS {
                match renderer.objects_of_workloads(&(case.spec)(text)) {
                    Ok(objects) => {
                        let path = (case.path)(text);
                        let seen = value_at_path(&objects, &(case.object)(text), path.iter().map(String::as_str));
                        let expected = (case.expected)(text);
                        assert_eq!(seen, expected, "{} {}: {text:?} at {path:?}", renderer.version(), case.field);
                    }
                    Err(problem) => {
                        assert!(!case.accepts_all && text != "plain", "{}: {text:?}: {problem}", case.field);
                        assert!(problem.starts_with(case.field), "{} of {text:?}: {problem}", case.field);
                    }
                }
            }
        }
    }
}

#[test]
fn numeric_namespace_names_stay_strings() {
    for renderer in ChartRenderer::all() {
        let objects =
            renderer.objects(&json!({"namespace": "123", "gateways": [{"name": "edge", "namespace": "1e3"}]}));
        let objects = objects.unwrap();
        for (key, object) in &objects {
            let in_text = key.contains(" 123/") || key.contains(" 1e3/");
            assert_eq!(in_text, object["metadata"]["namespace"].is_string(), "{key}");
        }
        let subject = value_at_path(
            &objects,
            "ClusterRoleBinding istiod-clusterrole-123",
            ["subjects", "0", "namespace"].into_iter(),
        );
        assert_eq!(subject, "123");
    }
}

#[test]
fn quantities_are_decimal() {
    for renderer in ChartRenderer::all() {
        let limits = json!({"cpu": "010", "memory": "0100Mi", "example.com/x": "0"});
        let objects = renderer.objects(&json!({"controlPlane": {"resources": {"limits": limits}}})).unwrap();
        let path = path(DISCOVERY, &["resources", "limits"]);
        let seen = value_at_path(&objects, "Deployment istio-system/istiod", path.iter().map(String::as_str));
        assert_eq!(seen, json!({"cpu": 10, "memory": "100Mi", "example.com/x": 0}));
    }
}

#[test]
fn duplicate_environment_variable_is_reported() {
    for renderer in ChartRenderer::all() {
        let env = json!([{"name": "CLUSTER_ID", "value": "mine"}]);
        let error = renderer.objects(&json!({"controlPlane": {"env": env}})).unwrap_err();
        for word in ["istiod/templates/deployment.yaml", "container discovery", "CLUSTER_ID twice"] {
            assert!(error.contains(word), "{word:?} is missing in: {error}");
        }
    }
}

#[test]
fn env_combines_with_env_var_from() {
    for renderer in ChartRenderer::all() {
        let theirs = json!([{"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]);
        let spec = json!({
            "controlPlane": {"env": [{"name": "A", "value": "\"quoted\""}]},
            "values": {"istiod": {"envVarFrom": theirs}},
        });
        let objects = renderer.objects(&spec).unwrap();
        let variable = |name: &str, field: &str| {
            let path = path(DISCOVERY, &["env", name, field]);
            value_at_path(&objects, "Deployment istio-system/istiod", path.iter().map(String::as_str))
        };
        assert_eq!(variable("name=A", "value"), "\"quoted\"");
        assert!(variable("name=B", "valueFrom").is_object());
    }
}

#[test]
fn template_errors_name_release_and_template() {
    for renderer in ChartRenderer::all() {
        let error = renderer.objects(&json!({"values": {"istiod": {"podLabels": {"a": "x\"y"}}}})).unwrap_err();
        assert!(error.starts_with("release istiod: istiod/templates/deployment.yaml:"), "{error}");
        assert!(!error.contains('\n') && error.matches("deployment.yaml").count() == 1, "{error}");
    }
}
