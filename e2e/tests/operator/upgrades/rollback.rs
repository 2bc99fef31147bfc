//! What fails goes back, by itself and with the cause in words.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use meshwright_api::UpgradeStep;
use meshwright_api::conditions::{ConditionType, is_true};
use meshwright_e2e::mesh::{LAB_1_31, LAB_1_32, LAB_1_32_PATCH, NAME};
use meshwright_e2e::obstacle::Obstacle;
use meshwright_e2e::{Fault, Lab, LabOptions, TestResult, run};
use serde_json::json;

use super::{INJECTOR, ISTIOD, Scene, live, spec, within};

/// Long enough for a step to fail.
const SHORT: &str = "15s";
/// Long enough for istiod to be rolled out on a busy machine; a step after it fails.
const LONGER: &str = "45s";

/// The control plane's Pods, by name and how often they were restarted.
async fn istiods(lab: &Lab) -> TestResult<Vec<(String, i32)>> {
    let pods: Api<Pod> = Api::namespaced(lab.client(), "istio-system");
    let list = pods.list(&ListParams::default().labels("app=istiod")).await?;
    let restarts = |pod: &Pod| {
        let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        containers.into_iter().flatten().map(|container| container.restart_count).sum()
    };
    let there = list.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    Ok(there.map(|pod| (pod.name_any(), restarts(pod))).collect())
}

#[test]
fn an_istiod_that_does_not_come_up_is_taken_back_while_the_old_one_serves() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let scene = Scene::begin(lab, spec(LAB_1_31)).await?;
        let (before, serving) = (scene.inventory().await?, istiods(lab).await?);
        let cases = [
            (Fault::NeverStarts, LAB_1_32, "ImagePullBackOff"),
            (Fault::CrashesAfter(Duration::from_secs(5)), LAB_1_32_PATCH, "exit code"),
            (Fault::NeverReady, LAB_1_32, "Readiness probe failed"),
        ];
        for (fault, release, cause) in cases {
            lab.break_istiod(release, fault)?;
            scene.mesh.apply(NAME, within(SHORT, release)).await?;
            let said = scene.rolled_back(&before).await?;
            assert!(said.contains(cause), "{said}");
            assert_eq!(istiods(lab).await?, serving, "the old istiod never went");
            scene.is_not_tried_again().await?;
            lab.mend_istiod(release)?;
        }
        scene.all_were_injected().await?;
        // What has failed is tried again when the spec says something new.
        scene.mesh.apply(NAME, spec(LAB_1_32)).await?;
        scene.comes_to("True", "Healthy").await?;
        Ok(())
    });
}

#[test]
fn an_injector_or_a_gateway_that_fails_is_taken_back() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let scene = Scene::begin(lab, spec(LAB_1_31)).await?;
        let before = scene.inventory().await?;

        let gateways = Obstacle::unready_gateways(lab.client(), LAB_1_32).await?;
        scene.mesh.apply(NAME, within(LONGER, LAB_1_32)).await?;
        let said = scene.rolled_back(&before).await?;
        assert!(said.contains("edge"), "{said}");
        scene.is_not_tried_again().await?;
        gateways.lift().await?;
        scene.all_were_injected().await?;

        // A template that can't be filled: pods are refused while it is there, which the proof finds out. Nobody waits for
        // that to mend.
        let mut broken = within("1h", LAB_1_32_PATCH);
        broken["values"] = json!({"istiod": {"sidecarInjectorWebhook": {
            "templates": {"house": "{{ .NobodyHasThisField }}"}, "defaultTemplates": ["sidecar", "house"],
        }}});
        scene.mesh.apply(NAME, broken).await?;
        let said = scene.rolled_back(&before).await?;
        assert!(said.contains("NobodyHasThisField") && said.contains("step Injection can't be done"), "{said}");
        Ok(())
    });
}

