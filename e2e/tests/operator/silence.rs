//! At rest the operator writes nothing, whatever goes on around it.

use std::time::Instant;

use meshwright_e2e::mesh::{Mesh, operator_writes};
use meshwright_e2e::{LabOptions, objects, run};

/// Injected pods that come and go.
const PODS: usize = 500;

#[test]
fn injected_pods_that_come_and_go_cost_no_write_to_the_mesh_and_one_of_status_a_minute() {
    run(LabOptions::default().audited(), async |lab| {
        let _mesh = Mesh::ready(lab).await?;
        objects::namespace(&lab.client(), "shop", &[("istio-injection", "enabled")]).await?;
        let before = lab.settled_audit().await?.mark();
        let begun = Instant::now();
        let injected = objects::come_and_go(&lab.client(), PODS, "shop").await?;
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
