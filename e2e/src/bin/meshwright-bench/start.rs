//! Time from the start of a process, or the termination of the leader, to the first reconcile.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use meshwright_e2e::audit::{Audit, AuditPosition};
use meshwright_e2e::mesh::{Mesh, OPERATOR, OPERATOR_NAMESPACE};
use meshwright_e2e::{Lab, TestResult, objects, wait};
use serde_json::json;

use super::install::{since, wait_idle};
use super::table::{Table, seconds};

const DEPLOYMENT: &str = "meshwright";
const LABEL: &str = "app.kubernetes.io/name=meshwright";

/// A process lists an installation's revisions once, at its first reconcile.
fn first_reconcile(audit: &Audit) -> Option<Timestamp> {
    let mut read = audit.by(OPERATOR).filter(|entry| entry.verb == "list" && entry.resource == "controllerrevisions");
    read.next().map(|entry| entry.received)
}

async fn wait_reconciled(lab: &Lab, start: AuditPosition) -> TestResult<Timestamp> {
    let time = wait::until(wait::TIMEOUT, "the first reconcile", async || {
        let audit = lab.settled_audit().await.map_err(|error| error.to_string())?.since(start);
        first_reconcile(&audit).ok_or_else(|| "no request yet".to_owned())
    });
    Ok(time.await?)
}

async fn scale(lab: &Lab, replicas: i32) -> TestResult {
    let api: Api<Deployment> = Api::namespaced(lab.client(), OPERATOR_NAMESPACE);
    let patch = json!({"spec": {"replicas": replicas}});
    api.patch_scale(DEPLOYMENT, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    wait::until(wait::TIMEOUT, format!("{replicas} replicas of the operator"), async || {
        let names = objects::pod_names(&lab.client(), OPERATOR_NAMESPACE, LABEL).await;
        let count = names.map_err(|error| error.to_string())?.len();
        if i32::try_from(count) == Ok(replicas) { Ok(()) } else { Err(format!("{count} pods")) }
    })
    .await?;
    if replicas > 0 {
        objects::deployment_ready(&lab.client(), OPERATOR_NAMESPACE, DEPLOYMENT).await?;
    }
    Ok(())
}

/// Starts the operator with one replica, restarts it, and then deletes the leader of two.
pub(crate) async fn measure(lab: &Lab, mesh: &Mesh, table: &mut Table) -> TestResult {
    scale(lab, 0).await?;
    let start = lab.settled_audit().await?.position();
    scale(lab, 1).await?;
    let reconciled = wait_reconciled(lab, start).await?;
    let only = mesh.leader().await?;
    let started = lab.process(OPERATOR_NAMESPACE, &only)?.times()?.started;
    table.row("process start -> first reconcile", seconds(since(started, reconciled)), "< 0.3 s", "0.28 s");

    let stopped = delete_pod(lab, &only).await?;
    table.row("restart of the only replica: SIGTERM -> first reconcile", seconds(stopped), "< 1 s", "17.6 s");

    scale(lab, 2).await?;
    wait_idle(lab).await?;
    let leader = mesh.leader().await?;
    let stopped = delete_pod(lab, &leader).await?;
    table.row("restart of the leader of two: SIGTERM -> first reconcile", seconds(stopped), "< 1 s", "-");
    Ok(())
}

/// Deletes a Pod of the operator; returns the time until another one reconciles.
async fn delete_pod(lab: &Lab, pod: &str) -> TestResult<std::time::Duration> {
    let api: Api<Pod> = Api::namespaced(lab.client(), OPERATOR_NAMESPACE);
    let start = wait_idle(lab).await?.position();
    api.delete(pod, &DeleteParams::default()).await?;
    let reconciled = wait_reconciled(lab, start).await?;
    let audit = lab.settled_audit().await?.since(start);
    let mut deletions = audit.entries().iter().filter(|entry| entry.verb == "delete" && entry.name == pod);
    let deleted = deletions.next().ok_or("the Pod's deletion is not in the log")?.completed;
    objects::deployment_ready(&lab.client(), OPERATOR_NAMESPACE, DEPLOYMENT).await?;
    Ok(since(deleted, reconciled))
}
