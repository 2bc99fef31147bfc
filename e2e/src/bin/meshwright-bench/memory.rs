//! The operator's resident set size.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR_NAMESPACE, demo_spec};
use meshwright_e2e::{Lab, ProcessMemory, TestResult, objects, wait};
use serde_json::json;

use super::BenchOptions;
use super::table::{Table, mebibytes};

const NAMESPACE: &str = "memory-test";
/// Version of the proxies.
const PROXY: &str = "1.31.2";
/// Number of concurrent requests.
const CONCURRENCY: usize = 16;
/// Creating thousands of pods takes minutes on a slow machine.
const DEADLINE: Duration = Duration::from_mins(20);
/// Time for the process to reach steady state.
const SETTLE_TIME: Duration = Duration::from_secs(10);

/// Measures the leader before and after an installation, with many pods, and after a restart with the same pods.
pub(crate) async fn measure(lab: &Lab, options: &BenchOptions, table: &mut Table) -> TestResult {
    let mesh = Mesh::install_operator(lab).await?;
    report(lab, &mesh, "before any CR", "<= 15 MiB", "66 MiB", table).await?;
    mesh.apply(NAME, demo_spec()).await?;
    mesh.wait_ready(NAME).await?;
    report(lab, &mesh, "after install", "<= 20 MiB", "87 MiB", table).await?;
    create_pods(lab, options.pods).await?;
    wait_proxies_reported(&mesh).await?;
    let with_pods = format!("with {} pods with a proxy", options.pods);
    report(lab, &mesh, &with_pods, "<= 32 MiB", "233 MiB", table).await?;
    restart(lab, &mesh).await?;
    wait_listed(lab, &mesh).await?;
    let restarted = format!("after a restart with {} pods", options.pods);
    report(lab, &mesh, &restarted, "<= 48 MiB peak", "274 MiB", table).await
}

/// Waits until the operator's cache contains the pods.
async fn wait_proxies_reported(mesh: &Mesh) -> TestResult {
    wait::until(DEADLINE, "status to report the proxies", async || {
        let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
        let proxies = found.status.and_then(|status| status.proxies).unwrap_or_default();
        if proxies.versions == [PROXY] { Ok(()) } else { Err(format!("{proxies:?}")) }
    })
    .await?;
    Ok(())
}

/// Waits until the new leader has listed the pods.
async fn wait_listed(lab: &Lab, mesh: &Mesh) -> TestResult {
    let leader = mesh.leader().await?;
    wait::until(DEADLINE, "the new leader to list the pods", async || {
        let log = lab.logs(OPERATOR_NAMESPACE, &leader).map_err(|error| error.to_string())?;
        if log.contains("listed pods with a proxy") { Ok(()) } else { Err("not listed yet".to_owned()) }
    })
    .await?;
    Ok(())
}

async fn report(lab: &Lab, mesh: &Mesh, when: &str, budget: &str, peer: &str, table: &mut Table) -> TestResult {
    tokio::time::sleep(SETTLE_TIME).await;
    let ProcessMemory { resident, anonymous, peak } =
        lab.process(OPERATOR_NAMESPACE, &mesh.leader().await?)?.memory()?;
    let measured = format!("{}, heap {}; peak {}", mebibytes(resident), mebibytes(anonymous), mebibytes(peak));
    table.row(format!("resident set size of the leader {when}"), measured, budget, peer);
    Ok(())
}

/// Replaces both processes.
async fn restart(lab: &Lab, mesh: &Mesh) -> TestResult {
    let old = objects::pod_names(&lab.client(), OPERATOR_NAMESPACE, "").await?;
    let pods: Api<Pod> = Api::namespaced(lab.client(), OPERATOR_NAMESPACE);
    pods.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    wait::until(wait::TIMEOUT, "a new leader", async || {
        let now = mesh.leader().await.map_err(|error| error.to_string())?;
        if old.contains(&now) { Err(now) } else { Ok(()) }
    })
    .await?;
    Ok(())
}

/// An injected pod without an owner, the most expensive kind to cache. It is bound to a node, so that it needs no
/// scheduler.
fn pod(n: usize) -> Pod {
    let labels = [("app", "p"), ("security.istio.io/tlsMode", "istio"), ("service.istio.io/canonical-name", "p")];
    let mut pod = objects::pod(&format!("p-{n}"), &labels);
    if let Some(spec) = &mut pod.spec {
        spec.node_name = Some("node-1".to_owned());
        let proxy = json!({"name": "istio-proxy", "image": format!("registry.istio.io/testing/proxyv2:{PROXY}")});
        spec.containers.extend(serde_json::from_value(proxy));
    }
    pod
}

/// Creates pods and waits until all are running.
async fn create_pods(lab: &Lab, count: usize) -> TestResult {
    objects::namespace(&lab.client(), NAMESPACE, &[]).await?;
    let pods: Api<Pod> = Api::namespaced(lab.client(), NAMESPACE);
    let create = |n: usize| {
        let pods = pods.clone();
        async move { pods.create(&PostParams::default(), &pod(n)).await.map(drop) }
    };
    stream::iter(0..count).map(create).buffer_unordered(CONCURRENCY).try_collect::<()>().await?;
    wait::until(DEADLINE, format!("{count} pods to run"), async || {
        let pending = ListParams::default().fields("status.phase!=Running").limit(1);
        let list = pods.list_metadata(&pending).await.map_err(|error| error.to_string())?;
        let left = list.items.len() + usize::try_from(list.metadata.remaining_item_count.unwrap_or(0)).unwrap_or(0);
        if left == 0 { Ok(()) } else { Err(format!("{left} are not running")) }
    })
    .await?;
    Ok(())
}
