//! A correct spec brings back a mesh whose control plane does not run.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use meshwright_e2e::mesh::{LAB_1_31, LAB_1_32, Mesh, NAME};
use meshwright_e2e::{Fault, Lab, LabOptions, TestResult, objects, run, wait};
use serde_json::{Value, json};

use super::spec;

fn with_access_log(file: &str) -> Value {
    let mut spec = spec(LAB_1_32);
    spec["meshConfig"] = json!({"accessLogFile": file});
    spec
}

#[test]
fn updates_configuration_while_istiod_is_down() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        mesh.apply(NAME, with_access_log("/dev/stdout")).await?;
        mesh.wait_ready(NAME).await?;

        // As when istiod can't read its configuration: it crashes at each start.
        lab.inject_istiod_fault(LAB_1_32, Fault::CrashesAfter(Duration::ZERO))?;
        delete_istiod_pods(lab).await?;
        mesh.apply(NAME, with_access_log("/dev/stderr")).await?;
        let config_maps = mesh.api("v1", "ConfigMap", Some("istio-system"));
        wait::until(wait::TIMEOUT, "the corrected configuration", async || {
            let found = config_maps.get("istio").await.map_err(|error| error.to_string())?;
            let text = found.data["data"]["mesh"].as_str().unwrap_or_default().to_owned();
            if text.contains("/dev/stderr") { Ok(()) } else { Err(text) }
        })
        .await?;
        lab.clear_istiod_fault(LAB_1_32)?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

async fn wait_crashed(lab: &Lab) -> TestResult {
    let pods: Api<Pod> = Api::namespaced(lab.client(), "istio-system");
    wait::until(wait::TIMEOUT, "istiod to crash", async || {
        let list = pods.list(&ListParams::default().labels("app=istiod")).await.map_err(|error| error.to_string())?;
        let statuses = list.iter().filter_map(|pod| pod.status.as_ref()?.container_statuses.as_ref()).flatten();
        let crashed = statuses.filter(|container| container.restart_count > 0).count();
        if crashed > 0 { Ok(()) } else { Err(format!("{} pods", list.items.len())) }
    })
    .await?;
    Ok(())
}

async fn delete_istiod_pods(lab: &Lab) -> TestResult {
    let pods: Api<Pod> = Api::namespaced(lab.client(), "istio-system");
    for pod in objects::pod_names(&lab.client(), "istio-system", "app=istiod").await? {
        pods.delete(&pod, &DeleteParams::default().grace_period(0)).await?;
    }
    Ok(())
}

#[test]
fn reverts_configuration_that_istiod_cannot_load() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let mesh = Mesh::install(lab).await?;
        let config_maps = mesh.api("v1", "ConfigMap", Some("istio-system"));
        let values = async || -> TestResult<String> {
            let injector = config_maps.get("istio-sidecar-injector").await?;
            Ok(injector.data["data"]["values"].as_str().unwrap_or_default().to_owned())
        };
        let before = values().await?;
        // The operator would refuse such a value, and revert it at once.
        mesh.scale_operator(0).await?;
        let mut broken: Value = serde_json::from_str(&before)?;
        broken["global"]["proxy"]["privileged"] = "true".into();
        let patch = Patch::Merge(json!({"data": {"values": broken.to_string()}}));
        config_maps.patch("istio-sidecar-injector", &PatchParams::default(), &patch).await?;
        delete_istiod_pods(lab).await?;
        wait_crashed(lab).await?;

        mesh.scale_operator(2).await?;
        wait::until(wait::TIMEOUT, "the reverted values", async || {
            let now = values().await.map_err(|error| error.to_string())?;
            if now == before { Ok(()) } else { Err(now) }
        })
        .await?;
        mesh.deployment_ready("istio-system", "istiod").await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn corrected_release_replaces_failed_first_install() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        let mut broken = spec(LAB_1_31);
        broken["values"] = json!({"istiod": {"extraContainerArgs": ["--keepaliveMaxServerConnectionAge=never"]}});
        mesh.apply(NAME, broken).await?;
        wait_crashed(lab).await?;
        mesh.apply(NAME, spec(LAB_1_32)).await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}
