//! The operator's resident set.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR_NAMESPACE, small};
use meshwright_e2e::{Lab, Memory, TestResult, objects, wait};
use serde_json::json;

use super::Options;
use super::table::{Table, mebibytes};

const NAMESPACE: &str = "crowd";
/// The version of the crowd's proxies.
const PROXY: &str = "1.31.2";
/// Requests at a time.
const CONCURRENCY: usize = 16;
/// A crowd takes minutes on a slow machine.
const DEADLINE: Duration = Duration::from_mins(20);
/// What a process does after its first seconds is what it does from then on.
const SETTLED: Duration = Duration::from_secs(10);

/// Measures the leader: before any installation, after it, with a crowd of pods, and started anew beside that crowd.
pub(crate) async fn measure(lab: &Lab, options: &Options, table: &mut Table) -> TestResult {
    let mesh = Mesh::operator(lab).await?;
    tell(lab, &mesh, "before any CR", "<= 15 MiB", "66 MiB", table).await?;
    mesh.apply(NAME, small()).await?;
    mesh.wait_ready(NAME).await?;
    tell(lab, &mesh, "after install", "<= 20 MiB", "87 MiB", table).await?;
    crowd(lab, options.pods).await?;
    told(&mesh).await?;
    let with = format!("with {} pods that have a proxy", options.pods);
    tell(lab, &mesh, &with, "<= 32 MiB", "233 MiB", table).await?;
    restart(lab, &mesh).await?;
    listed(lab, &mesh).await?;
    let with = format!("started anew with {} pods", options.pods);
    tell(lab, &mesh, &with, "<= 48 MiB peak", "274 MiB", table).await
}

/// Waits until the operator has seen the crowd: what it doesn't know takes no memory.
async fn told(mesh: &Mesh) -> TestResult {
    wait::until(DEADLINE, "status to tell of the crowd's proxies", async || {
        let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
        let proxies = found.status.and_then(|status| status.proxies).unwrap_or_default();
        if proxies.versions == [PROXY] { Ok(()) } else { Err(format!("{proxies:?}")) }
    })
    .await?;
    Ok(())
}

/// Waits until a new leader has listed the crowd.
async fn listed(lab: &Lab, mesh: &Mesh) -> TestResult {
    let leader = mesh.leader().await?;
    wait::until(DEADLINE, "the new leader to list the crowd", async || {
        let log = lab.logs(OPERATOR_NAMESPACE, &leader).map_err(|error| error.to_string())?;
        if log.contains("pods with a proxy are listed") { Ok(()) } else { Err("it has not yet".to_owned()) }
    })
    .await?;
    Ok(())
}

async fn tell(lab: &Lab, mesh: &Mesh, when: &str, budget: &str, peer: &str, table: &mut Table) -> TestResult {
    tokio::time::sleep(SETTLED).await;
    let Memory { resident, anonymous, peak } = lab.process(OPERATOR_NAMESPACE, &mesh.leader().await?)?.memory()?;
    let measured = format!("{}, of it heap {}; peak {}", mebibytes(resident), mebibytes(anonymous), mebibytes(peak));
    table.row(format!("resident set of the leader {when}"), measured, budget, peer);
    Ok(())
}

/// Ends both processes; new ones begin with nothing in memory.
async fn restart(lab: &Lab, mesh: &Mesh) -> TestResult {
    let old = objects::pod_names(&lab.client(), OPERATOR_NAMESPACE, "").await?;
    let pods: Api<Pod> = Api::namespaced(lab.client(), OPERATOR_NAMESPACE);
    pods.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    wait::until(wait::PATIENCE, "a new process to lead", async || {
        let now = mesh.leader().await.map_err(|error| error.to_string())?;
        if old.contains(&now) { Err(now) } else { Ok(()) }
    })
    .await?;
    Ok(())
}

/// A pod as the injector leaves it, of no workload, which takes the most to remember. It is on a node already, so that
/// kwok plays it and no scheduler is needed.
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

/// Makes pods and waits until kwok has made all of them run.
async fn crowd(lab: &Lab, count: usize) -> TestResult {
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
        if left == 0 { Ok(()) } else { Err(format!("{left} don't")) }
    })
    .await?;
    Ok(())
}
