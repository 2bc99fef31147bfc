//! An operator whose releases lie in a registry: `--catalog oci://...`.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, Patch, PatchParams};
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::{ConditionType, get, is_true};
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR_NAMESPACE, VERSION, operator_writes};
use meshwright_e2e::programs::catalog;
use meshwright_e2e::registry::{self, ADDRESS_FOR_PODS, Door, HOST_FOR_PODS, PASSWORD, Registry, USER};
use meshwright_e2e::{Lab, LabOptions, TestResult, objects, run, wait};
use serde_json::{Value, json};

/// What the charts are called in the registry: releases of a minor, which a pre-release never is.
const OLDER: &str = "1.32.5";
const NEWEST: &str = "1.32.6";

fn local() -> TestResult<PathBuf> {
    catalog().ok_or_else(|| "MESHWRIGHT_CATALOG is not set".into())
}

/// The operator, one replica of it, with a registry for its catalog and `site` for its disk, which outlives its process.
async fn operator(lab: &Lab, registry: &str, site: &Path) -> TestResult<Mesh> {
    let mesh = Mesh::operator(lab).await?;
    let env = json!([
        {"name": "MESHWRIGHT_CATALOG", "value": format!("oci://{registry}/istio/charts")},
        {"name": "MESHWRIGHT_CATALOG_CACHE", "value": site.join("cache")},
        {"name": "DOCKER_CONFIG", "value": site},
    ]);
    set(lab, &env).await?;
    Ok(mesh)
}

/// Sets variables of the operator's, and waits until it runs with them.
async fn set(lab: &Lab, env: &Value) -> TestResult {
    let pod = json!({"spec": {"containers": [{"name": "operator", "env": env}]}});
    let patch = json!({"spec": {"replicas": 1, "template": pod}});
    let deployments: Api<Deployment> = Api::namespaced(lab.client(), OPERATOR_NAMESPACE);
    deployments.patch("meshwright", &PatchParams::default(), &Patch::Strategic(patch)).await?;
    objects::deployment_ready(&lab.client(), OPERATOR_NAMESPACE, "meshwright").await?;
    Ok(())
}

