//! Canary upgrades: the new revision takes over when it is healthy, and the old one is removed when it is unused.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, DeleteParams, PostParams};
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::{ConditionType, get, is_true};
use meshwright_e2e::mesh::{LAB_1_31, LAB_1_32, NAME};
use meshwright_e2e::recorder::RecordedState;
use meshwright_e2e::wait::{self, TIMEOUT};
use meshwright_e2e::{Fault, LabOptions, TestResult, run};
use serde_json::{Value, json};

use super::{ISTIOD, MESHES, UpgradeTest, spec, spec_with_deadline};

const NEW_ISTIOD: &str = "istiod-1-32-0-lab-1";

fn canary(deadline: &str) -> Value {
    let mut canary = spec_with_deadline(deadline, LAB_1_32);
    canary["upgrade"]["strategy"] = "Canary".into();
    canary["upgrade"]["retireAfter"] = "1s".into();
    canary
}

/// Creates an application's Pod, injected by the default revision.
async fn create_application(pods: &Api<Pod>) -> TestResult {
    let containers = json!([{"name": "web", "image": "registry.example.com/web:1"}]);
    let metadata = json!({"name": "web", "namespace": "shop"});
    let pod = json!({"metadata": metadata, "spec": {"containers": containers}});
    pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
    Ok(())
}

#[test]
fn canary_takes_over_and_retires_old_revision() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let test = UpgradeTest::start(lab, spec(LAB_1_31)).await?;
        let pods: Api<Pod> = Api::namespaced(lab.client(), "shop");
        create_application(&pods).await?;
        test.mesh.apply(NAME, canary("90s")).await?;
        let ready = test.mesh.wait_ready(NAME).await?;
        let status = ready.status.unwrap_or_default();
        assert_eq!(status.version.running.as_deref(), Some(LAB_1_32));
        assert_eq!(status.version.revision.as_deref(), Some("1-32-0-lab-1"));
        assert_eq!(status.version.retiring.as_deref(), Some("default"));
        let injections = test.assert_all_injected().await?;
        assert!(injections.proxies.last().is_some_and(|image| image.ends_with(LAB_1_32)), "{:?}", injections.proxies);

        // The old control plane stays, and its drift is reverted, while a Pod uses it.
        let deployments = test.mesh.api("apps/v1", "Deployment", Some("istio-system"));
        wait::until(TIMEOUT, "the InUse condition to name revision default", async || {
            let found = test.mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
            let conditions = found.status.unwrap_or_default().conditions;
            let in_use = get(&conditions, ConditionType::InUse).filter(|c| c.message.contains("default"));
            in_use.map(drop).ok_or_else(|| format!("{conditions:?}"))
        })
        .await?;
        deployments.delete(ISTIOD, &DeleteParams::default()).await?;
        wait::until(TIMEOUT, "the old istiod to be recreated", async || {
            let found = deployments.get(ISTIOD).await.map_err(|error| error.to_string())?;
            found.metadata.deletion_timestamp.is_none().then_some(()).ok_or_else(|| "it is terminating".to_owned())
        })
        .await?;

        pods.delete("web", &DeleteParams::default().grace_period(0)).await?;
        wait::until(TIMEOUT, "removal of the old istiod", async || {
            let left = deployments.get_opt(ISTIOD).await.map_err(|error| error.to_string())?;
            left.is_none().then_some(()).ok_or_else(|| "it still exists".to_owned())
        })
        .await?;
        assert!(deployments.get_opt(NEW_ISTIOD).await?.is_some());
        let settled = test.mesh.wait_ready(NAME).await?;
        assert!(!is_true(&settled.status.unwrap_or_default().conditions, ConditionType::InUse));
        test.assert_all_injected().await?;
        Ok(())
    });
}

#[test]
fn failed_canary_is_removed() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let test = UpgradeTest::start(lab, spec(LAB_1_31)).await?;
        let before = test.inventory().await?;
        lab.inject_istiod_fault(LAB_1_32, Fault::NeverStarts)?;
        test.mesh.apply(NAME, canary("15s")).await?;
        let message = test.wait_rolled_back(&before).await?;
        assert!(message.contains("ImagePullBackOff"), "{message}");
        test.assert_all_injected().await?;

        // An upgrade that is reverted in the spec leaves nothing behind either.
        test.mesh.apply(NAME, canary("10m")).await?;
        test.wait_step(meshwright_api::UpgradeStep::ControlPlane).await?;
        test.mesh.apply(NAME, spec(LAB_1_31)).await?;
        test.mesh.wait_ready(NAME).await?;
        assert_eq!(test.differences(&before).await?, Vec::<String>::new());

        // After the fault is cleared, the upgrade succeeds. The mesh was available throughout.
        lab.clear_istiod_fault(LAB_1_32)?;
        test.mesh.apply(NAME, canary("90s")).await?;
        test.wait_ready_condition("True", "Healthy").await?;
        test.assert_all_injected().await?;
        test.recorder.wait_caught_up().await?;
        let unavailable = |state: &&RecordedState| {
            !conditions(state).is_empty() && !is_true(&conditions(state), ConditionType::Available)
        };
        let states = test.recorder.states(MESHES, NAME);
        assert!(states.iter().find(unavailable).is_none(), "{:?}", states.iter().find(unavailable));
        Ok(())
    });
}

/// Conditions of a recorded installation.
fn conditions(state: &RecordedState) -> Vec<Condition> {
    let object = state.object.clone().unwrap_or_default();
    let found = serde_json::from_value::<MeshInstallation>(object).ok().and_then(|found| found.status);
    found.unwrap_or_default().conditions
}
