//! Ready means that istiod has loaded its configuration, and pods that were injected with an older one are reported.

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, PostParams};
use meshwright_api::conditions::{ConditionType, is_true};
use meshwright_e2e::mesh::{Mesh, NAME, demo_spec};
use meshwright_e2e::{Lab, LabOptions, TestResult, objects, run, wait};
use serde_json::{Value, json};

use crate::cli::meshwright;

#[test]
fn ready_waits_until_istiod_has_loaded_mesh_config() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        // While this file exists, istiod reads it instead of the ConfigMap.
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("mesh");
        std::fs::write(&file, "accessLogFile: /dev/null\n")?;
        let mut spec = demo_spec();
        spec["meshConfig"] = json!({"accessLogFile": "/dev/stderr"});
        spec["values"] = json!({"istiod": {"extraContainerArgs": [format!("--meshConfig={}", file.display())]}});
        mesh.apply(NAME, spec).await?;
        wait::until(wait::TIMEOUT, "a message that names the setting", async || {
            let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
            let status = found.status.unwrap_or_default();
            assert!(!is_true(&status.conditions, ConditionType::Ready), "{:?}", status.conditions);
            let message = status.message.unwrap_or_default();
            let expected = "istiod has not loaded its configuration yet. ConfigMap istio-system/istio: data.mesh.";
            if message.contains(expected) { Ok(()) } else { Err(message) }
        })
        .await?;
        let maps: Api<ConfigMap> = Api::namespaced(lab.client(), "istio-system");
        let data = maps.get("istio").await?.data.unwrap_or_default();
        std::fs::write(&file, data.get("mesh").ok_or("no mesh configuration")?)?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

/// Creates a pod in an injected namespace and returns its proxy's configuration.
async fn create_pod(lab: &Lab, name: &str) -> TestResult<String> {
    let pods: Api<Pod> = Api::namespaced(lab.client(), "shop");
    let pod = pods.create(&PostParams::default(), &objects::pod(name, &[("app", name)])).await?;
    let proxy = objects::proxy(&pod).ok_or("the pod is not injected")?;
    let config = proxy.env.iter().flatten().find(|variable| variable.name == "PROXY_CONFIG");
    Ok(config.and_then(|variable| variable.value.clone()).unwrap_or_default())
}

/// Names of the pods with a stale configuration, according to `meshwright status --proxies`.
async fn stale_pods(lab: &Lab) -> TestResult<Vec<String>> {
    let output = meshwright(lab.kubeconfig(), &["status", "--proxies", "-o", "json"]).await?;
    let report: Value = serde_json::from_str(&output.stdout)?;
    let proxies = report["proxies"].as_array().cloned().unwrap_or_default();
    let stale = proxies.iter().filter(|proxy| proxy["staleConfiguration"] == true);
    Ok(stale.filter_map(|proxy| proxy["name"].as_str().map(str::to_owned)).collect())
}

#[test]
fn reports_pods_with_stale_configuration() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install(lab).await?;
        objects::namespace(&lab.client(), "shop", &[("istio-injection", "enabled")]).await?;
        let address = "tracing.example:9411";
        assert!(!create_pod(lab, "before").await?.contains(address));
        let mut spec = demo_spec();
        spec["meshConfig"] = json!({"defaultConfig": {"tracing": {"zipkin": {"address": address}}}});
        mesh.apply(NAME, spec).await?;
        mesh.wait_ready(NAME).await?;
        let config = create_pod(lab, "after").await?;
        assert!(config.contains(address), "Ready means that new pods get the new configuration: {config}");
        wait::until(wait::TIMEOUT, "the old pod to be stale", async || {
            let stale = stale_pods(lab).await.map_err(|error| error.to_string())?;
            if stale == ["before"] { Ok(()) } else { Err(format!("{stale:?}")) }
        })
        .await?;
        wait::until(wait::TIMEOUT, "status to report it", async || {
            let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
            let proxies = found.status.and_then(|status| status.proxies).unwrap_or_default();
            if proxies.stale_configuration && !proxies.outdated { Ok(()) } else { Err(format!("{proxies:?}")) }
        })
        .await?;
        Ok(())
    });
}