/// Ends the operator's process as a crash does, and waits until the next one is at work.
async fn restart(lab: &Lab, mesh: &Mesh) -> TestResult {
    let pod = mesh.leader().await?;
    let before = lab.process(OPERATOR_NAMESPACE, &pod)?;
    before.kill()?;
    wait::until(wait::PATIENCE, "the next process", async || match lab.process(OPERATOR_NAMESPACE, &pod) {
        Ok(now) if now.pid() != before.pid() => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    objects::deployment_ready(&lab.client(), OPERATOR_NAMESPACE, "meshwright").await?;
    Ok(())
}

/// Deletes an object of the mesh; it comes back.
async fn heals(mesh: &Mesh) -> TestResult {
    let maps = mesh.api("v1", "ConfigMap", Some("istio-system"));
    let before = maps.get("istio").await?.metadata.uid;
    maps.delete("istio", &Default::default()).await?;
    wait::until(wait::PATIENCE, "the ConfigMap istio to be back", async || {
        match maps.get_opt("istio").await.map_err(|error| error.to_string())? {
            Some(map) if map.metadata.uid != before => Ok(()),
            other => Err(format!("{:?}", other.map(|map| map.metadata.uid))),
        }
    })
    .await?;
    Ok(())
}

/// Waits until Ready has this status because of the registry, and the message says so; a person is not called for.
async fn told(mesh: &Mesh, ready: &str, words: &[&str]) -> TestResult<MeshInstallation> {
    let what = format!("Ready={ready} RegistryFailed with {words:?}");
    let told = wait::until(wait::PATIENCE, what, async || {
        let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
        let conditions = &found.status.as_ref().ok_or("no status")?.conditions;
        let fits = get(conditions, ConditionType::Ready).is_some_and(|condition| {
            (condition.status.as_str(), condition.reason.as_str()) == (ready, "RegistryFailed")
                && words.iter().all(|word| condition.message.contains(word))
                && condition.observed_generation == found.metadata.generation
        });
        if fits { Ok(found) } else { Err(meshwright_e2e::mesh::picture(&found)) }
    })
    .await?;
    let conditions = &told.status.as_ref().ok_or("no status")?.conditions;
    assert!(is_true(conditions, ConditionType::Reconciling) && get(conditions, ConditionType::Stalled).is_none());
    Ok(told)
}

fn resolved(installation: &MeshInstallation) -> Option<&str> {
    installation.status.as_ref()?.version.resolved.as_deref()
}

#[test]
fn a_mesh_from_a_registry_outlives_it_and_says_what_is_wrong_with_it() {
    run(LabOptions::default().audited(), async |lab| {
        let mut registry = Registry::start(Door::Password)?;
        registry.push_release_as(&local()?, VERSION, NEWEST)?;
        let istiod = local()?.join(VERSION).join("charts/istiod");
        registry.push_chart_as(&istiod, Some(OLDER))?;
        let site = tempfile::tempdir()?;
        let mesh = operator(lab, ADDRESS_FOR_PODS, site.path()).await?;
        set(lab, &json!([{"name": "MESHWRIGHT_CATALOG_PLAIN_HTTP", "value": "true"}])).await?;
        let spec = |version: &str| json!({"version": version, "profile": "demo"});

        // A minor is the newest of the registry's tags; and whoever asks must be somebody.
        mesh.apply(NAME, spec("1.32")).await?;
        told(&mesh, "Unknown", &["refuses", "without credentials", ADDRESS_FOR_PODS]).await?;
        let auths = json!({"auths": {ADDRESS_FOR_PODS: {"username": USER, "password": PASSWORD}}});
        std::fs::write(site.path().join("config.json"), auths.to_string())?;
        assert_eq!(resolved(&mesh.wait_ready(NAME).await?), Some(NEWEST));

        // What was pulled is on disk: neither a heal nor a restart needs the registry.
        registry.stop();
        heals(&mesh).await?;
        restart(lab, &mesh).await?;
        heals(&mesh).await?;
        mesh.wait_ready(NAME).await?;

        // What wasn't, is waited for, and the mesh that runs is looked after meanwhile.
        mesh.apply(NAME, spec(OLDER)).await?;
        let waits = told(&mesh, "Unknown", &[OLDER, "can't be reached"]).await?;
        assert!(is_true(&waits.status.ok_or("no status")?.conditions, ConditionType::Available));
        heals(&mesh).await?;
        mesh.apply(NAME, spec("1.32")).await?;
        mesh.wait_ready(NAME).await?;

        // The operator comes to another node, and the tag means something else by now: nothing of the mesh is touched.
        registry.start_again()?;
        let changed = site.path().join("istiod");
        crate::oci::copy(&istiod, &changed)?;
        std::fs::write(changed.join("files/new.txt"), "other\n")?;
        registry.push_chart_as(&changed, Some(NEWEST))?;
        std::fs::remove_dir_all(site.path().join("cache"))?;
        let mark = lab.settled_audit().await?.mark();
        restart(lab, &mesh).await?;
        told(&mesh, "False", &["istiod", NEWEST, "is not the chart that this mesh was made with"]).await?;
        let writes = operator_writes(&lab.settled_audit().await?, mark);
        assert!(writes.iter().all(|write| write.contains(" meshinstallations")), "{writes:?}");

        // The right one is there again, which is found out without anybody's help.
        registry.push_chart_as(&istiod, Some(NEWEST))?;
        assert_eq!(resolved(&mesh.wait_ready(NAME).await?), Some(NEWEST));
        heals(&mesh).await?;
        Ok(())
    });
}

#[test]
fn a_registry_by_tls_behind_a_proxy_must_be_known_and_what_it_has_damaged_touches_nothing() {
    run(LabOptions::default().audited(), async |lab| {
        let registry = Registry::start(Door::Tls)?;
        for version in [OLDER, NEWEST] {
            registry.push_release_as(&local()?, VERSION, version)?;
        }
        let site = tempfile::tempdir()?;
        // Only the proxy knows where this name is. In the lab the operator has a kubeconfig, so that its calls of the API
        // server go through it as well.
        let (port, passed) = crate::oci::proxy().await?;
        let mesh = operator(lab, registry::NAME, site.path()).await?;
        set(lab, &json!([{"name": "HTTPS_PROXY", "value": format!("http://{HOST_FOR_PODS}:{port}")}])).await?;
        let spec = |version: &str| json!({"version": version, "profile": "minimal"});

        mesh.apply(NAME, spec(OLDER)).await?;
        told(&mesh, "Unknown", &[registry::NAME, "invalid peer certificate: UnknownIssuer"]).await?;
        set(lab, &json!([{"name": "SSL_CERT_FILE", "value": registry.authority()}])).await?;
        assert_eq!(resolved(&mesh.wait_ready(NAME).await?), Some(OLDER));
        assert!(passed.load(Ordering::Relaxed) > 0);

        let archive = registry.archive("istiod", NEWEST)?;
        let whole = std::fs::read(&archive)?;
        std::fs::write(&archive, [&whole[1..], &whole[..1]].concat())?;
        let mark = lab.settled_audit().await?.mark();
        mesh.apply(NAME, spec(NEWEST)).await?;
        let waits = told(&mesh, "Unknown", &[NEWEST, "istiod", "is damaged: what the registry sends"]).await?;
        assert!(is_true(&waits.status.ok_or("no status")?.conditions, ConditionType::Available));
        let writes = operator_writes(&lab.settled_audit().await?, mark);
        assert!(writes.iter().all(|write| write.contains(" meshinstallations")), "{writes:?}");
        heals(&mesh).await?;

        // It is asked again, without anybody's help.
        std::fs::write(&archive, whole)?;
        assert_eq!(resolved(&mesh.wait_ready(NAME).await?), Some(NEWEST));
        Ok(())
    });
}
