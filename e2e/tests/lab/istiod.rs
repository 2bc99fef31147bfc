//! istiod's Pods run as real processes of the release in their image, with injected faults.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use meshwright_e2e::mesh::{LAB_1_31, LAB_1_32, LAB_1_32_PATCH};
use meshwright_e2e::{Fault, Lab, LabOptions, Programs, TestResult, objects, run, wait};
use serde_json::json;

#[test]
fn restarts_killed_istiod_process() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        install_istiod(lab, "latest").await?;
        let client = lab.client();
        objects::deployment_ready(&client, "istio-system", "istiod").await?;
        let injectors: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
        wait::until(wait::TIMEOUT, "istiod's caBundle on the injector", async || {
            let injector = injectors.get("istio-sidecar-injector").await.map_err(|error| error.to_string())?;
            let webhooks = injector.webhooks.unwrap_or_default();
            let bundles = webhooks.iter().filter(|webhook| webhook.client_config.ca_bundle.is_some()).count();
            if bundles == webhooks.len() { Ok(()) } else { Err(format!("on {bundles} of {}", webhooks.len())) }
        })
        .await?;
        wait::until(wait::TIMEOUT, "a dry-run Pod to be injected", async || injected(lab).await).await?;
        let validators: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
        wait::until(wait::TIMEOUT, "istiod to set the validator's failurePolicy", async || {
            let validator = validators.get("istio-validator-istio-system").await.map_err(|error| error.to_string())?;
            let policy = validator.webhooks.unwrap_or_default().pop().and_then(|webhook| webhook.failure_policy);
            if policy.as_deref() == Some("Fail") { Ok(()) } else { Err(format!("{policy:?}")) }
        })
        .await?;

        // Two replicas can listen on the same ports, because each Pod has its own address.
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), "istio-system");
        let scaler: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), "istio-system");
        scaler.delete("istiod", &DeleteParams::default()).await?;
        let two = json!({"spec": {"replicas": 2}});
        deployments.patch("istiod", &PatchParams::default(), &Patch::Merge(two)).await?;
        objects::deployment_ready(&client, "istio-system", "istiod").await?;

        let pods: Api<Pod> = Api::namespaced(client.clone(), "istio-system");
        let name = objects::pod_names(&client, "istio-system", "app=istiod").await?.pop().unwrap_or_default();
        let process = lab.process("istio-system", &name)?;
        assert!(process.memory()?.resident > 10 * 1024 * 1024);
        process.kill()?;
        wait::until(wait::TIMEOUT, "istiod to be restarted", async || {
            let status = pods.get(&name).await.map_err(|error| error.to_string())?.status.unwrap_or_default();
            let container = status.container_statuses.unwrap_or_default().pop();
            let Some(container) = container else { return Err("no container status".into()) };
            let ended = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
            let killed = ended.is_some_and(|ended| ended.exit_code == 137);
            if killed && container.ready && container.restart_count == 1 {
                Ok(())
            } else {
                Err(format!("{container:?}"))
            }
        })
        .await?;
        assert!(lab.logs("istio-system", &name)?.contains("istiod"), "its log is kept");

        deployments.delete("istiod", &DeleteParams::default()).await?;
        wait::until(wait::TIMEOUT, "istiod's Pod and process to go", async || {
            let exists = pods.get_opt(&name).await.map_err(|error| error.to_string())?.is_some();
            let running = lab.process("istio-system", &name).is_ok();
            if exists || running { Err(format!("Pod exists: {exists}, process: {running}")) } else { Ok(()) }
        })
        .await?;
        Ok(())
    });
}

/// Changes the image of istiod's Deployment to another release.
async fn set_release(lab: &Lab, release: &str) -> TestResult {
    let deployments: Api<Deployment> = Api::namespaced(lab.client(), "istio-system");
    let image = format!("registry.example/istio/pilot:{release}");
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "discovery", "image": image}]}}}});
    deployments.patch("istiod", &PatchParams::default(), &Patch::Strategic(patch)).await?;
    Ok(())
}

/// Waits for the Pod with istiod of a release.
async fn pod_with_release(lab: &Lab, release: &str) -> TestResult<Pod> {
    let pods: Api<Pod> = Api::namespaced(lab.client(), "istio-system");
    let found = wait::until(wait::TIMEOUT, format!("a Pod with istiod {release}"), async || {
        let list = pods.list(&ListParams::default().labels("app=istiod")).await.map_err(|error| error.to_string())?;
        let image = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.containers.first()?.image.clone());
        let mut found = list.into_iter().filter(|pod| image(pod).is_some_and(|image| image.ends_with(release)));
        found.next().ok_or_else(|| "none".to_owned())
    });
    Ok(found.await?)
}

