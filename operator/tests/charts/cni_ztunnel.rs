//! Objects for profiles, istio-cni, ztunnel and patches.

use std::sync::OnceLock;

use meshwright::mesh::object::Stage;
use serde_json::{Value, json};

use super::rendering::{ChartRenderer, Objects};

/// The objects of a spec with the newest release.
fn objects(fields: &Value) -> Objects {
    rendered(fields).unwrap_or_else(|error| panic!("{fields}: {error}"))
}

fn rendered(fields: &Value) -> Result<Objects, String> {
    renderer().objects_of_workloads(fields)
}

/// A renderer for the newest release.
fn renderer() -> &'static ChartRenderer {
    static RENDERER: OnceLock<ChartRenderer> = OnceLock::new();
    RENDERER.get_or_init(|| ChartRenderer::all().pop().expect("a release"))
}

const ISTIOD: &str = "Deployment istio-system/istiod";

fn container(workload: &Value) -> &Value {
    &workload["spec"]["template"]["spec"]["containers"][0]
}

fn variable<'a>(workload: &'a Value, name: &str) -> Option<&'a str> {
    let env = container(workload)["env"].as_array()?;
    env.iter().find(|variable| variable["name"] == name)?["value"].as_str()
}

#[test]
fn every_profile_renders_with_cni_and_ztunnel_modes() {
    let modes = [json!({}), json!({"mode": "Enabled"}), json!({"mode": "Disabled"})];
    let renderer = renderer();
    let mut count = 0;
    for profile in meshwright_api::Profile::ALL {
        for cni in &modes {
            for ztunnel in &modes {
                match renderer.objects_of_workloads(&json!({"profile": profile, "cni": cni, "ztunnel": ztunnel})) {
                    Ok(objects) => {
                        let found = objects.keys().filter(|key| key.starts_with("DaemonSet ")).count();
                        assert!(found <= 2, "{profile:?} {cni} {ztunnel}");
                        count += 1;
                    }
                    Err(error) => {
                        let refused = error.starts_with("spec.cni.mode") || error.starts_with("spec.ztunnel.mode");
                        assert!(refused, "{profile:?} {cni} {ztunnel}: {error}");
                    }
                }
            }
        }
    }
    // Of 9 combinations, 7 are valid for the 5 profiles without DaemonSets, 8 for the one with cni, 4 for the 2 with
    // both.
    assert_eq!(count, 5 * 7 + 8 + 2 * 4);
}

#[test]
fn ambient_profile_configures_istiod_cni_and_ztunnel() {
    let objects = objects(&json!({"profile": "ambient"}));
    assert_eq!(variable(&objects[ISTIOD], "PILOT_ENABLE_AMBIENT"), Some("true"));
    assert_eq!(variable(&objects[ISTIOD], "CA_TRUSTED_NODE_ACCOUNTS"), Some("istio-system/ztunnel"));
    assert_eq!(objects["ConfigMap istio-system/istio-cni-config"]["data"]["AMBIENT_ENABLED"], "true");
    assert!(objects.contains_key("ClusterRole istio-cni-ambient"));
    let ztunnel = &objects["DaemonSet istio-system/ztunnel"];
    assert_eq!(variable(ztunnel, "XDS_ADDRESS"), Some("istiod.istio-system.svc:15012"));
    assert!(container(ztunnel)["image"].as_str().is_some_and(|image| image.ends_with("-distroless")), "{ztunnel}");
    // With istio-cni, the injector adds no init container for traffic redirection.
    let injector = objects["ConfigMap istio-system/istio-sidecar-injector"]["data"]["values"].as_str().unwrap();
    let injector: Value = serde_json::from_str(injector).unwrap();
    assert_eq!(injector["pilot"]["cni"]["enabled"], true);
}