#[test]
fn what_a_quota_or_a_policy_refuses_is_taken_back() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let scene = Scene::begin(lab, spec(LAB_1_31)).await?;
        let (before, serving) = (scene.inventory().await?, istiods(lab).await?);

        let quota = Obstacle::no_more_pods(lab.client(), "istio-system").await?;
        scene.mesh.apply(NAME, within(SHORT, LAB_1_32)).await?;
        let said = scene.rolled_back(&before).await?;
        assert!(said.contains("exceeded quota"), "{said}");
        assert_eq!(istiods(lab).await?, serving, "the old istiod never went");
        quota.lift().await?;

        // What is refused from the start is found out before anything is written.
        let injector = live(&scene.mesh, "v1", "ConfigMap", INJECTOR).await?;
        let policy = Obstacle::refused_object(lab.client(), &injector, LAB_1_32_PATCH).await?;
        scene.mesh.apply(NAME, within(LONGER, LAB_1_32_PATCH)).await?;
        let refused = scene.comes_to("False", "ObjectRefused").await?;
        let said = refused.status.unwrap_or_default().message.unwrap_or_default();
        assert!(said.contains("refused-object") && said.contains(INJECTOR), "{said}");
        assert_eq!(scene.differences(&before).await?, Vec::<String>::new());
        // First taken back, so that it isn't begun with once nothing stands in its way.
        scene.mesh.apply(NAME, spec(LAB_1_31)).await?;
        scene.comes_to("True", "Healthy").await?;
        policy.lift().await?;

        // What is refused half-way, while istiod is being rolled out, is taken back.
        scene.mesh.apply(NAME, within(LONGER, LAB_1_32)).await?;
        scene.reaches(UpgradeStep::ControlPlane).await?;
        let policy = Obstacle::refused_object(lab.client(), &injector, LAB_1_32).await?;
        let said = scene.rolled_back(&before).await?;
        assert!(said.contains("refused-object") && said.contains(INJECTOR), "{said}");
        scene.is_not_tried_again().await?;
        policy.lift().await?;
        scene.all_were_injected().await?;
        Ok(())
    });
}

#[test]
fn on_request_a_failed_upgrade_stays_where_it_is() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let scene = Scene::begin(lab, spec(LAB_1_31)).await?;
        let serving = istiods(lab).await?;
        lab.break_istiod(LAB_1_32, Fault::NeverStarts)?;
        let mut halting = within(SHORT, LAB_1_32);
        halting["upgrade"]["onFailure"] = "Halt".into();
        scene.mesh.apply(NAME, halting).await?;
        let ended = scene.comes_to("False", "Halted").await?;
        let status = ended.status.unwrap_or_default();
        assert!(is_true(&status.conditions, ConditionType::Available), "{:?}", status.conditions);
        assert!(status.message.is_some_and(|message| message.contains("ImagePullBackOff")));
        let now = istiods(lab).await?;
        assert!(now.len() == 2 && serving.iter().all(|old| now.contains(old)), "{now:?}");
        // The way out: mended, and asked for anew.
        lab.mend_istiod(LAB_1_32)?;
        scene.mesh.apply(NAME, spec(LAB_1_32)).await?;
        scene.comes_to("True", "Healthy").await?;
        Ok(())
    });
}

#[test]
fn a_rollback_that_fails_says_so_and_what_can_be_healed_is() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let scene = Scene::begin(lab, spec(LAB_1_31)).await?;
        // A gateway fails when istiod is through; and by then the old istiod has no image any more.
        let gateways = Obstacle::unready_gateways(lab.client(), LAB_1_32).await?;
        lab.break_istiod(LAB_1_31, Fault::NeverStarts)?;
        scene.mesh.apply(NAME, within(LONGER, LAB_1_32)).await?;
        let ended = scene.comes_to("False", "RollbackFailed").await?;
        let status = ended.status.unwrap_or_default();
        assert!(status.message.is_some_and(|message| message.contains("ImagePullBackOff")));
        let services = scene.mesh.api("v1", "Service", Some("istio-system"));
        services.delete(ISTIOD, &Default::default()).await?;
        meshwright_e2e::wait::until(meshwright_e2e::wait::PATIENCE, "istiod's Service to come back", async || {
            services.get(ISTIOD).await.map_err(|error| error.to_string())
        })
        .await?;
        lab.mend_istiod(LAB_1_31)?;
        scene.comes_to("False", "RolledBack").await?;
        gateways.lift().await?;
        Ok(())
    });
}
