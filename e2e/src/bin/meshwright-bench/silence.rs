//! What the operator writes when nobody wants anything of it.

use std::time::Duration;

use meshwright_e2e::mesh::{Mesh, OPERATOR_NAMESPACE};
use meshwright_e2e::{Lab, TestResult, objects};

use super::Options;
use super::cost::Cost;
use super::install::quiet;
use super::table::{Table, seconds};

const NAMESPACE: &str = "shop";

/// Counts writes at rest, and while injected pods come and go.
pub(crate) async fn measure(lab: &Lab, mesh: &Mesh, options: &Options, table: &mut Table) -> TestResult {
    let leader = lab.process(OPERATOR_NAMESPACE, &mesh.leader().await?)?;
    let mark = quiet(lab).await?.mark();
    let before = leader.times()?.computed;
    // What is measured is a span of time in which nothing happens.
    tokio::time::sleep(Duration::from_secs(options.idle_seconds)).await;
    let cost = Cost::of(&lab.settled_audit().await?.since(mark));
    let computed = seconds(leader.times()?.computed.saturating_sub(before));
    let figure = format!("writes in {} idle seconds", options.idle_seconds);
    table.row(figure, format!("{} ({cost}; {computed} CPU)", cost.writes()), "0", "0");

    objects::namespace(&lab.client(), NAMESPACE, &[("istio-injection", "enabled")]).await?;
    let mark = quiet(lab).await?.mark();
    let before = leader.times()?.computed;
    let injected = objects::come_and_go(&lab.client(), options.churn, NAMESPACE).await?;
    let cost = Cost::of(&quiet(lab).await?.since(mark));
    let computed = seconds(leader.times()?.computed.saturating_sub(before));
    table.row(
        format!("writes when {injected} injected pods come and go"),
        format!("{} ({cost}; {computed} CPU)", cost.writes()),
        "0, and <= 1 status a minute",
        "2660 (18803 requests; 64 s CPU)",
    );
    Ok(())
}
