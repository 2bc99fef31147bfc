//! istiod's Pods: real processes, of the release that their image names, that fail when they are asked to.

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
fn istiod_runs_as_a_process_and_comes_back_when_killed() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        install_istiod(lab, "latest").await?;
        let client = lab.client();
        objects::deployment_ready(&client, "istio-system", "istiod").await?;
        let injectors: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
        wait::until(wait::PATIENCE, "istiod's caBundle on the injector", async || {
            let injector = injectors.get("istio-sidecar-injector").await.map_err(|error| error.to_string())?;
            let webhooks = injector.webhooks.unwrap_or_default();
            let bundles = webhooks.iter().filter(|webhook| webhook.client_config.ca_bundle.is_some()).count();
            if bundles == webhooks.len() { Ok(()) } else { Err(format!("on {bundles} of {}", webhooks.len())) }
        })
        .await?;
        wait::until(wait::PATIENCE, "a dry-run Pod to be injected", async || injected(lab).await).await?;
        let validators: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
        wait::until(wait::PATIENCE, "istiod to set the validator's failurePolicy", async || {
            let validator = validators.get("istio-validator-istio-system").await.map_err(|error| error.to_string())?;
            let policy = validator.webhooks.unwrap_or_default().pop().and_then(|webhook| webhook.failure_policy);
            if policy.as_deref() == Some("Fail") { Ok(()) } else { Err(format!("{policy:?}")) }
        })
        .await?;

        // Two of them listen on the same ports, each at an address of its own.
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
        wait::until(wait::PATIENCE, "istiod to be restarted", async || {
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
        wait::until(wait::PATIENCE, "istiod's Pod and process to go", async || {
            let there = pods.get_opt(&name).await.map_err(|error| error.to_string())?.is_some();
            let running = lab.process("istio-system", &name).is_ok();
            if there || running { Err(format!("Pod: {there}, process: {running}")) } else { Ok(()) }
        })
        .await?;
        Ok(())
    });
}

/// Gives istiod's Deployment an image of another release.
async fn roll(lab: &Lab, release: &str) -> TestResult {
    let deployments: Api<Deployment> = Api::namespaced(lab.client(), "istio-system");
    let image = format!("registry.example/istio/pilot:{release}");
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "discovery", "image": image}]}}}});
    deployments.patch("istiod", &PatchParams::default(), &Patch::Strategic(patch)).await?;
    Ok(())
}

/// The one Pod with istiod of a release, once it is there.
async fn pod_of(lab: &Lab, release: &str) -> TestResult<Pod> {
    let pods: Api<Pod> = Api::namespaced(lab.client(), "istio-system");
    let found = wait::until(wait::PATIENCE, format!("a Pod with istiod {release}"), async || {
        let list = pods.list(&ListParams::default().labels("app=istiod")).await.map_err(|error| error.to_string())?;
        let image = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.containers.first()?.image.clone());
        let mut found = list.into_iter().filter(|pod| image(pod).is_some_and(|image| image.ends_with(release)));
        found.next().ok_or_else(|| "none".to_owned())
    });
    Ok(found.await?)
}

/// Waits until the status of a Pod's container is as wanted.
async fn shows(lab: &Lab, pod: &str, what: &str, wanted: impl Fn(&str, &ContainerStatus) -> bool) -> TestResult {
    let pods: Api<Pod> = Api::namespaced(lab.client(), "istio-system");
    wait::until(wait::PATIENCE, format!("{pod} {what}"), async || {
        let status = pods.get(pod).await.map_err(|error| error.to_string())?.status.unwrap_or_default();
        let container = status.container_statuses.unwrap_or_default().pop().ok_or("no container")?;
        let phase = status.phase.unwrap_or_default();
        if wanted(&phase, &container) { Ok(()) } else { Err(format!("{phase}, {container:?}")) }
    })
    .await?;
    Ok(())
}

