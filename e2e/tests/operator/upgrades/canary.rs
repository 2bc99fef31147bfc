//! A second control plane beside the first: it takes over when it is proved, and the first goes when nobody uses it.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, DeleteParams, PostParams};
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::{ConditionType, get, is_true};
use meshwright_e2e::mesh::{LAB_1_31, LAB_1_32, NAME};
use meshwright_e2e::wait::{self, PATIENCE};
use meshwright_e2e::witness::Seen;
use meshwright_e2e::{Fault, LabOptions, TestResult, run};
use serde_json::{Value, json};

use super::{ISTIOD, MESHES, Scene, spec, within};

const NEW_ISTIOD: &str = "istiod-1-32-0-lab-1";

fn canary(deadline: &str) -> Value {
    let mut canary = within(deadline, LAB_1_32);
    canary["upgrade"]["strategy"] = "Canary".into();
    canary["upgrade"]["retireAfter"] = "1s".into();
    canary
}

/// A Pod of an application, injected by whoever answers for the default.
async fn application(pods: &Api<Pod>) -> TestResult {
    let containers = json!([{"name": "web", "image": "registry.example.com/web:1"}]);
    let metadata = json!({"name": "web", "namespace": "shop"});
    let pod = json!({"metadata": metadata, "spec": {"containers": containers}});
    pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
    Ok(())
}

#[test]
fn a_canary_takes_over_when_it_is_proved_and_the_old_one_goes_when_nobody_uses_it() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let scene = Scene::begin(lab, spec(LAB_1_31)).await?;
        let pods: Api<Pod> = Api::namespaced(lab.client(), "shop");
        application(&pods).await?;
        scene.mesh.apply(NAME, canary("90s")).await?;
        let ready = scene.mesh.wait_ready(NAME).await?;
        let status = ready.status.unwrap_or_default();
        assert_eq!(status.version.running.as_deref(), Some(LAB_1_32));
        assert_eq!(status.version.revision.as_deref(), Some("1-32-0-lab-1"));
        assert_eq!(status.version.retiring.as_deref(), Some("default"));
        let injections = scene.all_were_injected().await?;
        assert!(injections.proxies.last().is_some_and(|image| image.ends_with(LAB_1_32)), "{:?}", injections.proxies);

        // The old control plane stays, and is healed, as long as a Pod uses it.
        let deployments = scene.mesh.api("apps/v1", "Deployment", Some("istio-system"));
        wait::until(PATIENCE, "InUse to say so", async || {
            let found = scene.mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
            let conditions = found.status.unwrap_or_default().conditions;
            let in_use = get(&conditions, ConditionType::InUse).filter(|c| c.message.contains("default"));
            in_use.map(drop).ok_or_else(|| format!("{conditions:?}"))
        })
        .await?;
        deployments.delete(ISTIOD, &DeleteParams::default()).await?;
        wait::until(PATIENCE, "the old istiod to come back", async || {
            let found = deployments.get(ISTIOD).await.map_err(|error| error.to_string())?;
            found.metadata.deletion_timestamp.is_none().then_some(()).ok_or_else(|| "it is going".to_owned())
        })
        .await?;

        pods.delete("web", &DeleteParams::default().grace_period(0)).await?;
        wait::until(PATIENCE, "the old istiod to go", async || {
            let left = deployments.get_opt(ISTIOD).await.map_err(|error| error.to_string())?;
            left.is_none().then_some(()).ok_or_else(|| "it is there".to_owned())
        })
        .await?;
        assert!(deployments.get_opt(NEW_ISTIOD).await?.is_some());
        let settled = scene.mesh.wait_ready(NAME).await?;
        assert!(!is_true(&settled.status.unwrap_or_default().conditions, ConditionType::InUse));
        scene.all_were_injected().await?;
        Ok(())
    });
}

#[test]
fn a_canary_that_fails_is_removed_and_nothing_has_moved() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let scene = Scene::begin(lab, spec(LAB_1_31)).await?;
        let before = scene.inventory().await?;
        lab.break_istiod(LAB_1_32, Fault::NeverStarts)?;
        scene.mesh.apply(NAME, canary("15s")).await?;
        let said = scene.rolled_back(&before).await?;
        assert!(said.contains("ImagePullBackOff"), "{said}");
        scene.all_were_injected().await?;

        // Given up half-way by a person, it leaves as little behind.
        scene.mesh.apply(NAME, canary("10m")).await?;
        scene.reaches(meshwright_api::UpgradeStep::ControlPlane).await?;
        scene.mesh.apply(NAME, spec(LAB_1_31)).await?;
        scene.mesh.wait_ready(NAME).await?;
        assert_eq!(scene.differences(&before).await?, Vec::<String>::new());

        // Mended and tried again, it goes as if it were the first. All the time somebody has served.
        lab.mend_istiod(LAB_1_32)?;
        scene.mesh.apply(NAME, canary("90s")).await?;
        scene.comes_to("True", "Healthy").await?;
        scene.all_were_injected().await?;
        scene.witness.caught_up().await?;
        let unavailable =
            |seen: &&Seen| !conditions(seen).is_empty() && !is_true(&conditions(seen), ConditionType::Available);
        let states = scene.witness.states(MESHES, NAME);
        assert!(states.iter().find(unavailable).is_none(), "{:?}", states.iter().find(unavailable));
        Ok(())
    });
}

/// The conditions of an installation.
fn conditions(seen: &Seen) -> Vec<Condition> {
    let object = seen.object.clone().unwrap_or_default();
    let found = serde_json::from_value::<MeshInstallation>(object).ok().and_then(|found| found.status);
    found.unwrap_or_default().conditions
}
