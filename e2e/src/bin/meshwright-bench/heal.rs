//! How long it takes until what was deleted or edited is back, and what that costs.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use kube::{Client, ResourceExt as _};
use meshwright_e2e::audit::{Audit, Entry};
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR};
use meshwright_e2e::{Lab, TestResult, wait};
use serde_json::json;

use super::Options;
use super::cost::{Cost, is_of_mesh};
use super::install::{quiet, since};
use super::table::{Table, median, seconds};

/// One object that the operator has applied, as the audit log names it.
#[derive(Clone, Debug)]
struct Target {
    resource: ApiResource,
    namespace: String,
    name: String,
}

impl Target {
    fn of(entry: &Entry) -> Self {
        let api_version =
            if entry.group.is_empty() { entry.version.clone() } else { format!("{}/{}", entry.group, entry.version) };
        let resource = ApiResource {
            group: entry.group.clone(),
            version: entry.version.clone(),
            api_version,
            // Only paths are made of this; the server says what kind an object is.
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

    fn is_meant_by(&self, entry: &Entry) -> bool {
        let resource = entry.resource.split('/').next().unwrap_or_default();
        // The namespace of a Namespace is itself, in the words of the audit log.
        resource == self.resource.plural && entry.name == self.name && entry.group == self.resource.group
    }
}

/// One object of each kind: istiod's where it has one. Of namespaces the gateway's, since the other holds everything; not
/// istiod's ServiceAccount, with which the tokens of all running istiods go.
fn targets(audit: &Audit) -> Vec<Target> {
    let mut targets: BTreeMap<String, Target> = BTreeMap::new();
    for entry in audit.by(OPERATOR).filter(|entry| is_of_mesh(entry)) {
        if entry.name == "istio-system" || (entry.resource == "serviceaccounts" && entry.name == "istiod") {
            continue;
        }
        let known = targets.get(&entry.resource).is_some_and(|known| known.name == "istiod" || entry.name != "istiod");
        if !known {
            let mut target = Target::of(entry);
            if entry.resource == "namespaces" {
                target.namespace.clear();
            }
            targets.insert(entry.resource.clone(), target);
        }
    }
    targets.into_values().collect()
}

/// What one healing took.
struct Healing {
    time: Duration,
    cost: Cost,
}

/// From the moment in which the object was as it shouldn't be to that in which the server had taken the right one.
fn read(audit: &Audit, target: &Target) -> TestResult<Healing> {
    let ours = |entry: &&Entry| entry.user == OPERATOR && target.is_meant_by(entry) && is_of_mesh(entry);
    let back = audit.entries().iter().find(ours).ok_or_else(|| format!("{target:?} was not written"))?;
    // Namespaces and definitions are deleted in two steps, the second of them by the server itself.
    let gone: Option<Timestamp> = audit
        .entries()
        .iter()
        .filter(|entry| entry.user != OPERATOR && target.is_meant_by(entry))
        .filter(|entry| entry.is_write() && entry.code < 300 && entry.answered <= back.received)
        .map(|entry| entry.answered)
        .max();
    let gone = gone.ok_or_else(|| format!("{target:?} was not touched by anybody else"))?;
    Ok(Healing { time: since(gone, back.answered), cost: Cost::of(audit) })
}

async fn deleted(lab: &Lab, mesh: &Mesh, target: &Target) -> TestResult<Healing> {
    let api = target.api(lab.client());
    let mark = lab.settled_audit().await?.mark();
    let before = api.get_metadata(&target.name).await?.uid();
    api.delete(&target.name, &DeleteParams::default()).await?;
    wait::until(wait::PATIENCE, format!("{target:?} to be back"), async || {
        let now = api.get_metadata_opt(&target.name).await.map_err(|error| error.to_string())?;
        let new = now.filter(|now| now.uid() != before);
        new.map(drop).ok_or_else(|| "not yet".to_owned())
    })
    .await?;
    mesh.wait_ready(NAME).await?;
    read(&quiet(lab).await?.since(mark), target)
}

async fn edited(lab: &Lab, mesh: &Mesh, target: &Target) -> TestResult<Healing> {
    let api = target.api(lab.client());
    let mark = lab.settled_audit().await?.mark();
    let path = "/spec/template/spec/containers/0/image";
    let before = api.get(&target.name).await?.data;
    let edit: json_patch::Patch =
        serde_json::from_value(json!([{"op": "replace", "path": path, "value": "elsewhere/pilot:0"}]))?;
    api.patch(&target.name, &PatchParams::default(), &Patch::Json::<()>(edit)).await?;
    wait::until(wait::PATIENCE, "the image to be as before", async || {
        let now = api.get(&target.name).await.map_err(|error| error.to_string())?.data;
        if now.pointer(path) == before.pointer(path) { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await?;
    mesh.wait_ready(NAME).await?;
    read(&quiet(lab).await?.since(mark), target)
}

/// Deletes one object of each kind, again and again, and edits the Deployment's image.
pub(crate) async fn measure(lab: &Lab, mesh: &Mesh, options: &Options, table: &mut Table) -> TestResult {
    let targets = targets(&lab.settled_audit().await?);
    let wanted = |target: &&Target| options.kinds.is_empty() || options.kinds.contains(&target.resource.plural);
    for target in targets.iter().filter(wanted) {
        let mut healings = Vec::new();
        for _ in 0..options.heals {
            healings.push(deleted(lab, mesh, target).await?);
        }
        tell(&format!("{} {} deleted -> back", target.resource.plural, target.name), &healings, table);
        if target.resource.plural == "deployments" {
            let mut healings = Vec::new();
            for _ in 0..options.heals {
                healings.push(edited(lab, mesh, target).await?);
            }
            tell(&format!("deployments {} image edited -> reverted", target.name), &healings, table);
        }
    }
    Ok(())
}

fn tell(figure: &str, healings: &[Healing], table: &mut Table) {
    let times: Vec<_> = healings.iter().map(|healing| healing.time).collect();
    let costs: Vec<_> = healings.iter().map(|healing| (healing.cost.requests(), healing.cost)).collect();
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
