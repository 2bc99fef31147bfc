//! Leader election between two replicas.

use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR_NAMESPACE, demo_spec};
use meshwright_e2e::{LabOptions, run, wait};

#[test]
fn new_leader_completes_interrupted_installation() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        let first = mesh.leader().await?;
        mesh.apply(NAME, demo_spec()).await?;
        let maps = mesh.api("v1", "ConfigMap", Some("istio-system"));
        wait::until(wait::TIMEOUT, "the installation to be in progress", async || {
            maps.get("istio").await.map(drop).map_err(|error| error.to_string())
        })
        .await?;
        lab.process(OPERATOR_NAMESPACE, &first)?.kill()?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn terminating_leader_releases_lease_immediately() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let mesh = Mesh::install(lab).await?;
        let first = mesh.leader().await?;
        let pods = mesh.api("v1", "Pod", Some(OPERATOR_NAMESPACE));
        pods.delete(&first, &Default::default()).await?;
        let second = wait::until(wait::TIMEOUT, "another leader", async || {
            let now = mesh.leader().await.map_err(|error| error.to_string())?;
            if now == first { Err(now) } else { Ok(now) }
        })
        .await?;
        assert_ne!(first, second);
        let deployments = mesh.api("apps/v1", "Deployment", Some("istio-system"));
        deployments.delete("istiod", &Default::default()).await?;
        mesh.deployment_ready("istio-system", "istiod").await?;
        Ok(())
    });
}
