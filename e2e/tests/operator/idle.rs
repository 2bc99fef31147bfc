//! An idle operator writes nothing, even during pod churn.

use std::time::Instant;

use meshwright_e2e::mesh::{Mesh, operator_writes};
use meshwright_e2e::{LabOptions, objects, run};

/// Number of created and deleted pods.
const PODS: usize = 500;

#[test]
fn pod_churn_causes_no_object_writes() {
    run(LabOptions::default().audited(), async |lab| {
        let _mesh = Mesh::install(lab).await?;
        objects::namespace(&lab.client(), "shop", &[("istio-injection", "enabled")]).await?;
        let before = lab.settled_audit().await?.position();
        let started = Instant::now();
        let injected = objects::churn_pods(&lab.client(), PODS, "shop").await?;
        assert_eq!(injected, PODS);
        let writes = operator_writes(&lab.settled_audit().await?, before);
        let minutes = usize::try_from(started.elapsed().as_secs() / 60)?;
        let (status, others): (Vec<String>, Vec<String>) =
            writes.into_iter().partition(|write| write.starts_with("patch meshinstallations/status "));
        assert_eq!(others, Vec::<String>::new());
        // Status reports proxy versions at most once a minute, the first one immediately.
        assert!(status.len() <= 1 + minutes, "{status:?} in {minutes} minutes");
        Ok(())
    });
}
