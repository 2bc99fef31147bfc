//! In-place adoption of meshes that Helm or istioctl installed.

mod helm;
mod istioctl;
mod no_service;
mod two_revisions;

use std::collections::BTreeMap;
use std::process::Output;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, ListParams};
use meshwright_api::conditions::{ConditionType, get};
use meshwright_e2e::mesh::{Mesh, NAME, VERSION};
use meshwright_e2e::{Lab, Programs, TestResult, programs};
use serde_json::Value;
use tokio::process::Command;

use crate::cli::{CommandOutput, meshwright};

const MESH: &str = "istio-system";
const GATEWAY: &str = "istio-ingressgateway";

/// Runs a program of the lab with the lab's kubeconfig.
async fn tool(lab: &Lab, program: &str, args: &[&str]) -> TestResult<String> {
    let home = tempfile::tempdir()?;
    let mut command = Command::new(Programs::find()?.path(program));
    command.args(args).env("HOME", home.path()).env("KUBECONFIG", lab.kubeconfig());
    let Output { status, stdout, stderr } = command.kill_on_drop(true).output().await?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if status.success() { Ok(text(stdout)) } else { Err(text([stdout, stderr].concat()).into()) }
}

/// Installs a chart of the catalog's release with `helm install`.
async fn install(lab: &Lab, release: &str, chart: &str, values: &Value) -> TestResult {
    let catalog = programs::catalog().ok_or("MESHWRIGHT_CATALOG is not set")?;
    let chart = catalog.join(VERSION).join("charts").join(chart);
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("values.yaml");
    std::fs::write(&file, values.to_string())?;
    let (chart, file) = (chart.display().to_string(), file.display().to_string());
    tool(lab, "helm", &["install", release, &chart, "--namespace", MESH, "--create-namespace", "--values", &file])
        .await?;
    Ok(())
}

/// Output of `meshwright adopt` and the proposed spec.
async fn adopt(lab: &Lab, name: &str, args: &[&str]) -> TestResult<(CommandOutput, Value)> {
    let output = meshwright(lab.kubeconfig(), &[&["adopt", "--name", name][..], args].concat()).await?;
    let proposed: Value = serde_saphyr::from_str(&output.stdout)?;
    Ok((output, proposed["spec"].clone()))
}

/// UID and number of restarts of every Pod of the mesh, by name.
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

/// Writes to objects of the mesh, without those to the installation and its revision history.
fn mesh_writes(writes: Vec<String>) -> Vec<String> {
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
