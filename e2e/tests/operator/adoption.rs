//! A mesh that Helm installed becomes the operator's, in place.

use std::collections::BTreeMap;
use std::time::Instant;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams};
use meshwright_api::conditions::{ConditionType, get};
use meshwright_e2e::mesh::{Mesh, NAME, VERSION, operator_writes};
use meshwright_e2e::{Lab, LabOptions, Programs, TestResult, objects, programs, run, wait};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::cli::meshwright;

const MESH: &str = "istio-system";
const GATEWAY: &str = "istio-ingressgateway";

/// What the team that installed it with Helm has in its values files.
fn istiod_values() -> Value {
    json!({
        "meshConfig": {"accessLogFile": "/dev/stdout", "defaultConfig": {"holdApplicationUntilProxyStarts": true}},
        "global": {"proxy": {"logLevel": "info"}, "logging": {"level": "default:info,ads:debug"}},
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
        "env": {"PILOT_PUSH_THROTTLE": "50"}, "autoscaleMin": 1, "autoscaleMax": 3, "traceSampling": 10.0,
    })
}

fn gateway_values() -> Value {
    let port = |name: &str, port: i32, node_port: i32| json!({"name": name, "port": port, "targetPort": port, "protocol": "TCP", "nodePort": node_port});
    json!({
        "service": {
            "type": "NodePort", "annotations": {"example.com/pool": "edge"},
            "ports": [port("status-port", 15021, 31021), port("http2", 80, 31080), port("https", 443, 31443)],
        },
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "autoscaling": {"minReplicas": 1, "maxReplicas": 2}, "podAnnotations": {"example.com/team": "edge"},
    })
}

/// Runs helm against the lab.
async fn helm(lab: &Lab, args: &[&str]) -> TestResult<String> {
    let home = tempfile::tempdir()?;
    let mut command = Command::new(Programs::find()?.path("helm"));
    command.args(args).env("HOME", home.path()).env("KUBECONFIG", lab.kubeconfig());
    let output = command.kill_on_drop(true).output().await?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr).into()) }
}

/// Installs a chart of the catalog's release, as its users do.
async fn install(lab: &Lab, release: &str, chart: &str, values: &Value) -> TestResult {
    let catalog = programs::catalog().ok_or("MESHWRIGHT_CATALOG is not set")?;
    let chart = catalog.join(VERSION).join("charts").join(chart);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("values.yaml");
    std::fs::write(&file, values.to_string())?;
    let (chart, file) = (chart.display().to_string(), file.display().to_string());
    helm(lab, &["install", release, &chart, "--namespace", MESH, "--create-namespace", "--values", &file]).await?;
    Ok(())
}

/// A mesh with a gateway, by Helm.
async fn by_helm(lab: &Lab) -> TestResult {
    install(lab, "istio-base", "base", &json!({})).await?;
    install(lab, "istiod", "istiod", &istiod_values()).await?;
    objects::deployment_ready(&lab.client(), MESH, "istiod").await?;
    Mesh::of(lab.client()).wait_strict().await?;
    install(lab, GATEWAY, "gateway", &gateway_values()).await?;
    objects::deployment_ready(&lab.client(), MESH, GATEWAY).await?;
    Ok(())
}

/// Every Pod of the mesh: its UID, and how often its containers were restarted.
async fn pods(lab: &Lab) -> TestResult<BTreeMap<String, (String, i32)>> {
    let api: Api<Pod> = Api::namespaced(lab.client(), MESH);
    let pods = api.list(&ListParams::default()).await?.items.into_iter();
    Ok(pods
        .map(|pod| {
            let statuses = pod.status.clone().unwrap_or_default().container_statuses.unwrap_or_default();
            let restarts = statuses.iter().map(|status| status.restart_count).sum();
            (pod.name_any(), (pod.uid().unwrap_or_default(), restarts))
        })
        .collect())
}

/// What is written to objects, and not to the installation itself and the operator's memory.
fn to_the_mesh(writes: Vec<String>) -> Vec<String> {
    let own = |write: &String| write.contains(" meshinstallations") || write.contains(" controllerrevisions ");
    writes.into_iter().filter(|write| !own(write)).collect()
}

