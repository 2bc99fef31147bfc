//! Tests of a platform's effect on the values of an installation.

use meshwright_api::{MeshInstallationSpec, Profile as ProfileName};
use serde_json::{Value, json};

use super::super::{GENERIC, Platforms};
use crate::catalog::Profile;
use crate::mesh::effective::ENFORCER_LABEL;
use crate::mesh::object::Owner;
use crate::mesh::problem::Problem;
use crate::mesh::validate::validate;
use crate::mesh::validated::ValidatedSpec;

fn on(platform: &str, profile: ProfileName, spec: Value) -> ValidatedSpec {
    attempt(platform, profile, spec).unwrap()
}

fn attempt(platform: &str, profile: ProfileName, spec: Value) -> Result<ValidatedSpec, Vec<Problem>> {
    let mut spec = spec;
    spec["version"] = "1.31.2".into();
    spec["profile"] = profile.as_str().into();
    let spec: MeshInstallationSpec = serde_json::from_value(spec).unwrap();
    let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 31, 2) };
    let platforms = Platforms::bundled().unwrap();
    validate(&spec, owner, &Profile::get(profile).unwrap(), platforms.get(platform).unwrap())
}

fn values<'a>(validated: &'a ValidatedSpec, release: &str) -> &'a Value {
    &validated.releases.iter().find(|found| found.name == release).unwrap().values
}

fn gateway(platform: &str, gateway: Value) -> Value {
    let mut gateway = gateway;
    gateway["name"] = "g".into();
    values(&on(platform, ProfileName::Default, json!({"gateways": [gateway]})), "g").clone()
}

#[test]
fn passes_platform_to_all_charts() {
    for name in ["gke", "k3d", "k3s", "microk8s", "minikube", "openshift"] {
        let validated = on(name, ProfileName::Demo, json!({"gateways": [{"name": "g"}]}));
        for release in &validated.releases {
            assert_eq!(release.values["global"]["platform"], name, "{}", release.name);
        }
    }
}

#[test]
fn omits_platforms_unknown_to_charts() {
    for name in [GENERIC, "eks", "aks", "kind", "docker-desktop", "vmware-pks", "tkgi"] {
        let validated = on(name, ProfileName::Demo, json!({"gateways": [{"name": "g"}]}));
        for release in &validated.releases {
            assert_eq!(release.values.pointer("/global/platform"), None, "{name} {}", release.name);
        }
    }
    assert_eq!(gateway(GENERIC, json!({})), json!({"service": {"type": "LoadBalancer"}}));
}

#[test]
fn ingress_gateways_have_default_type_of_platform() {
    let service_type = |platform: &str, spec: Value| gateway(platform, spec)["service"]["type"].clone();
    for platform in ["minikube", "tkgi", "vmware-pks"] {
        assert_eq!(service_type(platform, json!({})), "NodePort", "{platform}");
        assert_eq!(service_type(platform, json!({"direction": "Egress"})), "ClusterIP", "{platform}");
        let explicit = json!({"service": {"type": "LoadBalancer"}});
        assert_eq!(service_type(platform, explicit), "LoadBalancer", "{platform}");
        let implied = json!({"service": {"loadBalancerClass": "example.com/lb"}});
        assert_eq!(service_type(platform, implied), "LoadBalancer", "{platform}");
    }
    assert_eq!(service_type("gke", json!({})), "LoadBalancer");
}

#[test]
fn requests_of_platform_override_profile() {
    let pointer = "/resources/requests/cpu";
    let requests = |platform: &str, spec: Value| {
        values(&on(platform, ProfileName::Minimal, spec), "istiod").pointer(pointer).cloned()
    };
    assert_eq!(requests(GENERIC, json!({})), Some(json!("100m")));
    assert_eq!(requests("minikube", json!({})), Some(json!("10m")));
    let users = json!({"controlPlane": {"resources": {"requests": {"cpu": "200m"}}}});
    assert_eq!(requests("minikube", users), Some(json!("200m")));
    let free = json!({"values": {"istiod": {"resources": {"requests": {"cpu": "300m"}}}}});
    assert_eq!(requests("docker-desktop", free), Some(json!("300m")));
    assert_eq!(gateway("minikube", json!({})).pointer(pointer), Some(&json!("10m")));
}

#[test]
fn openshift_includes_cni_in_kube_system() {
    let cni_namespace = |platform: &str, spec: Value| {
        let releases = on(platform, ProfileName::Default, spec).releases;
        releases.into_iter().find(|release| release.name == "istio-cni").map(|release| release.namespace)
    };
    assert_eq!(cni_namespace("openshift", json!({})).as_deref(), Some("kube-system"));
    assert_eq!(cni_namespace("openshift", json!({"cni": {"namespace": "nodes"}})).as_deref(), Some("nodes"));
    assert_eq!(cni_namespace("openshift", json!({"cni": {"mode": "Disabled"}})), None);
    assert_eq!(cni_namespace("gke", json!({})), None);
    let without = on("openshift", ProfileName::Default, json!({"cni": {"mode": "Disabled"}}));
    let relies = values(&without, "istiod").pointer("/pilot/cni/enabled");
    assert_eq!(relies, Some(&json!(false)), "otherwise the charts' values for OpenShift omit istio-init");
}

#[test]
fn rejects_profiles_of_other_platforms() {
    let problems = |platform: &str| attempt(platform, ProfileName::Openshift, json!({})).err().unwrap_or_default();
    assert_eq!((problems("openshift"), problems(GENERIC)), (vec![], vec![]));
    let problems_on_gke = problems("gke");
    assert_eq!(problems_on_gke.len(), 1);
    assert_eq!(problems_on_gke[0].field, "spec.profile");
    assert!(
        problems_on_gke[0].message.contains("requires platform openshift, but the platform is gke"),
        "{}",
        problems_on_gke[0].message
    );
}

#[test]
fn aks_webhooks_have_enforcer_label() {
    let labels = on("aks", ProfileName::Default, json!({})).webhook_labels;
    assert_eq!(labels.keys().collect::<Vec<_>>(), [ENFORCER_LABEL]);
    assert!(on("eks", ProfileName::Default, json!({})).webhook_labels.is_empty());
}
