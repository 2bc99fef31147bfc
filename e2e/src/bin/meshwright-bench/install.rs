//! Time and cost of an installation.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, DeleteParams};
use meshwright_e2e::audit::{Audit, AuditEntry};
use meshwright_e2e::mesh::{Mesh, NAME, VERSION, demo_spec};
use meshwright_e2e::{Lab, TestResult, wait, with_lab};
use serde_json::{Value, json};

use super::BenchOptions;
use super::cost::{Cost, is_mesh_write, requests};
use super::table::{Table, median, seconds};

/// The operator is idle if it sent no request for this long.
const IDLE: Duration = Duration::from_secs(3);

/// A mesh with an object of every applied kind: two istiods add a PodDisruptionBudget, and values add policies.
fn full_spec() -> Value {
    let resources = json!({"requests": {"cpu": "10m", "memory": "100Mi"}});
    json!({
        "version": VERSION,
        "controlPlane": {"autoscaling": {"minReplicas": 2, "maxReplicas": 3}, "resources": resources},
        "gateways": [{"name": "edge", "namespace": "edge", "service": {"type": "ClusterIP"}}],
        "values": {
            "base": {"experimental": {"stableValidationPolicy": true}},
            "istiod": {"global": {"networkPolicy": {"enabled": true}}, "experimental": {"stableValidationPolicy": true}},
        },
    })
}

/// Waits until the operator is idle; returns the audit log.
pub(crate) async fn wait_idle(lab: &Lab) -> TestResult<Audit> {
    let called = Timestamp::now();
    let audit = wait::until(wait::TIMEOUT, "the operator to be idle", async || {
        let audit = lab.settled_audit().await.map_err(|error| error.to_string())?;
        let last = requests(&audit).last().map(|entry| entry.completed).unwrap_or_default();
        let since = since(last.max(called), Timestamp::now());
        if since >= IDLE {
            return Ok(audit);
        }
        tokio::time::sleep(IDLE.saturating_sub(since)).await;
        Err(format!("a request {} ago", seconds(since)))
    });
    Ok(audit.await?)
}

/// Time between two timestamps.
pub(crate) fn since(from: Timestamp, to: Timestamp) -> Duration {
    to.duration_since(from).unsigned_abs()
}

/// When the MeshInstallation was applied.
fn applied_at(audit: &Audit) -> TestResult<Timestamp> {
    let first = audit.entries().iter().find(|entry| entry.is_write() && entry.resource == "meshinstallations");
    Ok(first.ok_or("no write of a MeshInstallation")?.received)
}

fn last_write<'a>(audit: &'a Audit, filter: impl Fn(&AuditEntry) -> bool + 'a) -> TestResult<Timestamp> {
    Ok(requests(audit).filter(|entry| filter(entry)).last().ok_or("the operator wrote nothing")?.completed)
}

/// Measures installations with istiod simulated by kwok, each in a new cluster.
pub(crate) fn measure(options: &BenchOptions, table: &mut Table) -> TestResult {
    let (mut without_crds, mut with_crds) = (Vec::new(), Vec::new());
    for _ in 0..options.installs {
        let (first, second) = with_lab(options.lab().audited().fake_istiod(), async |lab| {
            let mesh = Mesh::install_operator(lab).await?;
            let first = install_once(lab, &mesh).await?;
            mesh.delete(NAME, &DeleteParams::default()).await?;
            Ok((first, install_once(lab, &mesh).await?))
        })?;
        without_crds.push(first);
        with_crds.push(second);
    }
    // Sail's installation includes Istio's CRDs, so its figures compare only with the second row.
    report("CR applied -> last object write, istiod simulated by kwok", &without_crds, "-", ["-"; 2], table);
    report("the same with Istio's CRDs installed", &with_crds, "< 0.5 s", ["1.02 s", "53; 230 requests"], table);
    Ok(())
}

async fn install_once(lab: &Lab, mesh: &Mesh) -> TestResult<(Duration, Cost)> {
    let start = wait_idle(lab).await?.position();
    mesh.apply(NAME, demo_spec()).await?;
    let audit = wait_idle(lab).await?.since(start);
    Ok((since(applied_at(&audit)?, last_write(&audit, is_mesh_write)?), Cost::of(&audit)))
}

fn report(figure: &str, runs: &[(Duration, Cost)], budget: &str, peer: [&str; 2], table: &mut Table) {
    let [peer_time, peer_writes] = peer;
    let Some((time, cost)) = median(runs) else { return };
    table.row(format!("{figure}, median of {}", runs.len()), seconds(time), budget, peer_time);
    report_writes(cost, peer_writes, table);
}

/// Budgets: one write per object and five writes to the operator's own objects; a read, a dry run and a write per object
/// and 30 other requests.
fn report_writes(cost: Cost, peer: &str, table: &mut Table) {
    let measured = format!("{}; {} requests: {cost}", cost.writes(), cost.requests());
    let budget = format!("<= {}; {} requests", cost.objects + 5, 3 * cost.objects + 30);
    table.row("writes of that installation", measured, &budget, peer);
}

/// Installs a mesh with every kind of object and the real istiod, and waits until it is Ready.
pub(crate) async fn ready(lab: &Lab, mesh: &Mesh, table: &mut Table) -> TestResult {
    let start = wait_idle(lab).await?.position();
    mesh.apply(NAME, full_spec()).await?;
    mesh.wait_ready(NAME).await?;
    let audit = lab.settled_audit().await?.since(start);
    let is_status = |entry: &AuditEntry| entry.resource == "meshinstallations/status";
    let ready = since(applied_at(&audit)?, last_write(&audit, is_status)?);
    let audit = wait_idle(lab).await?.since(start);
    let applied = since(applied_at(&audit)?, last_write(&audit, is_mesh_write)?);
    let cost = Cost::of(&audit);
    table.row("CR applied -> Ready, real istiod, 2 replicas and a gateway", seconds(ready), "-", "-");
    table.row("CR applied -> last object write, gateway after istiod injects", seconds(applied), "-", "-");
    report_writes(cost, "-", table);
    wait_scaled(lab).await
}

/// Waits until the HPA has scaled istiod to two replicas; before that, the mesh isn't idle.
async fn wait_scaled(lab: &Lab) -> TestResult {
    let deployments: Api<Deployment> = Api::namespaced(lab.client(), "istio-system");
    wait::until(wait::TIMEOUT, "two istiods", async || {
        let istiod = deployments.get("istiod").await.map_err(|error| error.to_string())?;
        let ready = istiod.status.and_then(|status| status.ready_replicas).unwrap_or(0);
        if ready == 2 { Ok(()) } else { Err(format!("{ready} ready")) }
    })
    .await?;
    Ok(())
}