async fn stalled(mesh: &Mesh, reason: &str) -> TestResult<String> {
    let found = mesh.wait_for(NAME, ConditionType::Stalled, "True", Some(reason)).await?;
    let conditions = found.status.unwrap_or_default().conditions;
    Ok(get(&conditions, ConditionType::Stalled).map(|condition| condition.message.clone()).unwrap_or_default())
}

fn managers(object: &DynamicObject) -> Vec<String> {
    let entries = object.managed_fields().iter().filter(|entry| entry.subresource.is_none());
    entries.filter_map(|entry| entry.manager.clone()).collect()
}

#[test]
fn a_mesh_of_helms_becomes_ours_without_a_restart_and_what_differs_is_named_before() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        by_helm(lab).await?;
        let before = pods(lab).await?;

        let mark = lab.settled_audit().await?.mark();
        let mut spec = json!({"version": VERSION, "gateways": [{"name": GATEWAY}]});
        mesh.apply(NAME, spec.clone()).await?;
        let told = stalled(&mesh, "ForeignObject").await?;
        assert!(told.contains("spec.adoption"), "{told}");
        spec["adoption"] = "Adopt".into();
        mesh.apply(NAME, spec).await?;
        let told = stalled(&mesh, "AdoptionDiffers").await?;
        let first = r#"Deployment istio-system/istio-ingressgateway spec.template.metadata.annotations["example.com/team"]: "edge" -> none"#;
        assert!(told.contains(first), "{told}");
        let audit = lab.settled_audit().await?;
        assert_eq!(to_the_mesh(operator_writes(&audit, mark)), [""; 0]);

        let adopt = meshwright(lab.kubeconfig(), &["adopt", "--name", NAME]).await?;
        assert_eq!(adopt.code, Some(0), "{}{}", adopt.out, adopt.err);
        assert!(adopt.err.contains("--selector owner=helm,name=istiod"), "{}", adopt.err);
        let proposed: Value = serde_saphyr::from_str(&adopt.out)?;
        let mark = lab.settled_audit().await?.mark();
        let begun = Instant::now();
        mesh.apply(NAME, proposed["spec"].clone()).await?;
        mesh.wait_ready(NAME).await?;
        let took = begun.elapsed();
        assert_eq!(pods(lab).await?, before, "no Pod was replaced or restarted");
        let writes = to_the_mesh(operator_writes(&lab.settled_audit().await?, mark));
        println!("taken over with {} writes to objects, Ready after {took:.1?}", writes.len());
        let istiod = mesh.api("apps/v1", "Deployment", Some(MESH)).get("istiod").await?;
        assert!(!managers(&istiod).contains(&"helm".to_owned()), "{:?}", managers(&istiod));
        assert!(!istiod.annotations().contains_key("meta.helm.sh/release-name"), "only Helm wanted it");
        let service = mesh.api("v1", "Service", Some(MESH)).get(GATEWAY).await?;
        assert_eq!(service.annotations().get("example.com/pool").map(String::as_str), Some("edge"));
        assert_eq!(service.data.pointer("/spec/ports/1/nodePort"), Some(&json!(31080)));

        owned(lab, &mesh).await
    });
}

/// What was taken over is looked after and removed like what the operator made.
async fn owned(lab: &Lab, mesh: &Mesh) -> TestResult {
    let secrets: Api<Secret> = Api::namespaced(lab.client(), MESH);
    let helms = ListParams::default().labels("owner=helm");
    secrets.delete_collection(&DeleteParams::default(), &helms).await?;
    let maps: Api<ConfigMap> = Api::namespaced(lab.client(), MESH);
    maps.delete("istio", &DeleteParams::default()).await?;
    wait::until(wait::PATIENCE, "the ConfigMap to be back", async || {
        maps.get("istio").await.map(drop).map_err(|error| error.to_string())
    })
    .await?;
    mesh.wait_ready(NAME).await?;
    mesh.delete(NAME, &DeleteParams::default()).await?;
    assert!(mesh.api("apps/v1", "Deployment", Some(MESH)).list(&ListParams::default()).await?.items.is_empty());
    let services: Api<Service> = Api::namespaced(lab.client(), MESH);
    assert!(services.get_opt(GATEWAY).await?.is_none());
    Ok(())
}
