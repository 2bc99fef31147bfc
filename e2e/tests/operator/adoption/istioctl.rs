//! A mesh that istioctl installed becomes the operator's: the control plane as it is, the gateways when they may be replaced.

use std::fs;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use meshwright_e2e::mesh::{Mesh, NAME, VERSION, operator_writes};
use meshwright_e2e::witness::Injecting;
use meshwright_e2e::{Lab, LabOptions, Programs, TestResult, objects, run, wait};
use serde_json::{Value, json};
use tokio::process::Command;

use super::{GATEWAY, MESH, adopt, managers, pods, stalled, to_the_mesh, tool};

const ADMISSION: &str = "admissionregistration.k8s.io/v1";
/// The webhook that answers for the default where istioctl installed, and the one of the chart, which it switches off.
const STAND_IN: &str = "istio-revision-tag-default";
const INJECTOR: &str = "istio-sidecar-injector";
/// A gateway whose pods have labels that no chart would make of its name.
const INTERNAL: &str = "istio-ingressgateway-internal";

/// The manifests that istioctl of the release has in it: the module's, with the release's version in its charts, as
/// Istio's release build puts it there.
async fn manifests(dir: &Path) -> TestResult {
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

/// The gateways for ingress, of which the profile has one.
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

/// A mesh with both gateways of the demo profile and another one, and a few values.
async fn by_istioctl(lab: &Lab) -> TestResult {
    let dir = tempfile::tempdir()?;
    manifests(dir.path()).await?;
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
    Mesh::of(lab.client()).wait_strict().await?;
    Ok(())
}

fn without_patch(spec: &Value, name: &str) -> Value {
    let mut spec = spec.clone();
    let patches = spec["patches"].as_array_mut().into_iter();
    patches.for_each(|patches| patches.retain(|patch| patch["target"]["name"] != name));
    spec
}

/// Somebody notes on an object whom to call.
async fn note(api: &Api<DynamicObject>, name: &str) -> TestResult {
    let note = json!({"metadata": {"annotations": {"example.com/call": "the mesh team"}}});
    let params = PatchParams { field_manager: Some("somebody".into()), ..PatchParams::default() };
    api.patch(name, &params, &Patch::Merge(&note)).await?;
    Ok(())
}

#[test]
fn a_mesh_of_istioctls_becomes_ours_without_a_restart_and_its_gateways_when_they_may_be_replaced() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        by_istioctl(lab).await?;
        let deployments = mesh.api("apps/v1", "Deployment", Some(MESH));
        note(&deployments, "istiod").await?;
        objects::namespace(&lab.client(), "shop", &[("istio-injection", "enabled")]).await?;
        let before = pods(lab).await?;
        let asked = Injecting::start(lab.client(), "shop", Duration::from_millis(200));

        let (ran, spec) = adopt(lab, NAME, &[]).await?;
        assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
        let left = format!("left: Deployment {MESH}/{GATEWAY} is in nothing");
        assert!(ran.err.contains(&left) && ran.err.contains("--overwrite"), "{}", ran.err);
        assert!(ran.err.contains(&format!("{STAND_IN} answers instead")), "{}", ran.err);
        let (_, with_gateways) = adopt(lab, NAME, &["--overwrite"]).await?;

        let mark = lab.settled_audit().await?.mark();
        mesh.apply(NAME, without_patch(&spec, "istiod")).await?;
        let told = stalled(&mesh, "AdoptionDiffers").await?;
        assert!(told.contains(r#"labels["app.kubernetes.io/instance"]: "istio" -> "istiod""#), "{told}");
        let audit = lab.settled_audit().await?;
        assert_eq!(to_the_mesh(operator_writes(&audit, mark)), [""; 0]);
        mesh.apply(NAME, spec.clone()).await?;
        mesh.wait_ready(NAME).await?;
        assert_eq!(pods(lab).await?, before, "no Pod was replaced or restarted");
        let istiod = deployments.get("istiod").await?;
        assert!(!managers(&istiod).contains(&"istio-operator".to_owned()), "{:?}", managers(&istiod));
        assert!(istiod.annotations().contains_key("example.com/call"), "somebody else's stays");

        gateways_are_replaced(lab, &mesh, with_gateways).await?;
        the_default_is_ours(&mesh).await?;
        let seen = asked.end();
        assert!(seen.tried > 0 && seen.failures.is_empty(), "{seen:?}");
        Ok(())
    });
}

