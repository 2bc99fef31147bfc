//! What the operator writes when nobody wants anything of it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use meshwright_e2e::mesh::{Mesh, OPERATOR_NAMESPACE};
use meshwright_e2e::{Lab, TestResult, objects, wait};

use super::Options;
use super::cost::Cost;
use super::install::quiet;
use super::table::{Table, seconds};

const NAMESPACE: &str = "shop";
/// Pods that are there at the same time.
const BATCH: usize = 50;

/// Counts writes at rest, and while injected pods come and go.
pub(crate) async fn measure(lab: &Lab, mesh: &Mesh, options: &Options, table: &mut Table) -> TestResult {
    let leader = lab.process(OPERATOR_NAMESPACE, &mesh.leader().await?)?;
    let mark = quiet(lab).await?.mark();
    let before = leader.times()?.computed;
    tokio::time::sleep(Duration::from_secs(options.idle_seconds)).await;
    let cost = Cost::of(&lab.settled_audit().await?.since(mark));
    let computed = seconds(leader.times()?.computed.saturating_sub(before));
    let figure = format!("writes in {} idle seconds", options.idle_seconds);
    table.row(figure, format!("{} ({cost}; {computed} CPU)", cost.writes()), "0", "0");

    objects::namespace(&lab.client(), NAMESPACE, &[("istio-injection", "enabled")]).await?;
    let mark = quiet(lab).await?.mark();
    let before = leader.times()?.computed;
    let injected = churn(lab, options.churn).await?;
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

/// Answers how many of the pods got a proxy.
async fn churn(lab: &Lab, count: usize) -> TestResult<usize> {
    let pods: Api<Pod> = Api::namespaced(lab.client(), NAMESPACE);
    let mut injected = 0;
    for first in (0..count).step_by(BATCH) {
        for n in first..count.min(first + BATCH) {
            let pod = objects::pod(&format!("p-{n}"), &[("app", "p")]);
            let spec = pods.create(&PostParams::default(), &pod).await?.spec.unwrap_or_default();
            let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
            injected += usize::from(all.any(|container| container.name == "istio-proxy"));
        }
        pods.delete_collection(&DeleteParams::default().grace_period(0), &ListParams::default()).await?;
        wait::until(wait::PATIENCE, "the batch to be gone", async || {
            let left = pods.list_metadata(&ListParams::default()).await.map_err(|e| e.to_string())?.items.len();
            if left == 0 { Ok(()) } else { Err(format!("{left} are left")) }
        })
        .await?;
    }
    Ok(injected)
}
