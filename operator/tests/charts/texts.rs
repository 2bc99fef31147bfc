//! Free texts of a spec arrive as they were written, or are refused with their field: never as something else.

use serde_json::{Value, json};

use super::rendering::{Mill, look_at};
use super::rows::edge;

/// What upsets YAML, shells and people.
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

/// One free text: how it is set, and where it arrives.
struct Place {
    field: &'static str,
    spec: fn(&str) -> Value,
    object: fn(&str) -> String,
    path: fn(&str) -> Vec<String>,
    expected: fn(&str) -> String,
    /// Every text must arrive; none may be refused.
    all: bool,
}

fn path(words: &str, last: &[&str]) -> Vec<String> {
    words.split_whitespace().chain(last.iter().copied()).map(str::to_owned).collect()
}

const POD: &str = "spec template metadata annotations";
const DISCOVERY: &str = "spec template spec containers name=discovery";

#[allow(clippy::too_many_lines, reason = "a table")]
fn places() -> Vec<Place> {
    let place = |field, spec, object, path, expected| Place { field, spec, object, path, expected, all: false };
    let everything = |place: Place| Place { all: true, ..place };
    let istiod: fn(&str) -> String = |_| "Deployment istio-system/istiod".to_owned();
    let gateway: fn(&str) -> String = |_| "Deployment istio-system/edge".to_owned();
    let service: fn(&str) -> String = |_| "Service istio-system/edge".to_owned();
    let injector: fn(&str) -> String = |_| "ConfigMap istio-system/istio-sidecar-injector".to_owned();
    let text: fn(&str) -> String = str::to_owned;
    let v: fn(&str) -> String = |_| "v".to_owned();
    vec![
        everything(place(
            "spec.controlPlane.env[A]",
            |t| json!({"controlPlane": {"env": [{"name": "A", "value": t}]}}),
            istiod,
            |_| path(DISCOVERY, &["env", "name=A", "value"]),
            text,
        )),
        place(
            "spec.controlPlane.env",
            |t| json!({"controlPlane": {"env": [{"name": t, "value": "v"}]}}),
            istiod,
            |t| path(DISCOVERY, &["env", &format!("name={t}"), "value"]),
            v,
        ),
        everything(place(
            "spec.controlPlane.podAnnotations",
            |t| json!({"controlPlane": {"podAnnotations": {"k": t}}}),
            istiod,
            |_| path(POD, &["k"]),
            text,
        )),
        place(
            "spec.controlPlane.podAnnotations",
            |t| json!({"controlPlane": {"podAnnotations": {t: "v"}}}),
            istiod,
            |t| path(POD, &[t]),
            v,
        ),
        place(
            "spec.controlPlane.nodeSelector",
            |t| json!({"controlPlane": {"nodeSelector": {"k": t}}}),
            istiod,
            |_| path("spec template spec nodeSelector k", &[]),
            text,
        ),
        place(
            "spec.controlPlane.nodeSelector",
            |t| json!({"controlPlane": {"nodeSelector": {t: "v"}}}),
            istiod,
            |t| path("spec template spec nodeSelector", &[t]),
            v,
        ),
        everything(place(
            "spec.controlPlane.tolerations",
            |t| json!({"controlPlane": {"tolerations": [{"key": "k", "value": t}]}}),
            istiod,
            |_| path("spec template spec tolerations key=k value", &[]),
            text,
        )),
        place(
            "spec.controlPlane.resources",
            |t| json!({"controlPlane": {"resources": {"limits": {t: "7m"}}}}),
            istiod,
            |t| path(DISCOVERY, &["resources", "limits", t]),
            |_| "7m".to_owned(),
        ),
        place(
            "spec.namespaceLabels",
            |t| json!({"namespaceLabels": {"k": t}}),
            |_| "Namespace istio-system".to_owned(),
            |_| path("metadata labels k", &[]),
            text,
        ),
        place(
            "spec.namespaceLabels",
            |t| json!({"namespaceLabels": {t: "v"}}),
            |_| "Namespace istio-system".to_owned(),
            |t| path("metadata labels", &[t]),
            v,
        ),
        everything(place(
            "spec.injector.injectedAnnotations",
            |t| json!({"injector": {"injectedAnnotations": {"k": t}}}),
            injector,
            |_| path("data config yaml injectedAnnotations k", &[]),
            text,
        )),
        place(
            "spec.injector.injectedAnnotations",
            |t| json!({"injector": {"injectedAnnotations": {t: "v"}}}),
            injector,
            |t| path("data config yaml injectedAnnotations", &[t]),
            v,
        ),
        everything(place(
            "spec.injector.neverInjectSelector",
            |t| json!({"injector": {"neverInjectSelector": [{"matchLabels": {"k": t}}]}}),
            injector,
            |_| path("data config yaml neverInjectSelector 0 matchLabels k", &[]),
            text,
        )),
        everything(place(
            "spec.proxy.accessLog.file",
            |t| json!({"proxy": {"accessLog": {"file": t}}}),
            |_| "ConfigMap istio-system/istio".to_owned(),
            |_| path("data mesh yaml accessLogFile", &[]),
            text,
        )),
        everything(place(
            "spec.meshConfig",
            |t| json!({"meshConfig": {"accessLogFormat": t}}),
            |_| "ConfigMap istio-system/istio".to_owned(),
            |_| path("data mesh yaml accessLogFormat", &[]),
            text,
        )),
        place(
            "spec.images.pullSecrets",
            |t| json!({"images": {"pullSecrets": [t]}}),
            |_| "ServiceAccount istio-system/istiod".to_owned(),
            |_| path("imagePullSecrets 0 name", &[]),
            text,
        ),
        everything(place(
            "spec.gateways[edge].podAnnotations",
            |t| edge(json!({"podAnnotations": {"k": t}})),
            gateway,
            |_| path(POD, &["k"]),
            text,
        )),
        place(
            "spec.gateways[edge].podAnnotations",
            |t| edge(json!({"podAnnotations": {t: "v"}})),
            gateway,
            |t| path(POD, &[t]),
            v,
        ),
        place(
            "spec.gateways[edge].resources",
            |t| edge(json!({"resources": {"limits": {t: "7m"}}})),
            gateway,
            |t| path("spec template spec containers name=istio-proxy resources limits", &[t]),
            |_| "7m".to_owned(),
        ),
        everything(place(
            "spec.gateways[edge].service.annotations",
            |t| edge(json!({"service": {"annotations": {"k": t}}})),
            service,
            |_| path("metadata annotations k", &[]),
            text,
        )),
        place(
            "spec.gateways[edge].service.annotations",
            |t| edge(json!({"service": {"annotations": {t: "v"}}})),
            service,
            |t| path("metadata annotations", &[t]),
            v,
        ),
        place(
            "spec.gateways[edge].service.loadBalancerClass",
            |t| edge(json!({"service": {"loadBalancerClass": t}})),
            service,
            |_| path("spec loadBalancerClass", &[]),
            text,
        ),
    ]
}

