//! Time and cost of reverting drift: deleted and edited objects.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use kube::{Client, ResourceExt as _};
use meshwright_e2e::audit::{Audit, AuditEntry};
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR};
use meshwright_e2e::{Lab, TestResult, wait};
use serde_json::json;

use super::BenchOptions;
use super::cost::{Cost, is_mesh_write};
use super::install::{since, wait_idle};
use super::table::{Table, median, seconds};

/// An object that the operator has applied, as named in the audit log.
#[derive(Clone, Debug)]
struct DriftTarget {
    resource: ApiResource,
    namespace: String,
    name: String,
}

impl DriftTarget {
    fn of(entry: &AuditEntry) -> Self {
        let api_version =
            if entry.group.is_empty() { entry.version.clone() } else { format!("{}/{}", entry.group, entry.version) };
        let resource = ApiResource {
            group: entry.group.clone(),
            version: entry.version.clone(),
            api_version,
            // Used only for request paths.
            kind: entry.resource.clone(),
            plural: entry.resource.clone(),
        };
        Self { resource, namespace: entry.namespace.clone(), name: entry.name.clone() }
    }

    fn api(&self, client: Client) -> Api<DynamicObject> {
        if self.namespace.is_empty() {
            Api::all_with(client, &self.resource)
        } else {
            Api::namespaced_with(client, &self.namespace, &self.resource)
        }
    }

    fn matches(&self, entry: &AuditEntry) -> bool {
        let resource = entry.resource.split('/').next().unwrap_or_default();
        // Ignores the namespace: for a Namespace, the audit log sets it to the object's own name.
        resource == self.resource.plural && entry.name == self.name && entry.group == self.resource.group
    }
}

/// Selects one object of each kind, istiod's if there is one. Excludes the control plane's namespace, and istiod's
/// ServiceAccount, because its deletion invalidates the tokens of all running istiods.
fn targets(audit: &Audit) -> Vec<DriftTarget> {
    let mut targets: BTreeMap<String, DriftTarget> = BTreeMap::new();
    for entry in audit.by(OPERATOR).filter(|entry| is_mesh_write(entry)) {
        if entry.name == "istio-system" || (entry.resource == "serviceaccounts" && entry.name == "istiod") {
            continue;
        }
        let selected = targets.get(&entry.resource);
        let keep = selected.is_some_and(|selected| selected.name == "istiod" || entry.name != "istiod");
        if !keep {
            let mut target = DriftTarget::of(entry);
            if entry.resource == "namespaces" {
                target.namespace.clear();
            }
            targets.insert(entry.resource.clone(), target);
        }
    }
    targets.into_values().collect()
}

/// Time and requests until one object was restored.
struct Recovery {
    time: Duration,
    cost: Cost,
}

/// Measures the time from the last foreign write until the server accepted the operator's write.
fn measure_recovery(audit: &Audit, target: &DriftTarget) -> TestResult<Recovery> {
    let by_operator = |entry: &&AuditEntry| entry.user == OPERATOR && target.matches(entry) && is_mesh_write(entry);
    let restored = audit.entries().iter().find(by_operator).ok_or_else(|| format!("{target:?} was not written"))?;
    // Namespaces and CRDs are deleted in two steps, the second by Kubernetes itself.
    let drifted: Option<Timestamp> = audit
        .entries()
        .iter()
        .filter(|entry| entry.user != OPERATOR && target.matches(entry))
        .filter(|entry| entry.is_write() && entry.code < 300 && entry.completed <= restored.received)
        .map(|entry| entry.completed)
        .max();
    let drifted = drifted.ok_or_else(|| format!("{target:?} was not written by another user"))?;
    Ok(Recovery { time: since(drifted, restored.completed), cost: Cost::of(audit) })
}

async fn delete(lab: &Lab, mesh: &Mesh, target: &DriftTarget) -> TestResult<Recovery> {
    let api = target.api(lab.client());
    let start = lab.settled_audit().await?.position();
    let before = api.get_metadata(&target.name).await?.uid();
    api.delete(&target.name, &DeleteParams::default()).await?;
    wait::until(wait::TIMEOUT, format!("{target:?} to be recreated"), async || {
        let now = api.get_metadata_opt(&target.name).await.map_err(|error| error.to_string())?;
        let new = now.filter(|now| now.uid() != before);
        new.map(drop).ok_or_else(|| "not recreated".to_owned())
    })
    .await?;
    mesh.wait_ready(NAME).await?;
    measure_recovery(&wait_idle(lab).await?.since(start), target)
}

async fn edit_image(lab: &Lab, mesh: &Mesh, target: &DriftTarget) -> TestResult<Recovery> {
    let api = target.api(lab.client());
    let start = lab.settled_audit().await?.position();
    let path = "/spec/template/spec/containers/0/image";
    let before = api.get(&target.name).await?.data;
    let edit: json_patch::Patch =
        serde_json::from_value(json!([{"op": "replace", "path": path, "value": "elsewhere/pilot:0"}]))?;
    api.patch(&target.name, &PatchParams::default(), &Patch::Json::<()>(edit)).await?;
    wait::until(wait::TIMEOUT, "the image to be reverted", async || {
        let now = api.get(&target.name).await.map_err(|error| error.to_string())?.data;
        if now.pointer(path) == before.pointer(path) { Ok(()) } else { Err("not reverted".to_owned()) }
    })
    .await?;
    mesh.wait_ready(NAME).await?;
    measure_recovery(&wait_idle(lab).await?.since(start), target)
}

/// Repeatedly deletes one object of each kind and edits the Deployment's image.
pub(crate) async fn measure(lab: &Lab, mesh: &Mesh, options: &BenchOptions, table: &mut Table) -> TestResult {
    let targets = targets(&lab.settled_audit().await?);
    let selected = |target: &&DriftTarget| options.kinds.is_empty() || options.kinds.contains(&target.resource.plural);
    for target in targets.iter().filter(selected) {
        let mut recoveries = Vec::new();
        for _ in 0..options.repairs {
            recoveries.push(delete(lab, mesh, target).await?);
        }
        report(&format!("{} {} deleted -> recreated", target.resource.plural, target.name), &recoveries, table);
        if target.resource.plural == "deployments" {
            let mut recoveries = Vec::new();
            for _ in 0..options.repairs {
                recoveries.push(edit_image(lab, mesh, target).await?);
            }
            report(&format!("deployments {} image edited -> reverted", target.name), &recoveries, table);
        }
    }
    Ok(())
}

fn report(figure: &str, recoveries: &[Recovery], table: &mut Table) {
    let times: Vec<_> = recoveries.iter().map(|recovery| recovery.time).collect();
    let costs: Vec<_> = recoveries.iter().map(|recovery| (recovery.cost.requests(), recovery.cost)).collect();
    let (Some(time), Some((requests, cost))) = (median(&times), median(&costs)) else { return };
    let peer = if figure.contains("edited") {
        "0.35 s; 24 writes, 170 requests"
    } else if figure.starts_with("deployments") {
        "0.34 s; 24 writes, 170 requests"
    } else {
        "-"
    };
    let measured = format!("{}; {requests} requests: {cost}", seconds(time));
    table.row(format!("{figure}, median of {}", times.len()), measured, "< 0.1 s; 1 write, <= 3 requests", peer);
}