/// Waits until the status of a Pod's container matches a condition.
async fn wait_container(
    lab: &Lab,
    pod: &str,
    what: &str,
    matches: impl Fn(&str, &ContainerStatus) -> bool,
) -> TestResult {
    let pods: Api<Pod> = Api::namespaced(lab.client(), "istio-system");
    wait::until(wait::TIMEOUT, format!("{pod} {what}"), async || {
        let status = pods.get(pod).await.map_err(|error| error.to_string())?.status.unwrap_or_default();
        let container = status.container_statuses.unwrap_or_default().pop().ok_or("no container")?;
        let phase = status.phase.unwrap_or_default();
        if matches(&phase, &container) { Ok(()) } else { Err(format!("{phase}, {container:?}")) }
    })
    .await?;
    Ok(())
}

/// Waits for an Event about a Pod.
async fn wait_event(lab: &Lab, pod: &str, reason: &str, part: &str) -> TestResult {
    let events: Api<Event> = Api::namespaced(lab.client(), "istio-system");
    let fields = ListParams::default().fields(&format!("involvedObject.name={pod}"));
    wait::until(wait::TIMEOUT, format!("an Event {reason} about {pod}"), async || {
        let list = events.list(&fields).await.map_err(|error| error.to_string())?;
        let found: Vec<_> = list.iter().map(|event| (event.reason.as_deref(), event.message.as_deref())).collect();
        let matches = found.iter().any(|(r, m)| *r == Some(reason) && m.is_some_and(|message| message.contains(part)));
        if matches { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await?;
    Ok(())
}

/// The ready addresses of istiod's Service.
async fn endpoints(lab: &Lab) -> Result<Vec<String>, String> {
    let slices: Api<EndpointSlice> = Api::namespaced(lab.client(), "istio-system");
    let of_istiod = ListParams::default().labels("kubernetes.io/service-name=istiod");
    let list = slices.list(&of_istiod).await.map_err(|error| error.to_string())?;
    let endpoints = list.items.into_iter().flat_map(|slice| slice.endpoints);
    let ready = endpoints.filter(|endpoint| endpoint.conditions.as_ref().and_then(|c| c.ready) == Some(true));
    Ok(ready.flat_map(|endpoint| endpoint.addresses).collect())
}

fn waits_for(container: &ContainerStatus, reason: &str) -> bool {
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    waiting.is_some_and(|waiting| waiting.reason.as_deref() == Some(reason) && waiting.message.is_some())
}

#[test]
fn runs_release_of_image_and_injected_faults() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        install_istiod(lab, LAB_1_31).await?;
        objects::deployment_ready(&lab.client(), "istio-system", "istiod").await?;
        let old = pod_with_release(lab, LAB_1_31).await?;
        assert_eq!(lab.istiod_version("istio-system", &old.name_any()).await?, LAB_1_31);

        // The new Pod's image can't be pulled while the old Pod keeps serving.
        lab.inject_istiod_fault(LAB_1_32, Fault::NeverStarts)?;
        set_release(lab, LAB_1_32).await?;
        let name = pod_with_release(lab, LAB_1_32).await?.name_any();
        wait_container(lab, &name, "to wait for its image", |phase, container| {
            phase == "Pending" && !container.ready && waits_for(container, "ImagePullBackOff")
        })
        .await?;
        wait_event(lab, &name, "Failed", "not found").await?;
        assert_eq!(lab.istiod_version("istio-system", &old.name_any()).await?, LAB_1_31);
        let serving = old.status.and_then(|status| status.pod_ip).unwrap_or_default();
        assert_eq!(endpoints(lab).await?, [serving]);

        // The new Pod starts and is killed shortly after it became ready, repeatedly.
        lab.inject_istiod_fault(LAB_1_32, Fault::CrashesAfter(Duration::from_secs(1)))?;
        wait_container(lab, &name, "to crash twice", |phase, container| {
            phase == "Running" && container.restart_count >= 2 && waits_for(container, "CrashLoopBackOff")
        })
        .await?;
        wait_container(lab, &name, "to have a last state", |_, container| {
            let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
            last.is_some_and(|ended| ended.exit_code == 137)
        })
        .await?;
        wait_event(lab, &name, "BackOff", "restarting failed container").await?;

        // The new Pod runs but doesn't become ready until the fault is cleared.
        lab.inject_istiod_fault(LAB_1_32, Fault::NeverReady)?;
        wait_container(lab, &name, "to run unready", |_, container| {
            !container.ready && container.state.as_ref().is_some_and(|state| state.running.is_some())
        })
        .await?;
        wait_event(lab, &name, "Unhealthy", "Readiness probe failed").await?;
        lab.clear_istiod_fault(LAB_1_32)?;
        objects::deployment_ready(&lab.client(), "istio-system", "istiod").await?;
        assert_eq!(lab.istiod_version("istio-system", &name).await?, LAB_1_32);

        // The fault also makes a running Pod unready and removes its address.
        lab.inject_istiod_fault(LAB_1_32, Fault::NeverReady)?;
        wait::until(wait::TIMEOUT, "istiod's Service to have no address", async || {
            let addresses = endpoints(lab).await?;
            if addresses.is_empty() { Ok(()) } else { Err(format!("{addresses:?}")) }
        })
        .await?;
        set_release(lab, LAB_1_32_PATCH).await?;
        objects::deployment_ready(&lab.client(), "istio-system", "istiod").await?;
        let newest = pod_with_release(lab, LAB_1_32_PATCH).await?.name_any();
        assert_eq!(lab.istiod_version("istio-system", &newest).await?, LAB_1_32_PATCH);
        Ok(())
    });
}

