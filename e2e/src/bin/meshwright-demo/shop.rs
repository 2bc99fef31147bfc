//! The sample application and the containers of its pods.

use std::time::Instant;

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams};
use meshwright_e2e::{Lab, TestResult, objects, wait};

use super::{Tools, output, sample};

const NAMESPACE: &str = "shop";
const DEPLOYMENTS: [&str; 3] = ["frontend", "catalogue", "cart"];
const PROXY: &str = "istio-proxy";

/// Deploys the application and prints the containers of each pod. Fails if a pod has no proxy.
pub(crate) async fn deploy(lab: &Lab, tools: &Tools) -> TestResult {
    let started = Instant::now();
    sample::apply(lab, tools, "apps/shop.yaml").await?;
    for name in DEPLOYMENTS {
        objects::deployment_ready(&lab.client(), NAMESPACE, name).await?;
    }
    output::done("ready", started.elapsed());
    for pod in pods(lab).list(&ListParams::default()).await? {
        show(&pod)?;
    }
    Ok(())
}

/// Deletes the pods of a Deployment and prints the new one, which shows that injection works.
pub(crate) async fn replace_pod(lab: &Lab, deployment: &str) -> TestResult {
    let pods = pods(lab);
    let selector = ListParams::default().labels(&format!("app={deployment}"));
    let old: Vec<_> = pods.list(&selector).await?.iter().map(kube::ResourceExt::uid).collect();
    pods.delete_collection(&DeleteParams::default(), &selector).await?;
    let new = wait::until(wait::TIMEOUT, format!("a new pod of {deployment}"), async || {
        let current = pods.list(&selector).await.map_err(|error| error.to_string())?;
        let new = current.items.into_iter().find(|pod| !old.contains(&pod.uid()));
        new.ok_or_else(|| "only old pods".to_owned())
    });
    show(&new.await?)
}

fn pods(lab: &Lab) -> Api<Pod> {
    Api::namespaced(lab.client(), NAMESPACE)
}

fn show(pod: &Pod) -> TestResult {
    let rows = rows(pod);
    output::line(&format!("      {}", pod.name_any()));
    for row in &rows {
        output::line(&format!("        {:<12} {:<16} {}", row.name, row.role, row.image));
    }
    if rows.iter().any(|row| row.name == PROXY) {
        return Ok(());
    }
    Err(format!("Pod {NAMESPACE}/{} has no proxy", pod.name_any()).into())
}

/// One container of a pod.
#[derive(Debug, PartialEq, Eq)]
struct ContainerRow {
    name: String,
    role: &'static str,
    image: String,
}

/// The containers of a pod, application containers first.
fn rows(pod: &Pod) -> Vec<ContainerRow> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let row = |container: &Container, role| ContainerRow {
        name: container.name.clone(),
        role,
        image: container.image.clone().unwrap_or_default(),
    };
    let role = |container: &Container| if container.name == PROXY { "proxy" } else { "application" };
    let mut rows: Vec<ContainerRow> = spec.containers.iter().map(|container| row(container, role(container))).collect();
    rows.extend(spec.init_containers.iter().flatten().map(|container| {
        // A native sidecar is an init container with restartPolicy Always.
        let is_sidecar = container.restart_policy.as_deref() == Some("Always");
        row(container, if is_sidecar { "native sidecar" } else { "init container" })
    }));
    rows.sort_by_key(|row| row.role != "application");
    rows
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_proxy_as_container_and_native_sidecar() {
        let container = |name: &str| json!({"name": name, "image": format!("{name}:1")});
        let mut sidecar = container("istio-proxy");
        sidecar["restartPolicy"] = json!("Always");
        let shown = |spec: serde_json::Value| -> Vec<(String, &'static str)> {
            let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "cart"}, "spec": spec})).unwrap();
            rows(&pod).into_iter().map(|row| (row.name, row.role)).collect()
        };
        let init = json!([container("istio-init"), sidecar]);
        let native = shown(json!({"containers": [container("cart")], "initContainers": init}));
        assert_eq!(
            native,
            [
                ("cart".into(), "application"),
                ("istio-init".into(), "init container"),
                ("istio-proxy".into(), "native sidecar")
            ]
        );
        let plain = shown(json!({"containers": [container("istio-proxy"), container("cart")]}));
        assert_eq!(plain, [("cart".into(), "application"), ("istio-proxy".into(), "proxy")]);
    }
}
