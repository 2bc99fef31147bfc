//! At rest the operator writes nothing, whatever goes on around it.

use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use meshwright_e2e::mesh::{Mesh, operator_writes};
use meshwright_e2e::{LabOptions, objects, run, wait};

/// Injected pods that come and go.
const PODS: usize = 500;
/// Pods that are there at the same time.
const BATCH: usize = 50;

#[test]
fn injected_pods_that_come_and_go_cost_no_write_to_the_mesh_and_one_of_status_a_minute() {
    run(LabOptions::default().audited(), async |lab| {
        let _mesh = Mesh::ready(lab).await?;
        objects::namespace(&lab.client(), "shop", &[("istio-injection", "enabled")]).await?;
        let pods: Api<Pod> = Api::namespaced(lab.client(), "shop");
        let before = lab.settled_audit().await?.mark();
        let begun = Instant::now();
        let mut injected = 0;
        for _ in 0..PODS / BATCH {
            for n in 0..BATCH {
                let pod =
                    pods.create(&PostParams::default(), &objects::pod(&format!("p-{n}"), &[("app", "p")])).await?;
                let spec = pod.spec.unwrap_or_default();
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
        assert_eq!(injected, PODS);
        let writes = operator_writes(&lab.settled_audit().await?, before);
        let minutes = usize::try_from(begun.elapsed().as_secs() / 60)?;
        let (status, others): (Vec<String>, Vec<String>) =
            writes.into_iter().partition(|write| write.starts_with("patch meshinstallations/status "));
        assert_eq!(others, Vec::<String>::new());
        // The versions of the proxies that run: the first one is told at once.
        assert!(status.len() <= 1 + minutes, "{status:?} in {minutes} minutes");
        Ok(())
    });
}
