//! How long an installation takes and what it costs.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, DeleteParams};
use meshwright_e2e::audit::{Audit, Entry};
use meshwright_e2e::mesh::{Mesh, NAME, VERSION, small};
use meshwright_e2e::{Lab, TestResult, wait, with_lab};
use serde_json::{Value, json};

use super::Options;
use super::cost::{Cost, is_of_mesh, requests};
use super::table::{Table, median, seconds};

/// Nothing was asked for this long: the operator has done what it can.
const QUIET: Duration = Duration::from_secs(3);

/// A mesh that has an object of every kind that is applied: two istiods give a disruption budget, switches give policies.
fn everything() -> Value {
    let resources = json!({"requests": {"cpu": "10m", "memory": "100Mi"}});
    json!({
        "version": VERSION,
        "controlPlane": {"autoscaling": {"min": 2, "max": 3}, "resources": resources},
        "gateways": [{"name": "edge", "namespace": "edge", "service": {"type": "ClusterIP"}}],
        "values": {
            "base": {"experimental": {"stableValidationPolicy": true}},
            "istiod": {"global": {"networkPolicy": {"enabled": true}}, "experimental": {"stableValidationPolicy": true}},
        },
    })
}

/// Waits until the operator has asked for nothing for a while from now on; answers with the log until then.
pub(crate) async fn quiet(lab: &Lab) -> TestResult<Audit> {
    let called = Timestamp::now();
    let audit = wait::until(wait::PATIENCE, "the operator to be quiet", async || {
        let audit = lab.settled_audit().await.map_err(|error| error.to_string())?;
        let last = requests(&audit).last().map(|entry| entry.answered).unwrap_or_default();
        let since = since(last.max(called), Timestamp::now());
        if since >= QUIET {
            return Ok(audit);
        }
        tokio::time::sleep(QUIET.saturating_sub(since)).await;
        Err(format!("a request {} ago", seconds(since)))
    });
    Ok(audit.await?)
}

/// From one moment to a later one.
pub(crate) fn since(from: Timestamp, to: Timestamp) -> Duration {
    to.duration_since(from).unsigned_abs()
}

/// When somebody asked for the installation.
fn asked(audit: &Audit) -> TestResult<Timestamp> {
    let first = audit.entries().iter().find(|entry| entry.is_write() && entry.resource == "meshinstallations");
    Ok(first.ok_or("nobody has applied an installation")?.received)
}

fn last<'a>(audit: &'a Audit, of: impl Fn(&Entry) -> bool + 'a) -> TestResult<Timestamp> {
    Ok(requests(audit).filter(|entry| of(entry)).last().ok_or("the operator wrote nothing")?.answered)
}

/// Installations with istiod played by kwok, each in a cluster of its own.
pub(crate) fn measure(options: &Options, table: &mut Table) -> TestResult {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for _ in 0..options.installs {
        let (bare, again) = with_lab(options.lab().audited().istiod_by_kwok(), async |lab| {
            let mesh = Mesh::operator(lab).await?;
            let bare = once(lab, &mesh).await?;
            mesh.delete(NAME, &DeleteParams::default()).await?;
            Ok((bare, once(lab, &mesh).await?))
        })?;
        first.push(bare);
        second.push(again);
    }
    // Sail's own installation brings Istio's CRDs, so only the second kind is what its figures are of.
    tell("CR applied -> last write of an object, istiod by kwok", &first, "-", ["-"; 2], table);
    tell("the same where Istio's CRDs are there", &second, "< 0.5 s", ["1.02 s", "53; 230 requests"], table);
    Ok(())
}

/// One installation, and what it cost.
async fn once(lab: &Lab, mesh: &Mesh) -> TestResult<(Duration, Cost)> {
    let mark = quiet(lab).await?.mark();
    mesh.apply(NAME, small()).await?;
    let audit = quiet(lab).await?.since(mark);
    Ok((since(asked(&audit)?, last(&audit, is_of_mesh)?), Cost::of(&audit)))
}

fn tell(figure: &str, runs: &[(Duration, Cost)], budget: &str, peer: [&str; 2], table: &mut Table) {
    let [peers_time, peers_writes] = peer;
    let Some((time, cost)) = median(runs) else { return };
    table.row(format!("{figure}, median of {}", runs.len()), seconds(time), budget, peers_time);
    writes(cost, peers_writes, table);
}

/// How much was written, beside what may be: each object once, and five writes of the operator's own.
fn writes(cost: Cost, peer: &str, table: &mut Table) {
    let measured = format!("{}; {} requests: {cost}", cost.writes(), cost.requests());
    table.row("its writes", measured, &format!("<= {}", cost.objects + 5), peer);
}

/// Brings a mesh with every kind of object up with the real istiod, and leaves it Ready.
pub(crate) async fn ready(lab: &Lab, mesh: &Mesh, table: &mut Table) -> TestResult {
    let mark = quiet(lab).await?.mark();
    mesh.apply(NAME, everything()).await?;
    mesh.wait_ready(NAME).await?;
    let now = lab.settled_audit().await?.since(mark);
    let told = since(asked(&now)?, last(&now, |entry| entry.resource == "meshinstallations/status")?);
    let audit = quiet(lab).await?;
    let after = audit.since(mark);
    let applied = since(asked(&after)?, last(&after, is_of_mesh)?);
    let cost = Cost::of(&after);
    table.row("CR applied -> Ready, real istiod, 2 replicas and a gateway", seconds(told), "-", "-");
    table.row("CR applied -> last write of an object, the gateway after istiod injects", seconds(applied), "-", "-");
    writes(cost, "-", table);
    scaled(lab).await
}

/// The autoscaler takes its time; until it has made both istiods, the mesh is not at rest.
async fn scaled(lab: &Lab) -> TestResult {
    let deployments: Api<Deployment> = Api::namespaced(lab.client(), "istio-system");
    wait::until(wait::PATIENCE, "two istiods", async || {
        let istiod = deployments.get("istiod").await.map_err(|error| error.to_string())?;
        let ready = istiod.status.and_then(|status| status.ready_replicas).unwrap_or(0);
        if ready == 2 { Ok(()) } else { Err(format!("{ready} ready")) }
    })
    .await?;
    Ok(())
}
