//! What others can create doesn't exceed the operator's memory limit.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt as _};
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR_NAMESPACE, demo_spec};
use meshwright_e2e::{Lab, LabOptions, TestResult, objects, run, wait};
use serde_json::{Value, json};

use super::{assert_reverts_drift, operator_pods, restart_operator};
use crate::stalled::assert_stalls;

/// The most concurrent requests.
const CONCURRENCY: usize = 8;
const PODS: usize = 100;
const LARGE_DEPLOYMENTS: usize = 60;
const DENSE_DEPLOYMENTS: usize = 20;
/// Size of a large object; etcd rejects 1.5 MiB.
const LARGE: usize = 1_200_000;
/// Environment variables without a value, each of which takes much more memory than text.
const DENSE: usize = 7500;

/// A pod template that no node can run.
fn template(env: &[Value], label: &str) -> Value {
    let container = json!({"name": "app", "image": "registry.example/app:1", "env": env});
    json!({"metadata": {"labels": {label: "whale"}},
        "spec": {"containers": [container], "nodeSelector": {"example.com/node": "none"}}})
}

async fn create_pods(client: Client) -> TestResult {
    let pods: Api<Pod> = Api::namespaced(client, "tenant");
    let env = [json!({"name": "A", "value": "x".repeat(LARGE)})];
    let created = stream::iter(0..PODS).map(|n| {
        let mut pod = template(&env, "service.istio.io/canonical-name");
        pod["metadata"]["name"] = format!("whale-{n}").into();
        let pods = pods.clone();
        async move {
            pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
            TestResult::Ok(())
        }
    });
    created.buffer_unordered(CONCURRENCY).try_collect().await
}

/// Creates Deployments with the label of the mesh's objects, which start no pods.
async fn create_deployments(client: Client, name: &str, count: usize, env: &[Value]) -> TestResult {
    let deployments: Api<Deployment> = Api::namespaced(client, "tenant");
    let created = stream::iter(0..count).map(|n| {
        let selector = json!({"matchLabels": {"app": "whale"}});
        let deployment = json!({
            "metadata": {"name": format!("{name}-{n}"), "labels": {"meshwright.dev/installation": NAME}},
            "spec": {"replicas": 0, "paused": true, "selector": selector, "template": template(env, "app")},
        });
        let deployments = deployments.clone();
        async move {
            deployments.create(&PostParams::default(), &serde_json::from_value(deployment)?).await?;
            TestResult::Ok(())
        }
    });
    created.buffer_unordered(CONCURRENCY).try_collect().await
}

/// A value that closes its quotes in a template and adds aliases of aliases.
fn aliases() -> String {
    let list = |n: usize| {
        let item = n.checked_sub(1).map_or_else(|| "x".to_owned(), |previous| format!("*a{previous}"));
        format!("a{n}: &a{n} [{}]", vec![item; 9].join(", "))
    };
    let lists: Vec<String> = (0..9).map(list).collect();
    format!("x\"\n      bomb: {{{}}}\n      last: \"y", lists.join(", "))
}

fn with(field: &str, value: Value) -> Value {
    let mut spec = demo_spec();
    spec[field] = value;
    spec
}

/// Prints the peaks of the operator's pods, and checks that none was killed.
async fn assert_never_restarted(lab: &Lab) -> TestResult {
    for pod in operator_pods(lab.client()).await? {
        let name = pod.name_any();
        let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        assert_eq!(statuses.map(|status| status.restart_count).sum::<i32>(), 0, "{name} should not be killed");
        let process = lab.process(OPERATOR_NAMESPACE, &name)?;
        let (peak, memory) = (process.cgroup_peak()?, process.memory()?);
        let mib = |bytes: u64| bytes >> 20;
        eprintln!(
            "{name}: peak of the cgroup {} MiB, peak resident {} MiB, now {} MiB of which {} MiB anonymous",
            mib(peak),
            mib(memory.peak),
            mib(memory.resident),
            mib(memory.anonymous)
        );
    }
    Ok(())
}

#[test]
fn survives_large_objects_within_memory_limit() {
    if !LabOptions::can_limit_memory() {
        eprintln!(
            "skipped: the lab may not create memory cgroups on this machine (in /sys/fs/cgroup, which takes root)"
        );
        return;
    }
    run(LabOptions::default().limit_operator_memory(), async |lab| {
        let mesh = Mesh::install(lab).await?;
        objects::namespace(&lab.client(), "tenant", &[]).await?;
        create_pods(lab.client()).await?;
        let large = [json!({"name": "A", "value": "x".repeat(LARGE)})];
        create_deployments(lab.client(), "large", LARGE_DEPLOYMENTS, &large).await?;
        let dense: Vec<Value> = (0..DENSE).map(|n| json!({"name": format!("E{n}")})).collect();
        create_deployments(lab.client(), "dense", DENSE_DEPLOYMENTS, &dense).await?;
        assert_reverts_drift(&mesh).await?;
        assert_never_restarted(lab).await?;

        // New processes read all of them in lists.
        restart_operator(lab.client()).await?;
        let leader = mesh.leader().await?;
        wait::until(wait::TIMEOUT, "the list of pods", async || {
            let log = lab.logs(OPERATOR_NAMESPACE, &leader).map_err(|error| error.to_string())?;
            if log.contains("listed pods with a proxy") { Ok(()) } else { Err(log) }
        })
        .await?;
        assert_reverts_drift(&mesh).await?;

        let values = json!({"istiod": {"global": {"priorityClassName": aliases()}}});
        assert_stalls(&mesh, with("values", values), "RenderFailed", &["replayed"]).await?;
        let copy = json!({"op": "copy", "from": "/spec", "path": "/spec/a"});
        let target = json!({"kind": "Deployment", "name": "istiod"});
        let patches = json!([{"target": target, "patch": vec![copy; 63]}]);
        assert_stalls(&mesh, with("patches", patches), "InvalidSpec", &["deeper than 64 levels"]).await?;
        assert_reverts_drift(&mesh).await?;
        assert_never_restarted(lab).await
    });
}
