//! How long an installation takes and what it costs.

use std::time::Duration;

use jiff::Timestamp;
use meshwright_e2e::audit::{Audit, Entry, Mark};
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
    let mut times = Vec::new();
    let mut cost = Cost::default();
    for _ in 0..options.installs {
        let (time, of_this) = with_lab(options.lab().audited().istiod_by_kwok(), async |lab| {
            let mesh = Mesh::operator(lab).await?;
            let mark = quiet(lab).await?.mark();
            mesh.apply(NAME, small()).await?;
            let audit = quiet(lab).await?.since(mark);
            Ok((since(asked(&audit)?, last(&audit, is_of_mesh)?), Cost::of(&audit)))
        })?;
        times.push(time);
        cost = of_this;
    }
    let time = median(&times).map(seconds).unwrap_or_default();
    let figure = format!("CR applied -> last write of an object, istiod by kwok, median of {}", times.len());
    table.row(figure, time, "< 0.5 s", "1.02 s");
    table.row("its writes", cost.writes().to_string(), &format!("<= {}", cost.objects + 5), "53");
    table.row("its requests", format!("{}: {cost}", cost.requests()), "-", "230");
    Ok(())
}

/// Brings a mesh with every kind of object up with the real istiod, and leaves it Ready.
pub(crate) async fn ready(lab: &Lab, mesh: &Mesh, table: &mut Table) -> TestResult<Mark> {
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
    table.row("its writes", cost.writes().to_string(), &format!("<= {}", cost.objects + 5), "-");
    table.row("its requests", format!("{}: {cost}", cost.requests()), "-", "-");
    Ok(audit.mark())
}
