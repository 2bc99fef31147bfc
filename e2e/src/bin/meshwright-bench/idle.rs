//! The operator's writes while idle.

use std::time::Duration;

use meshwright_e2e::mesh::{Mesh, OPERATOR_NAMESPACE};
use meshwright_e2e::{Lab, TestResult, objects};

use super::BenchOptions;
use super::cost::Cost;
use super::install::wait_idle;
use super::table::{Table, seconds};

const NAMESPACE: &str = "shop";

/// Counts writes while idle and during pod churn.
pub(crate) async fn measure(lab: &Lab, mesh: &Mesh, options: &BenchOptions, table: &mut Table) -> TestResult {
    let leader = lab.process(OPERATOR_NAMESPACE, &mesh.leader().await?)?;
    let start = wait_idle(lab).await?.position();
    let before = leader.times()?.cpu_time;
    // The measurement needs a period without changes.
    tokio::time::sleep(Duration::from_secs(options.idle_seconds)).await;
    let cost = Cost::of(&lab.settled_audit().await?.since(start));
    let cpu_time = seconds(leader.times()?.cpu_time.saturating_sub(before));
    let figure = format!("writes in {} idle seconds", options.idle_seconds);
    table.row(figure, format!("{} ({cost}; {cpu_time} CPU)", cost.writes()), "0", "0");

    objects::namespace(&lab.client(), NAMESPACE, &[("istio-injection", "enabled")]).await?;
    let start = wait_idle(lab).await?.position();
    let before = leader.times()?.cpu_time;
    let injected = objects::churn_pods(&lab.client(), options.churn, NAMESPACE).await?;
    let cost = Cost::of(&wait_idle(lab).await?.since(start));
    let cpu_time = seconds(leader.times()?.cpu_time.saturating_sub(before));
    table.row(
        format!("writes during churn of {injected} injected pods"),
        format!("{} ({cost}; {cpu_time} CPU)", cost.writes()),
        "0, and <= 1 status per minute",
        "2660 (18803 requests; 64 s CPU)",
    );
    Ok(())
}
