//! Objects for each platform, with Istio's charts.

use meshwright_api::PlatformName;
use serde_json::{Value, json};

use super::field_effects::INJECTOR;
use super::rendering::{ChartRenderer, value_at};

#[test]
fn webhooks_have_platform_labels() {
    for renderer in ChartRenderer::all() {
        for platform in PlatformName::KNOWN {
            let objects = renderer.objects(&json!({"platform": platform, "profile": "demo"})).unwrap();
            let webhooks: Vec<&Value> = objects
                .values()
                .filter(|object| object["kind"].as_str().is_some_and(|kind| kind.ends_with("WebhookConfiguration")))
                .collect();
            assert!(webhooks.len() >= 3, "{} {platform}", renderer.version());
            for webhook in webhooks {
                let label = webhook["metadata"]["labels"]["admissions.enforcer/disabled"].as_str();
                assert_eq!(label, (*platform == "aks").then_some("true"), "{} {platform}", webhook["metadata"]["name"]);
            }
        }
    }
}

#[test]
fn gke_has_quotas_for_the_priority_class() {
    for renderer in ChartRenderer::all() {
        let spec = json!({"platform": "gke", "profile": "ambient"});
        let objects = renderer.objects_of_workloads(&spec).unwrap();
        let quotas: Vec<_> = objects.values().filter(|object| object["kind"] == "ResourceQuota").collect();
        assert_eq!(quotas.len(), 2, "{}", renderer.version());
        for quota in quotas {
            let classes = &quota["spec"]["scopeSelector"]["matchExpressions"][0];
            assert_eq!(classes["values"], json!(["system-node-critical"]), "{quota}");
        }
    }
}

#[test]
fn injector_uses_cni_only_where_installed() {
    for renderer in ChartRenderer::all() {
        for platform in PlatformName::KNOWN {
            for mode in ["Profile", "Disabled"] {
                let objects = renderer.objects(&json!({"platform": platform, "cni": {"mode": mode}})).unwrap();
                let uses_cni = value_at(&objects, INJECTOR, "data values yaml pilot cni enabled");
                let installed = objects.keys().any(|key| key.ends_with("/istio-cni-node"));
                assert_eq!(uses_cni, installed, "{} {platform} {mode}", renderer.version());
                assert_eq!(installed, *platform == "openshift" && mode == "Profile", "{platform} {mode}");
            }
        }
    }
}
