//! Keys of the spec that have no effect are reported, and don't affect readiness.

use meshwright_api::conditions::{ConditionType, get};
use meshwright_e2e::mesh::{Mesh, NAME, VERSION};
use meshwright_e2e::{LabOptions, TestResult, run, wait};
use serde_json::{Value, json};

fn with(values: &Value) -> Value {
    json!({"version": VERSION, "profile": "demo", "gateways": [{"name": "edge", "values": values}]})
}

#[test]
fn warns_of_unknown_key_until_it_is_removed() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        mesh.apply(NAME, with(&json!({"service": {"nodePorts": {"http": 30080}}}))).await?;
        mesh.wait_ready(NAME).await?;
        let reported = async || -> TestResult<(String, Vec<String>)> {
            let status = mesh.installations().get(NAME).await?.status.unwrap_or_default();
            let ready = get(&status.conditions, ConditionType::Ready).map(|ready| ready.message.clone());
            Ok((ready.unwrap_or_default(), status.platform.warnings))
        };
        let field = "spec.gateways[edge].values.service.nodePorts";
        let (message, warnings) = reported().await?;
        assert!(message.contains(&format!("Unknown keys: {field}")), "{message}");
        let warning = warnings.iter().find(|warning| warning.starts_with(field));
        assert!(warning.is_some_and(|warning| warning.contains("service.ports[].nodePort")), "{warnings:?}");

        mesh.apply(NAME, with(&json!({"service": {"type": "NodePort"}}))).await?;
        let services = mesh.api("v1", "Service", Some("istio-system"));
        wait::until(wait::TIMEOUT, "the warning to be removed and the Service to change", async || {
            let (message, warnings) = reported().await.map_err(|error| error.to_string())?;
            let service = services.get("edge").await.map_err(|error| error.to_string())?;
            let is_warned = message.contains("Unknown keys") || warnings.iter().any(|found| found.starts_with(field));
            let is_changed = service.data["spec"]["type"] == "NodePort";
            if is_changed && !is_warned { Ok(()) } else { Err(format!("{message} {warnings:?}")) }
        })
        .await?;
        Ok(())
    });
}
