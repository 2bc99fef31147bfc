//! Objects that are nested deeper than a parser follows, and one that is too large.

use kube::ResourceExt as _;
use kube::api::{ListParams, PostParams};
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR_NAMESPACE, demo_spec};
use meshwright_e2e::{Lab, LabOptions, TestResult, objects, run, wait};
use serde_json::{Value, json};

use super::{assert_reverts_drift, operator_pods, restart_operator};
use crate::stalled::wait_stalled;

/// Levels of nesting; the API server stores more, and `serde_json` reads 128.
const LEVELS: usize = 180;
const INSTALLATIONS: &str = "/apis/meshwright.dev/v1alpha1/meshinstallations";

fn nested(key: &str, innermost: Value) -> Value {
    (0..LEVELS).fold(innermost, |inner, _| json!({key: inner}))
}

/// Sends a request whose response the client library can't parse.
async fn send(lab: &Lab, method: &str, path: &str, body: &Value) -> TestResult<String> {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = http::Request::builder().method(method).uri(path).header("Content-Type", "application/json");
    Ok(lab.client().request_text(request.body(body)?).await?)
}

/// A tenant's labelled ConfigMap with managed fields that are nested deeply.
async fn create_deep_config_map(lab: &Lab) -> TestResult {
    let fields = json!({"f:data": nested("f:a", json!({}))});
    let entry = json!({"manager": "tenant", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": fields});
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1"},
        "metadata": {"name": "deep", "labels": {"meshwright.dev/installation": NAME}, "managedFields": [entry]}});
    send(lab, "POST", "/api/v1/namespaces/tenant/configmaps", &map).await?;
    let stored = send(lab, "GET", "/api/v1/namespaces/tenant/configmaps/deep", &Value::Null).await?;
    assert!(stored.matches("{\"f:a\":").count() > 128, "the API server should store the fields: {stored}");
    Ok(())
}

/// A tenant's labelled ConfigMap that is larger than what the operator reads.
async fn create_large_config_map(mesh: &Mesh) -> TestResult {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "x".repeat(700_000)},
        "metadata": {"name": "large", "labels": {"meshwright.dev/installation": NAME}}});
    let maps = mesh.api("v1", "ConfigMap", Some("tenant"));
    maps.create(&PostParams::default(), &serde_json::from_value(map)?).await?;
    Ok(())
}

async fn wait_reported(mesh: &Mesh) -> TestResult {
    let events = mesh.api("events.k8s.io/v1", "Event", Some("tenant"));
    wait::until(wait::TIMEOUT, "an Event about the large ConfigMap", async || {
        let list = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let found = list.iter().find(|event| event.data["reason"] == "ObjectTooLarge").ok_or("no such Event")?;
        let (about, note) = (&found.data["regarding"], found.data["note"].as_str().unwrap_or_default());
        assert_eq!((&about["kind"], &about["name"]), (&json!("ConfigMap"), &json!("large")));
        assert!(note.contains("larger than 512 KiB") && note.contains("make it smaller"), "{note}");
        Ok(())
    })
    .await?;
    Ok(())
}

async fn assert_logs_have_no_bodies(lab: &Lab) -> TestResult {
    for pod in operator_pods(lab.client()).await? {
        let log = lab.logs(OPERATOR_NAMESPACE, &pod.name_any())?;
        assert!(log.len() < 100_000, "the log has {} bytes", log.len());
        assert!(!log.contains("{\"f:a\":") && !log.contains("xxxxxxxxxx"), "the log should have no bodies");
    }
    Ok(())
}

#[test]
fn deep_objects_stop_neither_drift_repair_nor_other_meshes() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let mesh = Mesh::install(lab).await?;
        objects::namespace(&lab.client(), "tenant", &[]).await?;
        create_deep_config_map(lab).await?;
        create_large_config_map(&mesh).await?;
        let deep = json!({"apiVersion": "meshwright.dev/v1alpha1", "kind": "MeshInstallation", "metadata": {"name": "deep"},
            "spec": {"version": "1.32", "revision": "deep", "meshConfig": nested("a", json!("b"))}});
        send(lab, "POST", INSTALLATIONS, &deep).await?;

        // By watch events first, then by lists.
        for _ in 0..2 {
            assert_reverts_drift(&mesh).await?;
            wait::until(wait::TIMEOUT, "status of the deep installation", async || {
                let path = format!("{INSTALLATIONS}/deep");
                let found = send(lab, "GET", &path, &Value::Null).await.map_err(|error| error.to_string())?;
                let reports = found.contains("nested deeper than 64 levels") && found.contains("\"InvalidSpec\"");
                if reports {
                    Ok(())
                } else {
                    Err(found.chars().rev().take(500).collect::<Vec<_>>().iter().rev().collect())
                }
            })
            .await?;
            wait_reported(&mesh).await?;
            assert_logs_have_no_bodies(lab).await?;
            restart_operator(lab.client()).await?;
        }
        mesh.apply("second", demo_spec()).await?;
        wait_stalled(&mesh, "second", "InstallationConflict", &[NAME]).await?;
        assert_logs_have_no_bodies(lab).await
    });
}
