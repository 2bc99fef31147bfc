//! What platforms come to with the real charts.

use meshwright_api::PlatformName;
use serde_json::{Value, json};

use super::rendering::{Mill, look};
use super::rows::INJECTOR;

#[test]
fn every_platform_renders_and_its_webhook_labels_are_on_every_webhook_configuration() {
    for mill in Mill::all() {
        for platform in PlatformName::KNOWN {
            let objects = mill.objects(&json!({"platform": platform, "profile": "demo"})).unwrap();
            let webhooks: Vec<&Value> = objects
                .values()
                .filter(|object| object["kind"].as_str().is_some_and(|kind| kind.ends_with("WebhookConfiguration")))
                .collect();
            assert!(webhooks.len() >= 3, "{} {platform}", mill.version());
            for webhook in webhooks {
                let label = webhook["metadata"]["labels"]["admissions.enforcer/disabled"].as_str();
                assert_eq!(label, (*platform == "aks").then_some("true"), "{} {platform}", webhook["metadata"]["name"]);
            }
        }
    }
}

#[test]
fn on_gke_the_node_agents_have_the_quota_that_their_priority_class_needs() {
    for mill in Mill::all() {
        let agents = json!({"platform": "gke", "profile": "ambient"});
        let objects = mill.objects_of_workloads(&agents).unwrap();
        let quotas: Vec<_> = objects.values().filter(|object| object["kind"] == "ResourceQuota").collect();
        assert_eq!(quotas.len(), 2, "{}", mill.version());
        for quota in quotas {
            let classes = &quota["spec"]["scopeSelector"]["matchExpressions"][0];
            assert_eq!(classes["values"], json!(["system-node-critical"]), "{quota}");
        }
    }
}

#[test]
fn pods_rely_on_a_cni_plugin_where_it_is_installed_and_nowhere_else() {
    for mill in Mill::all() {
        for platform in PlatformName::KNOWN {
            for mode in ["Profile", "Disabled"] {
                let objects = mill.objects(&json!({"platform": platform, "cni": {"mode": mode}})).unwrap();
                let relies = look(&objects, INJECTOR, "data values yaml pilot cni enabled");
                let installed = objects.keys().any(|key| key.ends_with("/istio-cni-node"));
                assert_eq!(relies, installed, "{} {platform} {mode}", mill.version());
                assert_eq!(installed, *platform == "openshift" && mode == "Profile", "{platform} {mode}");
            }
        }
    }
}