#[test]
fn ztunnel_enables_ambient_in_any_profile() {
    let agents = json!({"mode": "Enabled", "namespace": "nodes"});
    let objects = objects(&json!({"profile": "demo", "namespace": "mesh", "cni": agents, "ztunnel": agents}));
    let istiod = &objects["Deployment mesh/istiod"];
    assert_eq!(variable(istiod, "PILOT_ENABLE_AMBIENT"), Some("true"));
    assert_eq!(variable(istiod, "CA_TRUSTED_NODE_ACCOUNTS"), Some("nodes/ztunnel"));
    let args = container(istiod)["args"].as_array().unwrap();
    assert!(args.contains(&json!("--cniNamespace=nodes")), "{args:?}");
    let mesh = objects["ConfigMap mesh/istio"]["data"]["mesh"].as_str().unwrap();
    assert!(mesh.contains("ISTIO_META_ENABLE_HBONE: \"true\""), "{mesh}");
    assert_eq!(objects["ConfigMap nodes/istio-cni-config"]["data"]["AMBIENT_ENABLED"], "true");
    assert_eq!(variable(&objects["DaemonSet nodes/ztunnel"], "CA_ADDRESS"), Some("istiod.mesh.svc:15012"));
    let labels = &objects["Namespace nodes"]["metadata"]["labels"];
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "privileged");
    assert_eq!(objects["Namespace mesh"]["metadata"]["labels"].get("pod-security.kubernetes.io/enforce"), None);
}

#[test]
fn cni_without_ztunnel_is_not_ambient() {
    let objects = objects(&json!({"cni": {"mode": "Enabled"}}));
    assert_eq!(variable(&objects[ISTIOD], "PILOT_ENABLE_AMBIENT"), None);
    assert_eq!(objects["ConfigMap istio-system/istio-cni-config"]["data"]["AMBIENT_ENABLED"], "false");
    assert!(!objects.contains_key("DaemonSet istio-system/ztunnel"));
}

#[test]
fn openshift_uses_its_own_namespaces_and_paths() {
    let objects = objects(&json!({"profile": "openshift-ambient"}));
    for key in [
        "DaemonSet kube-system/istio-cni-node",
        "DaemonSet kube-system/ztunnel",
        "NetworkAttachmentDefinition default/istio-cni",
        "ClusterRole ztunnel",
    ] {
        assert!(objects.contains_key(key), "{key}");
    }
    // The operator neither creates nor labels the cluster's own namespaces.
    assert!(!objects.contains_key("Namespace kube-system") && !objects.contains_key("Namespace default"));
    assert_eq!(variable(&objects[ISTIOD], "PLATFORM"), Some("openshift"));
    assert_eq!(variable(&objects[ISTIOD], "CA_TRUSTED_NODE_ACCOUNTS"), Some("kube-system/ztunnel"));
    let volumes = &objects["DaemonSet kube-system/istio-cni-node"]["spec"]["template"]["spec"]["volumes"];
    assert!(volumes.to_string().contains("/etc/cni/multus/net.d"), "{volumes}");
}

#[test]
fn spec_overrides_chart_profile() {
    let sized = |cpu: &str| json!({"requests": {"cpu": cpu, "memory": "77Mi"}});
    let objects = objects(&json!({
        "profile": "demo",
        "controlPlane": {"autoscaling": {"minReplicas": 2, "maxReplicas": 7}, "resources": sized("11m")},
        "cni": {"mode": "Enabled", "resources": sized("12m")},
        "ztunnel": {"mode": "Enabled", "resources": sized("13m")},
        "values": {"istiod": {"traceSampling": 7}, "cni": {"updateStrategy": {"type": "OnDelete"}}},
    }));
    let requests = |workload: &str| container(&objects[workload])["resources"]["requests"].clone();
    assert_eq!(requests(ISTIOD), json!({"cpu": "11m", "memory": "77Mi"}));
    assert_eq!(requests("DaemonSet istio-system/istio-cni-node"), json!({"cpu": "12m", "memory": "77Mi"}));
    assert_eq!(requests("DaemonSet istio-system/ztunnel"), json!({"cpu": "13m", "memory": "77Mi"}));
    assert_eq!(objects["HorizontalPodAutoscaler istio-system/istiod"]["spec"]["maxReplicas"], 7);
    assert_eq!(variable(&objects[ISTIOD], "PILOT_TRACE_SAMPLING"), Some("7"));
    assert_eq!(objects["DaemonSet istio-system/istio-cni-node"]["spec"]["updateStrategy"]["type"], "OnDelete");
    // Other values are the profile's.
    let mesh = objects["ConfigMap istio-system/istio"]["data"]["mesh"].as_str().unwrap();
    assert!(mesh.contains("accessLogFile: /dev/stdout"), "{mesh}");
}

