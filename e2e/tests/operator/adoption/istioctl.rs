//! Adoption of a mesh that istioctl installed: the control plane in place, the gateways with replacement.

use std::fs;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use meshwright_e2e::mesh::{Mesh, NAME, VERSION, operator_writes};
use meshwright_e2e::recorder::InjectionMonitor;
use meshwright_e2e::{Lab, LabOptions, Programs, TestResult, objects, run, wait};
use serde_json::{Value, json};
use tokio::process::Command;

use super::{GATEWAY, MESH, adopt, managers, mesh_writes, pods, stalled, tool};

const ADMISSION: &str = "admissionregistration.k8s.io/v1";
/// The webhook that istioctl creates for the default tag, and the chart's webhook, which istioctl deactivates.
const DEFAULT_TAG_WEBHOOK: &str = "istio-revision-tag-default";
const INJECTOR: &str = "istio-sidecar-injector";
/// A gateway whose labels the gateway chart can't derive from its name.
const INTERNAL: &str = "istio-ingressgateway-internal";

/// Exports istioctl's manifests from the Go module and sets the release's version in the charts, like Istio's release
/// build.
async fn export_manifests(dir: &Path) -> TestResult {
    let exported = Command::new(Programs::find()?.path("export-charts")).arg(dir).kill_on_drop(true).status().await?;
    assert!(exported.success(), "export-charts: {exported}");
    let charts = ["base", "istio-control/istio-discovery", "gateways/istio-ingress", "gateways/istio-egress"];
    for chart in charts.map(|chart| dir.join("charts").join(chart).join("Chart.yaml")) {
        let text = fs::read_to_string(&chart)?;
        assert!(text.contains("ersion: 1.0.0"), "{text}");
        fs::write(&chart, text.replace("ersion: 1.0.0", &format!("ersion: {VERSION}")))?;
    }
    Ok(())
}

/// An `IstioOperator` with two ingress gateways; the profile has one.
fn ingress() -> Value {
    let gateways = json!([
        {"name": GATEWAY, "enabled": true},
        {"name": INTERNAL, "enabled": true, "label": {"istio": "internal"}},
    ]);
    json!({
        "apiVersion": "install.istio.io/v1alpha1", "kind": "IstioOperator",
        "spec": {"components": {"ingressGateways": gateways}},
    })
}

/// Installs a mesh with the gateways of the demo profile, an additional one, and some values.
async fn install_with_istioctl(lab: &Lab) -> TestResult {
    let dir = tempfile::tempdir()?;
    export_manifests(dir.path()).await?;
    let from = dir.path().display().to_string();
    let gateways = dir.path().join("gateways.yaml");
    fs::write(&gateways, ingress().to_string())?;
    let file = gateways.display().to_string();
    let set = [
        "profile=demo",
        "meshConfig.accessLogFile=/dev/stdout",
        "values.pilot.env.PILOT_PUSH_THROTTLE=50",
        "values.pilot.resources.requests.memory=100Mi",
        "values.global.proxy.logLevel=info",
    ];
    let set: Vec<&str> = set.iter().flat_map(|value| ["--set", *value]).collect();
    let install = ["install", "--skip-confirmation", "--manifests", &from, "--filename", &file];
    tool(lab, "istioctl", &[&install[..], &set].concat()).await?;
    Mesh::connect(lab.client()).wait_fail_closed().await?;
    Ok(())
}

fn without_patch(spec: &Value, name: &str) -> Value {
    let mut spec = spec.clone();
    let patches = spec["patches"].as_array_mut().into_iter();
    patches.for_each(|patches| patches.retain(|patch| patch["target"]["name"] != name));
    spec
}

/// Annotates an object with another field manager.
async fn annotate(api: &Api<DynamicObject>, name: &str) -> TestResult {
    let annotation = json!({"metadata": {"annotations": {"example.com/call": "the mesh team"}}});
    let params = PatchParams { field_manager: Some("another-manager".into()), ..PatchParams::default() };
    api.patch(name, &params, &Patch::Merge(&annotation)).await?;
    Ok(())
}

#[test]
fn adopts_istioctl_installation_without_restarting_istiod() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        install_with_istioctl(lab).await?;
        let deployments = mesh.api("apps/v1", "Deployment", Some(MESH));
        annotate(&deployments, "istiod").await?;
        objects::namespace(&lab.client(), "shop", &[("istio-injection", "enabled")]).await?;
        let before = pods(lab).await?;
        let monitor = InjectionMonitor::start(lab.client(), "shop", Duration::from_millis(200));

        let (output, spec) = adopt(lab, NAME, &[]).await?;
        assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
        let left = format!("not adopted: Deployment {MESH}/{GATEWAY}");
        assert!(output.stderr.contains(&left) && output.stderr.contains("--overwrite"), "{}", output.stderr);
        assert!(
            output.stderr.contains(&format!("{DEFAULT_TAG_WEBHOOK}, created by istioctl, is active instead")),
            "{}",
            output.stderr
        );
        let (_, with_gateways) = adopt(lab, NAME, &["--overwrite"]).await?;

        let start = lab.settled_audit().await?.position();
        mesh.apply(NAME, without_patch(&spec, "istiod")).await?;
        let message = stalled(&mesh, "AdoptionConflict").await?;
        assert!(message.contains(r#"labels["app.kubernetes.io/instance"]: "istio" -> "istiod""#), "{message}");
        let audit = lab.settled_audit().await?;
        assert_eq!(mesh_writes(operator_writes(&audit, start)), [""; 0]);
        mesh.apply(NAME, spec.clone()).await?;
        mesh.wait_ready(NAME).await?;
        assert_eq!(pods(lab).await?, before, "no Pod should be replaced or restarted");
        let istiod = deployments.get("istiod").await?;
        assert!(!managers(&istiod).contains(&"istio-operator".to_owned()), "{:?}", managers(&istiod));
        assert!(istiod.annotations().contains_key("example.com/call"), "annotations of other managers should remain");

        assert_gateways_replaced(lab, &mesh, with_gateways).await?;
        assert_default_tag_adopted(&mesh).await?;
        let results = monitor.stop();
        assert!(results.attempts > 0 && results.failures.is_empty(), "{results:?}");
        Ok(())
    });
}