/// How many proxies a new pod of the shop gets.
async fn proxies_of_a_pod(mesh: &Mesh) -> TestResult<usize> {
    let shop: Api<Pod> = Api::namespaced(mesh.client(), "shop");
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let spec = shop.create(&dry, &objects::pod("once", &[("app", "once")])).await?.spec.unwrap_or_default();
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    Ok(all.filter(|container| container.name == "istio-proxy").count())
}

/// The injector of the control plane is switched on again, and what stood in for it goes.
async fn the_default_is_ours(mesh: &Mesh) -> TestResult {
    let webhooks = mesh.api(ADMISSION, "MutatingWebhookConfiguration", None);
    let injector = webhooks.get(INJECTOR).await?.data;
    assert!(!injector.to_string().contains("istio.io/deactivated"), "{injector}");
    assert_eq!(proxies_of_a_pod(mesh).await?, 1, "though both answer");
    webhooks.delete(STAND_IN, &DeleteParams::default()).await?;
    let services: Api<Service> = Api::namespaced(mesh.client(), MESH);
    services.delete("istiod-revision-tag-default", &DeleteParams::default()).await?;
    assert_eq!(proxies_of_a_pod(mesh).await?, 1);
    let validators = mesh.api(ADMISSION, "ValidatingWebhookConfiguration", None);
    let validator = validators.get("istiod-default-validator").await?.data;
    assert!(validator.pointer("/webhooks/0/clientConfig/caBundle").is_some(), "{validator}");
    mesh.wait_ready(NAME).await?;
    Ok(())
}

/// No Deployment's selector can be changed: that is known before the Service leads to pods that never come.
async fn another_selector_is_refused(lab: &Lab, mesh: &Mesh, mut spec: Value) -> TestResult {
    let internal = spec["gateways"].as_array_mut().into_iter().flatten().find(|gateway| gateway["name"] == INTERNAL);
    let removed = internal.and_then(Value::as_object_mut).and_then(|gateway| gateway.remove("values"));
    assert_eq!(removed, Some(json!({"labels": {"app": GATEWAY, "istio": "internal"}})));
    let mark = lab.settled_audit().await?.mark();
    mesh.apply(NAME, spec).await?;
    let told = stalled(mesh, "AdoptionDiffers").await?;
    assert!(told.contains(r#"spec.selector.matchLabels.istio: "internal" -> "ingressgateway-internal""#), "{told}");
    // Gateways are taken over one after the other; nothing of this one is, its Service least of all.
    let mut writes = operator_writes(&lab.settled_audit().await?, mark);
    writes.retain(|write| write.contains(INTERNAL));
    assert_eq!(writes, [""; 0]);
    Ok(())
}

/// Their Services stay as they are, and istiod too.
async fn gateways_are_replaced(lab: &Lab, mesh: &Mesh, spec: Value) -> TestResult {
    let services: Api<Service> = Api::namespaced(lab.client(), MESH);
    let place = async || -> TestResult<Value> {
        let mut all = Vec::new();
        for name in [GATEWAY, INTERNAL] {
            let spec = services.get(name).await?.spec.unwrap_or_default();
            all.push(json!([spec.cluster_ip, spec.ports, spec.selector]));
        }
        Ok(Value::Array(all))
    };
    let (address, before) = (place().await?, pods(lab).await?);
    another_selector_is_refused(lab, mesh, spec.clone()).await?;
    mesh.apply(NAME, spec).await?;
    mesh.wait_ready(NAME).await?;
    assert_eq!(place().await?, address);
    wait::until(wait::PATIENCE, "the gateways' old Pods to be gone", async || {
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
