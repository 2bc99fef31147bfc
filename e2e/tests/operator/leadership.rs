//! Leader election between two replicas.

use meshwright_e2e::crash::{FaultRule, OperatorProcess, ReplicaOptions};
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR_NAMESPACE, demo_spec};
use meshwright_e2e::{Lab, LabOptions, TestResult, run, wait};

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

/// Two replicas with a short Lease. The first one leads, and has sent a part of the writes of an installation, more of
/// which follow because its requests are slow.
async fn interrupted_leader(lab: &Lab, mesh: &Mesh) -> TestResult<(OperatorProcess, OperatorProcess)> {
    let options = |name: &str, admin_port| ReplicaOptions { name: name.to_owned(), admin_port, lease_seconds: 6 };
    let mut first = OperatorProcess::prepare(lab, options("first", 8080)).await?;
    first.start()?;
    first.wait_leading().await?;
    let mut second = OperatorProcess::prepare(lab, options("second", 8081)).await?;
    second.start()?;
    second.wait_synced().await?;
    first.faults().set(1, vec![FaultRule::unreliable(0.0, std::time::Duration::from_millis(300))]);
    mesh.apply(NAME, demo_spec()).await?;
    wait::until(wait::TIMEOUT, "the installation to be in progress", async || match first.sent_writes() {
        writes @ ..10 => Err(format!("{writes} writes")),
        _ => Ok(()),
    })
    .await?;
    Ok((first, second))
}

/// Checks that the former leader ended in order without another write, and that it doesn't lead after a restart.
async fn assert_fenced(mut first: OperatorProcess, second: &OperatorProcess) -> TestResult {
    let status = first.wait_exit().await?;
    assert_eq!(status.code(), Some(1), "{status}: {}", first.log_tail());
    assert!(first.log_tail().contains("leadership was lost"), "{}", first.log_tail());
    first.faults().clear();
    first.start()?;
    first.wait_synced().await?;
    second.wait_leading().await?;
    assert_eq!(first.sent_writes(), 0, "{}", first.log_tail());
    Ok(())
}

#[test]
fn partitioned_leader_writes_nothing_afterwards() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let mesh = Mesh::connect(lab.client());
        let (first, second) = interrupted_leader(lab, &mesh).await?;
        first.partition();
        second.wait_leading().await?;
        first.forget_writes();
        mesh.wait_ready(NAME).await?;
        first.end_partition();
        assert_fenced(first, &second).await
    });
}

#[test]
fn suspended_leader_writes_nothing_when_resumed() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let mesh = Mesh::connect(lab.client());
        let (first, second) = interrupted_leader(lab, &mesh).await?;
        first.suspend()?;
        second.wait_leading().await?;
        first.forget_writes();
        mesh.wait_ready(NAME).await?;
        first.resume()?;
        assert_fenced(first, &second).await
    });
}