/// Waits for a kubelet's Event about a Pod.
async fn told(lab: &Lab, pod: &str, reason: &str, part: &str) -> TestResult {
    let events: Api<Event> = Api::namespaced(lab.client(), "istio-system");
    let fields = ListParams::default().fields(&format!("involvedObject.name={pod}"));
    wait::until(wait::PATIENCE, format!("an Event {reason} about {pod}"), async || {
        let list = events.list(&fields).await.map_err(|error| error.to_string())?;
        let told: Vec<_> = list.iter().map(|event| (event.reason.as_deref(), event.message.as_deref())).collect();
        let fits = told.iter().any(|(r, m)| *r == Some(reason) && m.is_some_and(|message| message.contains(part)));
        if fits { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await?;
    Ok(())
}

/// The addresses of istiod's Service that count as ready.
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
fn istiod_is_of_the_release_that_its_image_names_and_fails_as_it_was_asked_to() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        install_istiod(lab, LAB_1_31).await?;
        objects::deployment_ready(&lab.client(), "istio-system", "istiod").await?;
        let old = pod_of(lab, LAB_1_31).await?;
        assert_eq!(lab.istiod_version("istio-system", &old.name_any()).await?, LAB_1_31);

        // Beside the old one, which goes on serving, the new one has no image, until it has.
        lab.break_istiod(LAB_1_32, Fault::NeverStarts)?;
        roll(lab, LAB_1_32).await?;
        let name = pod_of(lab, LAB_1_32).await?.name_any();
        shows(lab, &name, "to lack its image", |phase, container| {
            phase == "Pending" && !container.ready && waits_for(container, "ImagePullBackOff")
        })
        .await?;
        told(lab, &name, "Failed", "not found").await?;
        assert_eq!(lab.istiod_version("istio-system", &old.name_any()).await?, LAB_1_31);
        let serving = old.status.and_then(|status| status.pod_ip).unwrap_or_default();
        assert_eq!(endpoints(lab).await?, [serving]);

        // It starts, and is killed soon after it became ready; again and again.
        lab.break_istiod(LAB_1_32, Fault::CrashesAfter(Duration::from_secs(1)))?;
        shows(lab, &name, "to crash twice", |phase, container| {
            phase == "Running" && container.restart_count >= 2 && waits_for(container, "CrashLoopBackOff")
        })
        .await?;
        shows(lab, &name, "to say how it ended", |_, container| {
            let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
            last.is_some_and(|ended| ended.exit_code == 137)
        })
        .await?;
        told(lab, &name, "BackOff", "restarting failed container").await?;

        // It runs, and doesn't become ready; until it does.
        lab.break_istiod(LAB_1_32, Fault::NeverReady)?;
        shows(lab, &name, "to run unready", |_, container| {
            !container.ready && container.state.as_ref().is_some_and(|state| state.running.is_some())
        })
        .await?;
        told(lab, &name, "Unhealthy", "Readiness probe failed").await?;
        lab.mend_istiod(LAB_1_32)?;
        objects::deployment_ready(&lab.client(), "istio-system", "istiod").await?;
        assert_eq!(lab.istiod_version("istio-system", &name).await?, LAB_1_32);

        // A running one that is said never to be ready stops being ready, and its address goes.
        lab.break_istiod(LAB_1_32, Fault::NeverReady)?;
        wait::until(wait::PATIENCE, "istiod's Service to have no address", async || {
            let addresses = endpoints(lab).await?;
            if addresses.is_empty() { Ok(()) } else { Err(format!("{addresses:?}")) }
        })
        .await?;
        roll(lab, LAB_1_32_PATCH).await?;
        objects::deployment_ready(&lab.client(), "istio-system", "istiod").await?;
        let newest = pod_of(lab, LAB_1_32_PATCH).await?.name_any();
        assert_eq!(lab.istiod_version("istio-system", &newest).await?, LAB_1_32_PATCH);
        Ok(())
    });
}

#[test]
fn an_istiod_of_1_31_refuses_every_pod_with_the_template_of_1_32_and_one_of_1_32_takes_both() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let istiod = |release: &str| -> TestResult<PathBuf> {
            Ok(Programs::find()?.path("releases").join(release).join("charts/istiod"))
        };
        let injector = ["--show-only", "templates/istiod-injector-configmap.yaml"];
        let (old, new) = (istiod(LAB_1_31)?, istiod(LAB_1_32)?);
        install_istiod(lab, LAB_1_31).await?;
        lab.apply_yaml("istiod of 1.31", &helm(&old, "istiod", LAB_1_31, &[])?).await?;
        objects::deployment_ready(&lab.client(), "istio-system", "istiod").await?;
        wait::until(wait::PATIENCE, "a dry-run Pod to be injected", async || injected_with(lab, LAB_1_31).await)
            .await?;

        lab.apply_yaml("the injector of 1.32", &helm(&new, "istiod", LAB_1_32, &injector)?).await?;
        wait::until(wait::PATIENCE, "a dry-run Pod to be refused", async || match injected(lab).await {
            Err(refusal) if refusal.contains("can't evaluate field FieldOfIstiod132") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await?;

        lab.apply_yaml("istiod of 1.32", &helm(&new, "istiod", LAB_1_32, &[])?).await?;
        objects::deployment_ready(&lab.client(), "istio-system", "istiod").await?;
        wait::until(wait::PATIENCE, "a dry-run Pod to be injected", async || injected_with(lab, LAB_1_32).await)
            .await?;
        lab.apply_yaml("the injector of 1.31", &helm(&old, "istiod", LAB_1_31, &injector)?).await?;
        wait::until(wait::PATIENCE, "a dry-run Pod to get the old proxy", async || injected_with(lab, LAB_1_31).await)
            .await?;
        Ok(())
    });
}

/// The image of the proxy of a dry-run Pod.
async fn injected(lab: &Lab) -> Result<String, String> {
    let pod = objects::pod("probe", &[("sidecar.istio.io/inject", "true")]);
    let pods: Api<Pod> = Api::namespaced(lab.client(), "istio-system");
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let pod = pods.create(&params, &pod).await.map_err(|error| error.to_string())?;
    let proxy = objects::proxy(&pod).ok_or("no istio-proxy")?;
    proxy.image.clone().ok_or_else(|| "no image".to_owned())
}

/// Whether that is of a release.
async fn injected_with(lab: &Lab, release: &str) -> Result<(), String> {
    let image = injected(lab).await?;
    if image.ends_with(release) { Ok(()) } else { Err(image) }
}

/// What `helm install` of the module's own charts would apply, with the given tag of images.
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
