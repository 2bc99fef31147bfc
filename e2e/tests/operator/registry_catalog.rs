//! An operator with an OCI registry as its catalog: `--catalog oci://...`.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, Patch, PatchParams};
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::{ConditionType, get, is_true};
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR_NAMESPACE, VERSION, operator_writes};
use meshwright_e2e::programs::catalog;
use meshwright_e2e::registry::{self, ADDRESS_FOR_PODS, HOST_FOR_PODS, PASSWORD, Registry, RegistryAccess, USER};
use meshwright_e2e::{Lab, LabOptions, TestResult, objects, run, wait};
use serde_json::{Value, json};

/// Versions of the charts in the registry; a minor version never resolves to a pre-release.
const OLDER: &str = "1.32.5";
const NEWEST: &str = "1.32.6";

fn local() -> TestResult<PathBuf> {
    catalog().ok_or_else(|| "MESHWRIGHT_CATALOG is not set".into())
}

/// Installs the operator with one replica, a registry as its catalog, and a cache in `dir`, which survives restarts.
async fn install_operator(lab: &Lab, registry: &str, dir: &Path) -> TestResult<Mesh> {
    let mesh = Mesh::install_operator(lab).await?;
    let env = json!([
        {"name": "MESHWRIGHT_CATALOG", "value": format!("oci://{registry}/istio/charts")},
        {"name": "MESHWRIGHT_CATALOG_CACHE", "value": dir.join("cache")},
        {"name": "DOCKER_CONFIG", "value": dir},
    ]);
    set_env(lab, &env).await?;
    Ok(mesh)
}

/// Sets environment variables of the operator and waits for the rollout.
async fn set_env(lab: &Lab, env: &Value) -> TestResult {
    let pod = json!({"spec": {"containers": [{"name": "operator", "env": env}]}});
    let patch = json!({"spec": {"replicas": 1, "template": pod}});
    let deployments: Api<Deployment> = Api::namespaced(lab.client(), OPERATOR_NAMESPACE);
    deployments.patch("meshwright", &PatchParams::default(), &Patch::Strategic(patch)).await?;
    objects::deployment_ready(&lab.client(), OPERATOR_NAMESPACE, "meshwright").await?;
    Ok(())
}

