//! Two replicas: one writes, and the other takes over.

use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR_NAMESPACE, small};
use meshwright_e2e::{LabOptions, run, wait};

#[test]
fn a_leader_killed_in_the_middle_of_an_install_is_replaced_and_the_install_ends() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        let first = mesh.leader().await?;
        mesh.apply(NAME, small()).await?;
        let maps = mesh.api("v1", "ConfigMap", Some("istio-system"));
        wait::until(wait::PATIENCE, "the install to be half-way", async || {
            maps.get("istio").await.map(drop).map_err(|error| error.to_string())
        })
        .await?;
        lab.process(OPERATOR_NAMESPACE, &first)?.kill()?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn a_leader_that_is_told_to_stop_hands_over_at_once() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let mesh = Mesh::ready(lab).await?;
        let first = mesh.leader().await?;
        let pods = mesh.api("v1", "Pod", Some(OPERATOR_NAMESPACE));
        pods.delete(&first, &Default::default()).await?;
        let second = wait::until(wait::PATIENCE, "another leader", async || {
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
