//! The values that the operator adds to those of the injector: the template of the check that istiod has loaded its
//! configuration, and the hash of what injected pods get.

use meshwright::mesh::decode::{ConfigDocument, ReleaseTypes, rejections};
use meshwright::mesh::injected_configuration::INJECTED_CONFIGURATION_ANNOTATION;
use meshwright::mesh::loaded_configuration::TEMPLATE_NAME;
use meshwright::mesh::proxy_inputs::PROXY_INPUTS_ANNOTATION;
use serde_json::{Value, json};

use super::rendering::{ChartRenderer, Objects, value_at, value_at_path};

const INJECTOR: &str = "ConfigMap istio-system/istio-sidecar-injector";

/// The hash in a key of the injector's ConfigMap.
fn hash(objects: &Objects, document: &str) -> String {
    let path = match document {
        "config" => vec!["data", "config", "yaml", "injectedAnnotations", INJECTED_CONFIGURATION_ANNOTATION],
        _ => vec![
            "data",
            "values",
            "yaml",
            "sidecarInjectorWebhook",
            "injectedAnnotations",
            INJECTED_CONFIGURATION_ANNOTATION,
        ],
    };
    value_at_path(objects, INJECTOR, path.into_iter()).as_str().unwrap_or_default().to_owned()
}

fn profiles() -> [Value; 3] {
    [
        json!({"profile": "default"}),
        json!({"profile": "ambient"}),
        json!({"profile": "openshift", "platform": "openshift"}),
    ]
}

#[test]
fn injector_gets_template_and_hash() {
    for renderer in ChartRenderer::all().into_iter().map(ChartRenderer::with_operator_values) {
        let types = ReleaseTypes::of(&renderer.version().parse().unwrap());
        for fields in profiles() {
            let objects = renderer.objects_of_workloads(&fields).unwrap();
            let config = value_at(&objects, INJECTOR, "data config yaml");
            assert!(config["templates"][TEMPLATE_NAME].as_str().is_some_and(|text| text.contains("toJson .Values")));
            assert_eq!(config["defaultTemplates"], json!(["sidecar"]), "{}", renderer.version());
            let found = hash(&objects, "config");
            assert!(found.len() == 16 && found.chars().all(|c| c.is_ascii_hexdigit()), "{found:?} {fields}");
            assert_eq!(hash(&objects, "values"), found);
            for (key, object) in &objects {
                assert!(!object.to_string().contains("meshwright-hash-of"), "{key} has a placeholder");
            }
            for document in [ConfigDocument::Config, ConfigDocument::Values] {
                let value = value_at(&objects, INJECTOR, &format!("data {} yaml", document.key()));
                assert_eq!(rejections(types, document, &value), [], "{}", renderer.version());
            }
        }
    }
}

#[test]
fn hash_changes_with_what_pods_get() {
    for renderer in ChartRenderer::all().into_iter().map(ChartRenderer::with_operator_values) {
        let of = |fields: Value| hash(&renderer.objects_of_workloads(&fields).unwrap(), "config");
        let before = of(json!({}));
        assert_ne!(before, of(json!({"meshConfig": {"defaultConfig": {"tracing": {"zipkin": {"address": "a:1"}}}}})));
        assert_ne!(before, of(json!({"proxy": {"logLevel": "debug"}})));
        assert_ne!(before, of(json!({"injector": {"injectedAnnotations": {"a": "b"}}})));
        assert_eq!(before, of(json!({"meshConfig": {"accessLogFile": "/dev/stderr"}})), "sent to running proxies");
        assert_eq!(before, of(json!({"controlPlane": {"replicas": 3}})));
    }
}

#[test]
fn operator_values_keep_inputs_of_gateways() {
    let path = ["spec", "template", "metadata", "annotations", PROXY_INPUTS_ANNOTATION];
    let inputs = |renderer: &ChartRenderer| {
        let objects = renderer.objects_of_workloads(&json!({})).unwrap();
        value_at_path(&objects, "Deployment istio-system/edge", path.into_iter())
    };
    for renderer in ChartRenderer::all() {
        let before = inputs(&renderer);
        assert!(before.is_string(), "{before}");
        assert_eq!(inputs(&renderer.with_operator_values()), before);
    }
}
