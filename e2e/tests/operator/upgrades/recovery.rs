//! A correct spec brings back a mesh whose control plane does not run.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams};
use meshwright_e2e::mesh::{LAB_1_32, Mesh, NAME};
use meshwright_e2e::{Fault, LabOptions, objects, run, wait};
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
        let pods: Api<Pod> = Api::namespaced(lab.client(), "istio-system");
        for pod in objects::pod_names(&lab.client(), "istio-system", "app=istiod").await? {
            pods.delete(&pod, &DeleteParams::default().grace_period(0)).await?;
        }
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
