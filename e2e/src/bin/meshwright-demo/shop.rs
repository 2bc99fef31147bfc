//! The sample shop, and what the injector made of its pods.

use std::time::Instant;

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams};
use meshwright_e2e::{Lab, TestResult, objects, wait};

use super::{Tools, sample, tell};

const NAMESPACE: &str = "shop";
const PARTS: [&str; 3] = ["frontend", "catalogue", "cart"];
const PROXY: &str = "istio-proxy";

/// Applies the shop, waits for it and shows each pod with its containers. A pod without a proxy is a failure.
pub(crate) async fn open(lab: &Lab, tools: &Tools) -> TestResult {
    let started = Instant::now();
    sample::apply(lab, tools, "apps/shop.yaml").await?;
    for part in PARTS {
        objects::deployment_ready(&lab.client(), NAMESPACE, part).await?;
    }
    tell::done("ready", started.elapsed());
    for pod in pods(lab).list(&ListParams::default()).await? {
        show(&pod)?;
    }
    Ok(())
}

/// Deletes a pod of the shop and shows the one that takes its place: injection works, whatever status says.
pub(crate) async fn replace(lab: &Lab, part: &str) -> TestResult {
    let pods = pods(lab);
    let of_part = ListParams::default().labels(&format!("app={part}"));
    let old: Vec<_> = pods.list(&of_part).await?.iter().map(kube::ResourceExt::uid).collect();
    pods.delete_collection(&DeleteParams::default(), &of_part).await?;
    let new = wait::until(wait::PATIENCE, format!("a new pod of {part}"), async || {
        let there = pods.list(&of_part).await.map_err(|error| error.to_string())?;
        let new = there.items.into_iter().find(|pod| !old.contains(&pod.uid()));
        new.ok_or_else(|| "only those of before".to_owned())
    });
    show(&new.await?)
}

fn pods(lab: &Lab) -> Api<Pod> {
    Api::namespaced(lab.client(), NAMESPACE)
}

fn show(pod: &Pod) -> TestResult {
    let rows = rows(pod);
    tell::line(&format!("      {}", pod.name_any()));
    for row in &rows {
        tell::line(&format!("        {:<12} {:<16} {}", row.name, row.part, row.image));
    }
    if rows.iter().any(|row| row.name == PROXY) {
        return Ok(());
    }
    Err(format!("the pod {NAMESPACE}/{} has no proxy", pod.name_any()).into())
}

/// One container of a pod.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    name: String,
    part: &'static str,
    image: String,
}

/// A pod's containers: its own first, then what was put beside it.
fn rows(pod: &Pod) -> Vec<Row> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let row = |container: &Container, part| Row {
        name: container.name.clone(),
        part,
        image: container.image.clone().unwrap_or_default(),
    };
    let beside = |container: &Container| if container.name == PROXY { "proxy" } else { "application" };
    let mut rows: Vec<Row> = spec.containers.iter().map(|container| row(container, beside(container))).collect();
    rows.extend(spec.init_containers.iter().flatten().map(|container| {
        // A sidecar that Kubernetes knows as one is an init container that goes on.
        let goes_on = container.restart_policy.as_deref() == Some("Always");
        row(container, if goes_on { "proxy, sidecar" } else { "runs first" })
    }));
    rows.sort_by_key(|row| row.part != "application");
    rows
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_proxy_is_shown_wherever_the_injector_put_it() {
        let container = |name: &str| json!({"name": name, "image": format!("{name}:1")});
        let mut sidecar = container("istio-proxy");
        sidecar["restartPolicy"] = json!("Always");
        let shown = |spec: serde_json::Value| -> Vec<(String, &'static str)> {
            let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "cart"}, "spec": spec})).unwrap();
            rows(&pod).into_iter().map(|row| (row.name, row.part)).collect()
        };
        let init = json!([container("istio-init"), sidecar]);
        let native = shown(json!({"containers": [container("cart")], "initContainers": init}));
        assert_eq!(
            native,
            [
                ("cart".into(), "application"),
                ("istio-init".into(), "runs first"),
                ("istio-proxy".into(), "proxy, sidecar")
            ]
        );
        let plain = shown(json!({"containers": [container("istio-proxy"), container("cart")]}));
        assert_eq!(plain, [("cart".into(), "application"), ("istio-proxy".into(), "proxy")]);
    }
}