/// Kills the operator's process and waits until a new one is ready.
async fn restart(lab: &Lab, mesh: &Mesh) -> TestResult {
    let pod = mesh.leader().await?;
    let before = lab.process(OPERATOR_NAMESPACE, &pod)?;
    before.kill()?;
    wait::until(wait::TIMEOUT, "a new process", async || match lab.process(OPERATOR_NAMESPACE, &pod) {
        Ok(now) if now.pid() != before.pid() => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    objects::deployment_ready(&lab.client(), OPERATOR_NAMESPACE, "meshwright").await?;
    Ok(())
}

/// Deletes an object of the mesh and waits until the operator has recreated it.
async fn assert_reverts_drift(mesh: &Mesh) -> TestResult {
    let maps = mesh.api("v1", "ConfigMap", Some("istio-system"));
    let before = maps.get("istio").await?.metadata.uid;
    maps.delete("istio", &Default::default()).await?;
    wait::until(wait::TIMEOUT, "the ConfigMap istio to be recreated", async || {
        match maps.get_opt("istio").await.map_err(|error| error.to_string())? {
            Some(map) if map.metadata.uid != before => Ok(()),
            other => Err(format!("{:?}", other.map(|map| map.metadata.uid))),
        }
    })
    .await?;
    Ok(())
}

/// Waits until Ready has this status with reason `RegistryError` and all `words` in its message. The mesh must not be
/// Stalled.
async fn wait_registry_error(mesh: &Mesh, ready: &str, words: &[&str]) -> TestResult<MeshInstallation> {
    let what = format!("Ready={ready} RegistryError with {words:?}");
    let installation = wait::until(wait::TIMEOUT, what, async || {
        let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
        let conditions = &found.status.as_ref().ok_or("no status")?.conditions;
        let matches = get(conditions, ConditionType::Ready).is_some_and(|condition| {
            (condition.status.as_str(), condition.reason.as_str()) == (ready, "RegistryError")
                && words.iter().all(|word| condition.message.contains(word))
                && condition.observed_generation == found.metadata.generation
        });
        if matches { Ok(found) } else { Err(meshwright_e2e::mesh::describe(&found)) }
    })
    .await?;
    let conditions = &installation.status.as_ref().ok_or("no status")?.conditions;
    assert!(is_true(conditions, ConditionType::Reconciling) && get(conditions, ConditionType::Stalled).is_none());
    Ok(installation)
}

fn resolved(installation: &MeshInstallation) -> Option<&str> {
    installation.status.as_ref()?.version.resolved.as_deref()
}

#[test]
fn mesh_survives_registry_outage() {
    run(LabOptions::default().audited(), async |lab| {
        let mut registry = Registry::start(RegistryAccess::BasicAuth)?;
        registry.push_release_as(&local()?, VERSION, NEWEST)?;
        let istiod = local()?.join(VERSION).join("charts/istiod");
        registry.push_chart_as(&istiod, Some(OLDER))?;
        let dir = tempfile::tempdir()?;
        let mesh = install_operator(lab, ADDRESS_FOR_PODS, dir.path()).await?;
        set_env(lab, &json!([{"name": "MESHWRIGHT_CATALOG_PLAIN_HTTP", "value": "true"}])).await?;
        let spec = |version: &str| json!({"version": version, "profile": "demo"});

        // A minor version resolves to the registry's newest patch; the registry requires credentials.
        mesh.apply(NAME, spec("1.32")).await?;
        wait_registry_error(&mesh, "Unknown", &["denied access", "without credentials", ADDRESS_FOR_PODS]).await?;
        let auths = json!({"auths": {ADDRESS_FOR_PODS: {"username": USER, "password": PASSWORD}}});
        std::fs::write(dir.path().join("config.json"), auths.to_string())?;
        assert_eq!(resolved(&mesh.wait_ready(NAME).await?), Some(NEWEST));

        // Pulled charts are cached on disk: neither drift correction nor a restart needs the registry.
        registry.stop();
        assert_reverts_drift(&mesh).await?;
        restart(lab, &mesh).await?;
        assert_reverts_drift(&mesh).await?;
        mesh.wait_ready(NAME).await?;

        // A release that isn't cached is retried; meanwhile drift of the running mesh is still reverted.
        mesh.apply(NAME, spec(OLDER)).await?;
        let waiting = wait_registry_error(&mesh, "Unknown", &[OLDER, "can't be reached"]).await?;
        assert!(is_true(&waiting.status.ok_or("no status")?.conditions, ConditionType::Available));
        assert_reverts_drift(&mesh).await?;
        mesh.apply(NAME, spec("1.32")).await?;
        mesh.wait_ready(NAME).await?;

        // With an empty cache, as on another node, and a changed tag, the operator doesn't change the mesh.
        registry.restart()?;
        let changed = dir.path().join("istiod");
        crate::oci::copy(&istiod, &changed)?;
        std::fs::write(changed.join("files/new.txt"), "other\n")?;
        registry.push_chart_as(&changed, Some(NEWEST))?;
        std::fs::remove_dir_all(dir.path().join("cache"))?;
        let start = lab.settled_audit().await?.position();
        restart(lab, &mesh).await?;
        wait_registry_error(&mesh, "False", &["istiod", NEWEST, "is not the chart that this mesh was installed with"])
            .await?;
        let writes = operator_writes(&lab.settled_audit().await?, start);
        assert!(writes.iter().all(|write| write.contains(" meshinstallations")), "{writes:?}");

        // The operator retries and finds the original chart again.
        registry.push_chart_as(&istiod, Some(NEWEST))?;
        assert_eq!(resolved(&mesh.wait_ready(NAME).await?), Some(NEWEST));
        assert_reverts_drift(&mesh).await?;
        Ok(())
    });
}

#[test]
fn verifies_tls_registry_behind_proxy() {
    run(LabOptions::default().audited(), async |lab| {
        let registry = Registry::start(RegistryAccess::Tls)?;
        for version in [OLDER, NEWEST] {
            registry.push_release_as(&local()?, VERSION, version)?;
        }
        let dir = tempfile::tempdir()?;
        // Only the proxy resolves this name. In the lab the operator uses a kubeconfig, so that its API requests go
        // through the proxy too.
        let (port, connections) = crate::oci::proxy().await?;
        let mesh = install_operator(lab, registry::NAME, dir.path()).await?;
        set_env(lab, &json!([{"name": "HTTPS_PROXY", "value": format!("http://{HOST_FOR_PODS}:{port}")}])).await?;
        let spec = |version: &str| json!({"version": version, "profile": "minimal"});

        mesh.apply(NAME, spec(OLDER)).await?;
        wait_registry_error(&mesh, "Unknown", &[registry::NAME, "invalid peer certificate: UnknownIssuer"]).await?;
        set_env(lab, &json!([{"name": "SSL_CERT_FILE", "value": registry.authority()}])).await?;
        assert_eq!(resolved(&mesh.wait_ready(NAME).await?), Some(OLDER));
        assert!(connections.load(Ordering::Relaxed) > 0);

        let archive = registry.archive("istiod", NEWEST)?;
        let original = std::fs::read(&archive)?;
        std::fs::write(&archive, [&original[1..], &original[..1]].concat())?;
        let start = lab.settled_audit().await?.position();
        mesh.apply(NAME, spec(NEWEST)).await?;
        let waiting =
            wait_registry_error(&mesh, "Unknown", &[NEWEST, "istiod", "is damaged: the registry sent"]).await?;
        assert!(is_true(&waiting.status.ok_or("no status")?.conditions, ConditionType::Available));
        let writes = operator_writes(&lab.settled_audit().await?, start);
        assert!(writes.iter().all(|write| write.contains(" meshinstallations")), "{writes:?}");
        assert_reverts_drift(&mesh).await?;

        // The operator retries the pull.
        std::fs::write(&archive, original)?;
        assert_eq!(resolved(&mesh.wait_ready(NAME).await?), Some(NEWEST));
        Ok(())
    });
}