/// Number of proxies in a new pod of the shop.
async fn injected_proxies(mesh: &Mesh) -> TestResult<usize> {
    let shop: Api<Pod> = Api::namespaced(mesh.client(), "shop");
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let spec = shop.create(&dry_run, &objects::pod("once", &[("app", "once")])).await?.spec.unwrap_or_default();
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    Ok(all.filter(|container| container.name == "istio-proxy").count())
}

/// Checks that the chart's webhook is active again and istioctl's webhook for the default tag can be deleted.
async fn assert_default_tag_adopted(mesh: &Mesh) -> TestResult {
    let webhooks = mesh.api(ADMISSION, "MutatingWebhookConfiguration", None);
    let injector = webhooks.get(INJECTOR).await?.data;
    assert!(!injector.to_string().contains("istio.io/deactivated"), "{injector}");
    assert_eq!(injected_proxies(mesh).await?, 1, "although both webhooks are active");
    webhooks.delete(DEFAULT_TAG_WEBHOOK, &DeleteParams::default()).await?;
    let services: Api<Service> = Api::namespaced(mesh.client(), MESH);
    services.delete("istiod-revision-tag-default", &DeleteParams::default()).await?;
    assert_eq!(injected_proxies(mesh).await?, 1);
    let validators = mesh.api(ADMISSION, "ValidatingWebhookConfiguration", None);
    let validator = validators.get("istiod-default-validator").await?.data;
    assert!(validator.pointer("/webhooks/0/clientConfig/caBundle").is_some(), "{validator}");
    mesh.wait_ready(NAME).await?;
    Ok(())
}

/// Checks that a changed selector, which is immutable, is rejected before the Service is written.
async fn assert_selector_change_rejected(lab: &Lab, mesh: &Mesh, mut spec: Value) -> TestResult {
    let internal = spec["gateways"].as_array_mut().into_iter().flatten().find(|gateway| gateway["name"] == INTERNAL);
    let removed = internal.and_then(Value::as_object_mut).and_then(|gateway| gateway.remove("values"));
    assert_eq!(removed, Some(json!({"labels": {"app": GATEWAY, "istio": "internal"}})));
    let start = lab.settled_audit().await?.position();
    mesh.apply(NAME, spec).await?;
    let message = stalled(mesh, "AdoptionConflict").await?;
    assert!(
        message.contains(r#"spec.selector.matchLabels.istio: "internal" -> "ingressgateway-internal""#),
        "{message}"
    );
    // Gateways are adopted one by one; no object of this one may be written.
    let mut writes = operator_writes(&lab.settled_audit().await?, start);
    writes.retain(|write| write.contains(INTERNAL));
    assert_eq!(writes, [""; 0]);
    Ok(())
}

/// Checks that the gateways' pods are replaced without changes to their Services or to istiod's pod.
async fn assert_gateways_replaced(lab: &Lab, mesh: &Mesh, spec: Value) -> TestResult {
    let services: Api<Service> = Api::namespaced(lab.client(), MESH);
    let service_specs = async || -> TestResult<Value> {
        let mut all = Vec::new();
        for name in [GATEWAY, INTERNAL] {
            let spec = services.get(name).await?.spec.unwrap_or_default();
            all.push(json!([spec.cluster_ip, spec.ports, spec.selector]));
        }
        Ok(Value::Array(all))
    };
    let (specs, before) = (service_specs().await?, pods(lab).await?);
    assert_selector_change_rejected(lab, mesh, spec.clone()).await?;
    mesh.apply(NAME, spec).await?;
    mesh.wait_ready(NAME).await?;
    assert_eq!(service_specs().await?, specs);
    wait::until(wait::TIMEOUT, "deletion of the gateways' old Pods", async || {
        let now = pods(lab).await.map_err(|error| error.to_string())?;
        let old: Vec<&String> =
            now.iter().filter(|(name, pod)| before.get(*name) == Some(pod)).map(|(name, _)| name).collect();
        if old.len() == 1 && old[0].starts_with("istiod-") { Ok(()) } else { Err(format!("{old:?}")) }
    })
    .await?;
    let all: Api<Pod> = Api::namespaced(lab.client(), MESH);
    for label in ["ingressgateway", "internal"] {
        let selected = ListParams::default().labels(&format!("app={GATEWAY},istio={label}"));
        let injected = all.list(&selected).await?.items;
        let has_proxy = |pod| objects::proxy(pod).is_some_and(|proxy| proxy.image.as_deref() != Some("auto"));
        assert!(!injected.is_empty() && injected.iter().all(has_proxy), "{label}");
    }
    Ok(())
}
