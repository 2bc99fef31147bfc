//! How long it takes from the start of a process, or the end of another, to work.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use meshwright_e2e::audit::{Audit, Mark};
use meshwright_e2e::mesh::{Mesh, OPERATOR, OPERATOR_NAMESPACE};
use meshwright_e2e::{Lab, TestResult, objects, wait};
use serde_json::json;

use super::install::{quiet, since};
use super::table::{Table, seconds};

const DEPLOYMENT: &str = "meshwright";
const LABEL: &str = "app.kubernetes.io/name=meshwright";

/// A process reads its memory of an installation once, at its first reconcile of it.
fn first_reconcile(audit: &Audit) -> Option<Timestamp> {
    let mut read = audit.by(OPERATOR).filter(|entry| entry.verb == "list" && entry.resource == "controllerrevisions");
    read.next().map(|entry| entry.received)
}

async fn until_reconciled(lab: &Lab, mark: Mark) -> TestResult<Timestamp> {
    let at = wait::until(wait::PATIENCE, "a first reconcile", async || {
        let audit = lab.settled_audit().await.map_err(|error| error.to_string())?.since(mark);
        first_reconcile(&audit).ok_or_else(|| "none yet".to_owned())
    });
    Ok(at.await?)
}

async fn scale(lab: &Lab, replicas: i32) -> TestResult {
    let api: Api<Deployment> = Api::namespaced(lab.client(), OPERATOR_NAMESPACE);
    let patch = json!({"spec": {"replicas": replicas}});
    api.patch_scale(DEPLOYMENT, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    wait::until(wait::PATIENCE, format!("{replicas} of the operator"), async || {
        let names = objects::pod_names(&lab.client(), OPERATOR_NAMESPACE, LABEL).await;
        let count = names.map_err(|error| error.to_string())?.len();
        if i32::try_from(count) == Ok(replicas) { Ok(()) } else { Err(format!("{count} of them")) }
    })
    .await?;
    if replicas > 0 {
        objects::deployment_ready(&lab.client(), OPERATOR_NAMESPACE, DEPLOYMENT).await?;
    }
    Ok(())
}

/// Starts an operator where none runs, and takes the leader of two away.
pub(crate) async fn measure(lab: &Lab, mesh: &Mesh, table: &mut Table) -> TestResult {
    scale(lab, 0).await?;
    let mark = lab.settled_audit().await?.mark();
    scale(lab, 1).await?;
    let reconciled = until_reconciled(lab, mark).await?;
    let only = mesh.leader().await?;
    let started = lab.process(OPERATOR_NAMESPACE, &only)?.times()?.started;
    table.row("process start -> first reconcile", seconds(since(started, reconciled)), "< 0.3 s", "0.28 s");

    let stopped = stop(lab, &only).await?;
    table.row("restart of the only replica: SIGTERM -> first reconcile", seconds(stopped), "< 1 s", "17.6 s");

    scale(lab, 2).await?;
    quiet(lab).await?;
    let leader = mesh.leader().await?;
    let stopped = stop(lab, &leader).await?;
    table.row("restart of the leader of two: SIGTERM -> first reconcile", seconds(stopped), "< 1 s", "-");
    Ok(())
}

/// Deletes a Pod of the operator; answers how long it takes until another works.
async fn stop(lab: &Lab, pod: &str) -> TestResult<std::time::Duration> {
    let api: Api<Pod> = Api::namespaced(lab.client(), OPERATOR_NAMESPACE);
    let mark = quiet(lab).await?.mark();
    api.delete(pod, &DeleteParams::default()).await?;
    let reconciled = until_reconciled(lab, mark).await?;
    let audit = lab.settled_audit().await?.since(mark);
    let mut deletions = audit.entries().iter().filter(|entry| entry.verb == "delete" && entry.name == pod);
    let deleted = deletions.next().ok_or("the Pod's deletion is not in the log")?.answered;
    objects::deployment_ready(&lab.client(), OPERATOR_NAMESPACE, DEPLOYMENT).await?;
    Ok(since(deleted, reconciled))
}
