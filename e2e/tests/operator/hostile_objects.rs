//! Objects that any user may create, with huge strings, deep nesting or many values, don't keep the operator from
//! reconciling, reporting and removing meshes.

mod deep;
mod memory;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use meshwright_api::conditions::{ConditionType, get};
use meshwright_e2e::mesh::{LAB_1_32, Mesh, NAME, OPERATOR_NAMESPACE, describe};
use meshwright_e2e::{Fault, LabOptions, TestResult, run, wait};
use serde_json::json;

/// Size of an image tag. The operator reads pods up to 128 KiB.
const TAG: usize = 50_000;

/// Changes istiod's configuration and waits until the operator has reverted that.
async fn assert_reverts_drift(mesh: &Mesh) -> TestResult {
    let maps = mesh.api("v1", "ConfigMap", Some("istio-system"));
    let before = maps.get("istio").await?.data["data"]["mesh"].clone();
    let edited = json!({"data": {"mesh": "accessLogFile: /dev/null"}});
    maps.patch("istio", &PatchParams::default(), &Patch::Merge(&edited)).await?;
    wait::until(wait::TIMEOUT, "the ConfigMap istio to be reverted", async || {
        let now = maps.get("istio").await.map_err(|error| error.to_string())?.data["data"]["mesh"].clone();
        if now == before { Ok(()) } else { Err(now.to_string()) }
    })
    .await?;
    Ok(())
}

/// The operator's pods.
async fn operator_pods(client: Client) -> TestResult<Vec<Pod>> {
    let pods: Api<Pod> = Api::namespaced(client, OPERATOR_NAMESPACE);
    Ok(pods.list(&ListParams::default().labels("app.kubernetes.io/name=meshwright")).await?.items)
}

/// Replaces the operator's pods, so that the new ones list all objects, and waits until those are ready.
async fn restart_operator(client: Client) -> TestResult {
    let pods: Api<Pod> = Api::namespaced(client.clone(), OPERATOR_NAMESPACE);
    let before: Vec<String> = operator_pods(client.clone()).await?.iter().map(ResourceExt::name_any).collect();
    for pod in &before {
        pods.delete(pod, &DeleteParams::default()).await?;
    }
    let is_ready = |pod: &&Pod| {
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    wait::until(wait::TIMEOUT, "new pods of the operator", async || {
        let now = operator_pods(client.clone()).await.map_err(|error| error.to_string())?;
        let new = now.iter().filter(|pod| !before.contains(&pod.name_any()));
        let ready = new.filter(is_ready).count();
        if ready == before.len() && now.len() == ready {
            Ok(())
        } else {
            Err(format!("{ready} are ready, {} exist", now.len()))
        }
    })
    .await?;
    Ok(())
}

/// Creates a pod that looks like one of istiod with a sidecar, and whose image can't be pulled.
async fn create_pod(client: Client, name: &str, tag: usize) -> TestResult {
    let pods: Api<Pod> = Api::namespaced(client, "istio-system");
    let image = format!("registry.example/proxyv2:1.31.2-{name}{}", "a".repeat(tag));
    let labels = json!({"app": "istiod", "istio": "pilot", "service.istio.io/canonical-name": "istiod"});
    let pod = json!({
        "metadata": {"name": name, "labels": labels, "annotations": {"lab.meshwright.dev/play": "manual"}},
        "spec": {"containers": [{"name": "istio-proxy", "image": image}], "nodeSelector": {"example.com/node": "none"}},
    });
    pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
    let message = format!("Back-off pulling image \"{}\"", image.get(..image.len().min(TAG)).unwrap_or_default());
    let waiting = json!({"reason": "ImagePullBackOff", "message": message});
    let container = json!({"name": "istio-proxy", "image": "proxyv2", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": waiting}});
    let status = json!({"status": {"containerStatuses": [container]}});
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await?;
    Ok(())
}

#[test]
fn huge_image_tags_stop_neither_status_nor_uninstall() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        lab.inject_istiod_fault(LAB_1_32, Fault::NeverStarts)?;
        let mesh = Mesh::install_operator(lab).await?;
        let deletion = json!({"whileInUse": "Proceed"});
        mesh.apply(NAME, json!({"version": LAB_1_32, "profile": "demo", "deletion": deletion})).await?;
        let deployments = mesh.api("apps/v1", "Deployment", Some("istio-system"));
        wait::until(wait::TIMEOUT, "istiod's Deployment", async || {
            deployments.get("istiod").await.map(drop).map_err(|error| error.to_string())
        })
        .await?;
        create_pod(lab.client(), "whale", 900_000).await?;
        create_pod(lab.client(), "hostile", TAG).await?;

        wait::until(wait::TIMEOUT, "the shortened cause in status", async || {
            let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
            let status = found.status.clone().unwrap_or_default();
            let size = serde_json::to_vec(&status).map_or(0, |text| text.len());
            assert!(size < 64 * 1024, "status has {size} bytes");
            let ready = get(&status.conditions, ConditionType::Ready).map(|ready| ready.message.clone());
            let ready = ready.unwrap_or_default();
            let names_pod = ready.contains("Pod hostile") || ready.contains("Pod whale");
            if names_pod && ready.contains("(truncated)") { Ok(()) } else { Err(describe(&found)) }
        })
        .await?;

        lab.clear_istiod_fault(LAB_1_32)?;
        mesh.wait_ready(NAME).await?;
        mesh.delete(NAME, &DeleteParams::default()).await?;
        Ok(())
    });
}
