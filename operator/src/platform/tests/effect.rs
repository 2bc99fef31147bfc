//! What a platform does to the values of an installation.

use meshwright_api::{MeshInstallationSpec, Profile as ProfileName};
use serde_json::{Value, json};

use super::super::{GENERIC, Platforms};
use crate::catalog::Profile;
use crate::mesh::effective::ENFORCER_LABEL;
use crate::mesh::object::Owner;
use crate::mesh::problem::Problem;
use crate::mesh::validate::validate;
use crate::mesh::validated::Validated;

fn on(platform: &str, profile: ProfileName, spec: Value) -> Validated {
    attempt(platform, profile, spec).unwrap()
}

fn attempt(platform: &str, profile: ProfileName, spec: Value) -> Result<Validated, Vec<Problem>> {
    let mut spec = spec;
    spec["version"] = "1.31.2".into();
    spec["profile"] = profile.as_str().into();
    let spec: MeshInstallationSpec = serde_json::from_value(spec).unwrap();
    let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 31, 2) };
    let platforms = Platforms::bundled().unwrap();
    validate(&spec, owner, &Profile::get(profile).unwrap(), platforms.get(platform).unwrap())
}

fn values<'a>(validated: &'a Validated, release: &str) -> &'a Value {
    &validated.releases.iter().find(|found| found.name == release).unwrap().values
}

fn gateway(platform: &str, gateway: Value) -> Value {
    let mut gateway = gateway;
    gateway["name"] = "g".into();
    values(&on(platform, ProfileName::Default, json!({"gateways": [gateway]})), "g").clone()
}

#[test]
fn the_charts_own_platform_is_given_to_every_chart() {
    for name in ["gke", "k3d", "k3s", "microk8s", "minikube", "openshift"] {
        let validated = on(name, ProfileName::Demo, json!({"gateways": [{"name": "g"}]}));
        for release in &validated.releases {
            assert_eq!(release.values["global"]["platform"], name, "{}", release.name);
        }
    }
}

#[test]
fn where_the_platform_is_not_known_nothing_is_said_of_it() {
    for name in [GENERIC, "eks", "aks", "kind", "docker-desktop", "vmware-pks", "tkgi"] {
        let validated = on(name, ProfileName::Demo, json!({"gateways": [{"name": "g"}]}));
        for release in &validated.releases {
            assert_eq!(release.values.pointer("/global/platform"), None, "{name} {}", release.name);
        }
    }
    assert_eq!(gateway(GENERIC, json!({})), json!({"service": {"type": "LoadBalancer"}}));
}

#[test]
fn an_ingress_gateway_has_the_type_that_works_there_unless_the_spec_says_otherwise() {
    let service_type = |platform: &str, spec: Value| gateway(platform, spec)["service"]["type"].clone();
    for platform in ["minikube", "tkgi", "vmware-pks"] {
        assert_eq!(service_type(platform, json!({})), "NodePort", "{platform}");
        assert_eq!(service_type(platform, json!({"direction": "Egress"})), "ClusterIP", "{platform}");
        let asked = json!({"service": {"type": "LoadBalancer"}});
        assert_eq!(service_type(platform, asked), "LoadBalancer", "{platform}");
        let meant = json!({"service": {"loadBalancerClass": "example.com/lb"}});
        assert_eq!(service_type(platform, meant), "LoadBalancer", "{platform}");
    }
    assert_eq!(service_type("gke", json!({})), "LoadBalancer");
}

#[test]
fn requests_are_the_platforms_over_the_profiles_and_the_users_over_both() {
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
fn on_openshift_the_node_agent_comes_along_in_its_usual_namespace_unless_the_spec_says_otherwise() {
    let agent = |platform: &str, spec: Value| {
        let releases = on(platform, ProfileName::Default, spec).releases;
        releases.into_iter().find(|release| release.name == "istio-cni").map(|release| release.namespace)
    };
    assert_eq!(agent("openshift", json!({})).as_deref(), Some("kube-system"));
    assert_eq!(agent("openshift", json!({"cni": {"namespace": "nodes"}})).as_deref(), Some("nodes"));
    assert_eq!(agent("openshift", json!({"cni": {"mode": "Disabled"}})), None);
    assert_eq!(agent("gke", json!({})), None);
    let without = on("openshift", ProfileName::Default, json!({"cni": {"mode": "Disabled"}}));
    let relies = values(&without, "istiod").pointer("/pilot/cni/enabled");
    assert_eq!(relies, Some(&json!(false)), "the charts' values for OpenShift would leave istio-init out");
}

#[test]
fn a_profile_for_one_platform_is_refused_on_another() {
    let problems = |platform: &str| attempt(platform, ProfileName::Openshift, json!({})).err().unwrap_or_default();
    assert_eq!((problems("openshift"), problems(GENERIC)), (vec![], vec![]));
    let said = problems("gke");
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].field, "spec.profile");
    assert!(said[0].message.contains("is for platform openshift, and this is gke"), "{}", said[0].message);
}

#[test]
fn the_label_that_keeps_the_enforcer_away_is_the_one_by_which_it_is_lived_with() {
    let labels = on("aks", ProfileName::Default, json!({})).webhook_labels;
    assert_eq!(labels.keys().collect::<Vec<_>>(), [ENFORCER_LABEL]);
    assert!(on("eks", ProfileName::Default, json!({})).webhook_labels.is_empty());
}