#[test]
fn free_texts_arrive_as_they_are_or_are_refused_with_their_field() {
    for mill in Mill::all() {
        for place in places() {
            for text in TEXTS {
                match mill.objects_of_workloads(&(place.spec)(text)) {
                    Ok(objects) => {
                        let path = (place.path)(text);
                        let seen = look_at(&objects, &(place.object)(text), path.iter().map(String::as_str));
                        let expected = (place.expected)(text);
                        assert_eq!(seen, expected, "{} {}: {text:?} at {path:?}", mill.version(), place.field);
                    }
                    Err(problem) => {
                        assert!(!place.all && text != "plain", "{}: {text:?}: {problem}", place.field);
                        assert!(problem.starts_with(place.field), "{} of {text:?}: {problem}", place.field);
                    }
                }
            }
        }
    }
}

#[test]
fn names_that_look_like_numbers_are_names() {
    for mill in Mill::all() {
        let objects = mill.objects(&json!({"namespace": "123", "gateways": [{"name": "edge", "namespace": "1e3"}]}));
        let objects = objects.unwrap();
        for (key, object) in &objects {
            let in_text = key.contains(" 123/") || key.contains(" 1e3/");
            assert_eq!(in_text, object["metadata"]["namespace"].is_string(), "{key}");
        }
        let subject =
            look_at(&objects, "ClusterRoleBinding istiod-clusterrole-123", ["subjects", "0", "namespace"].into_iter());
        assert_eq!(subject, "123");
    }
}

#[test]
fn amounts_are_decimal() {
    for mill in Mill::all() {
        let limits = json!({"cpu": "010", "memory": "0100Mi", "example.com/x": "0"});
        let objects = mill.objects(&json!({"controlPlane": {"resources": {"limits": limits}}})).unwrap();
        let path = path(DISCOVERY, &["resources", "limits"]);
        let seen = look_at(&objects, "Deployment istio-system/istiod", path.iter().map(String::as_str));
        assert_eq!(seen, json!({"cpu": 10, "memory": "100Mi", "example.com/x": 0}));
    }
}

#[test]
fn a_variable_that_the_chart_sets_too_is_named() {
    for mill in Mill::all() {
        let env = json!([{"name": "CLUSTER_ID", "value": "mine"}]);
        let error = mill.objects(&json!({"controlPlane": {"env": env}})).unwrap_err();
        for word in ["istiod/templates/deployment.yaml", "container discovery", "CLUSTER_ID twice"] {
            assert!(error.contains(word), "{word:?} is missing in: {error}");
        }
    }
}

#[test]
fn awkward_variables_go_beside_those_of_the_users_own_list() {
    for mill in Mill::all() {
        let theirs = json!([{"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]);
        let spec = json!({
            "controlPlane": {"env": [{"name": "A", "value": "\"quoted\""}]},
            "values": {"istiod": {"envVarFrom": theirs}},
        });
        let objects = mill.objects(&spec).unwrap();
        let variable = |name: &str, field: &str| {
            let path = path(DISCOVERY, &["env", name, field]);
            look_at(&objects, "Deployment istio-system/istiod", path.iter().map(String::as_str))
        };
        assert_eq!(variable("name=A", "value"), "\"quoted\"");
        assert!(variable("name=B", "valueFrom").is_object());
    }
}

#[test]
fn free_values_that_break_a_template_are_told_with_release_and_template() {
    for mill in Mill::all() {
        let error = mill.objects(&json!({"values": {"istiod": {"podLabels": {"a": "x\"y"}}}})).unwrap_err();
        assert!(error.starts_with("release istiod: istiod/templates/deployment.yaml:"), "{error}");
        assert!(!error.contains('\n') && error.matches("deployment.yaml").count() == 1, "{error}");
    }
}