#[test]
fn image_settings_apply_to_every_component() {
    let images =
        json!({"registry": "registry.example/istio", "pullPolicy": "Always", "imagePullSecrets": [{"name": "key"}]});
    let objects = objects(&json!({"profile": "ambient", "images": images}));
    for (workload, account) in [
        (ISTIOD, "ServiceAccount istio-system/istiod"),
        ("DaemonSet istio-system/istio-cni-node", "ServiceAccount istio-system/istio-cni"),
        ("DaemonSet istio-system/ztunnel", "ServiceAccount istio-system/ztunnel"),
    ] {
        let container = container(&objects[workload]);
        let image = container["image"].as_str().unwrap();
        assert!(image.starts_with("registry.example/istio/"), "{workload}: {image}");
        assert_eq!(container["imagePullPolicy"], "Always", "{workload}");
        assert_eq!(objects[account]["imagePullSecrets"], json!([{"name": "key"}]), "{account}");
    }
}

#[test]
fn daemon_sets_follow_control_plane_stages() {
    let objects = renderer().desired(&json!({"profile": "openshift-ambient"})).unwrap();
    let stage = |key: &str| objects.iter().find(|object| object.key.to_string() == key).unwrap().stage;
    assert_eq!(stage("DaemonSet kube-system/istio-cni-node"), Stage::Cni);
    assert_eq!(stage("NetworkAttachmentDefinition default/istio-cni"), Stage::Cni);
    assert_eq!(stage("DaemonSet kube-system/ztunnel"), Stage::Ztunnel);
    assert_eq!(stage("ClusterRole istio-cni"), Stage::Roles);
    assert_eq!(stage("ConfigMap kube-system/istio-cni-config"), Stage::Configuration);
}

#[test]
fn patches_apply_before_labels_and_hashes() {
    let patch = |kind: &str, name: &str, path: &str, value: Value| json!({"target": {"kind": kind, "name": name}, "patch": [{"op": "add", "path": path, "value": value}]});
    let patches = json!([
        patch("Deployment", "istiod", "/spec/template/spec/priorityClassName", json!("high")),
        patch("DaemonSet", "ztunnel", "/spec/template/spec/nodeSelector/mesh", json!("yes")),
        patch("Namespace", "istio-system", "/metadata/labels/team", json!("mesh")),
    ]);
    let plain = objects(&json!({"profile": "ambient"}));
    let changed = objects(&json!({"profile": "ambient", "patches": patches}));
    assert_eq!(changed[ISTIOD]["spec"]["template"]["spec"]["priorityClassName"], "high");
    let selector = &changed["DaemonSet istio-system/ztunnel"]["spec"]["template"]["spec"]["nodeSelector"];
    assert_eq!(selector, &json!({"kubernetes.io/os": "linux", "mesh": "yes"}));
    assert_eq!(changed["Namespace istio-system"]["metadata"]["labels"]["team"], "mesh");
    let hash =
        |objects: &Objects, key: &str| objects[key]["metadata"]["annotations"]["meshwright.dev/desired-hash"].clone();
    assert_ne!(hash(&plain, ISTIOD), hash(&changed, ISTIOD));
    assert_eq!(hash(&plain, "Service istio-system/istiod"), hash(&changed, "Service istio-system/istiod"));

    let missed = json!({"patches": [patch("DaemonSet", "ztunnel", "/spec/paused", json!(true))]});
    assert_eq!(
        rendered(&missed).unwrap_err(),
        "spec.patches[0].target: DaemonSet ztunnel not found; the mesh has these of that kind: none"
    );
}