#[test]
fn older_istiod_rejects_newer_injection_template() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let istiod = |release: &str| -> TestResult<PathBuf> {
            Ok(Programs::find()?.path("releases").join(release).join("charts/istiod"))
        };
        let injector = ["--show-only", "templates/istiod-injector-configmap.yaml"];
        let (old, new) = (istiod(LAB_1_31)?, istiod(LAB_1_32)?);
        install_istiod(lab, LAB_1_31).await?;
        lab.apply_yaml("istiod of 1.31", &helm(&old, "istiod", LAB_1_31, &[])?).await?;
        objects::deployment_ready(&lab.client(), "istio-system", "istiod").await?;
        wait::until(wait::TIMEOUT, "a dry-run Pod to be injected", async || injected_with(lab, LAB_1_31).await).await?;

        lab.apply_yaml("the injector of 1.32", &helm(&new, "istiod", LAB_1_32, &injector)?).await?;
        wait::until(wait::TIMEOUT, "a dry-run Pod to be rejected", async || match injected(lab).await {
            Err(error) if error.contains("can't evaluate field FieldOfIstiod132") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await?;

        lab.apply_yaml("istiod of 1.32", &helm(&new, "istiod", LAB_1_32, &[])?).await?;
        objects::deployment_ready(&lab.client(), "istio-system", "istiod").await?;
        wait::until(wait::TIMEOUT, "a dry-run Pod to be injected", async || injected_with(lab, LAB_1_32).await).await?;
        lab.apply_yaml("the injector of 1.31", &helm(&old, "istiod", LAB_1_31, &injector)?).await?;
        wait::until(wait::TIMEOUT, "a dry-run Pod to get the old proxy", async || injected_with(lab, LAB_1_31).await)
            .await?;
        Ok(())
    });
}

/// Proxy image of a dry-run Pod.
async fn injected(lab: &Lab) -> Result<String, String> {
    let pod = objects::pod("probe", &[("sidecar.istio.io/inject", "true")]);
    let pods: Api<Pod> = Api::namespaced(lab.client(), "istio-system");
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let pod = pods.create(&params, &pod).await.map_err(|error| error.to_string())?;
    let proxy = objects::proxy(&pod).ok_or("no istio-proxy")?;
    proxy.image.clone().ok_or_else(|| "no image".to_owned())
}

/// Checks that a dry-run Pod gets the proxy of a release.
async fn injected_with(lab: &Lab, release: &str) -> Result<(), String> {
    let image = injected(lab).await?;
    if image.ends_with(release) { Ok(()) } else { Err(image) }
}

/// Applies the Go module's charts like `helm install`, with the given image tag.
async fn install_istiod(lab: &Lab, tag: &str) -> TestResult {
    objects::namespace(&lab.client(), "istio-system", &[]).await?;
    let exported = charts()?;
    let charts = exported.path().join("charts");
    lab.apply_yaml("base", &helm(&charts.join("base"), "istio-base", tag, &[])?).await?;
    lab.apply_yaml("istiod", &helm(&charts.join("istio-control/istio-discovery"), "istiod", tag, &[])?).await?;
    Ok(())
}

fn charts() -> TestResult<tempfile::TempDir> {
    let dir = tempfile::tempdir()?;
    let exported = Command::new(Programs::find()?.path("export-charts")).arg(dir.path()).status()?;
    assert!(exported.success());
    Ok(dir)
}

fn helm(chart: &Path, release: &str, tag: &str, flags: &[&str]) -> TestResult<String> {
    let output = Command::new(Programs::find()?.path("helm"))
        .args(["template", release, "--namespace", "istio-system", "--include-crds", "--set"])
        .arg(format!("global.tag={tag}"))
        .args(flags)
        .arg(chart)
        .output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
