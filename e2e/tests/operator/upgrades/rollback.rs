//! Failed upgrades are rolled back, and the cause is reported.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use meshwright_api::UpgradeStep;
use meshwright_api::conditions::{ConditionType, is_true};
use meshwright_e2e::mesh::{LAB_1_31, LAB_1_32, LAB_1_32_PATCH, NAME};
use meshwright_e2e::restriction::Restriction;
use meshwright_e2e::{Fault, Lab, LabOptions, TestResult, run};
use serde_json::json;

use super::{INJECTOR, ISTIOD, UpgradeTest, live, spec, spec_with_deadline};

/// Deadline of a step that fails.
const SHORT_DEADLINE: &str = "15s";
/// Deadline that suffices for istiod's rollout on a busy machine, for tests in which a later step fails.
const LONG_DEADLINE: &str = "45s";

/// Names and restart counts of the control plane's Pods.
async fn istiods(lab: &Lab) -> TestResult<Vec<(String, i32)>> {
    let pods: Api<Pod> = Api::namespaced(lab.client(), "istio-system");
    let list = pods.list(&ListParams::default().labels("app=istiod")).await?;
    let restarts = |pod: &Pod| {
        let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        containers.into_iter().flatten().map(|container| container.restart_count).sum()
    };
    let running = list.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    Ok(running.map(|pod| (pod.name_any(), restarts(pod))).collect())
}

#[test]
fn rolls_back_when_istiod_fails() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let test = UpgradeTest::start(lab, spec(LAB_1_31)).await?;
        let (before, serving) = (test.inventory().await?, istiods(lab).await?);
        let cases = [
            (Fault::NeverStarts, LAB_1_32, "ImagePullBackOff"),
            (Fault::CrashesAfter(Duration::from_secs(5)), LAB_1_32_PATCH, "exit code"),
            (Fault::NeverReady, LAB_1_32, "Readiness probe failed"),
        ];
        for (fault, release, cause) in cases {
            lab.inject_istiod_fault(release, fault)?;
            test.mesh.apply(NAME, spec_with_deadline(SHORT_DEADLINE, release)).await?;
            let message = test.wait_rolled_back(&before).await?;
            assert!(message.contains(cause), "{message}");
            assert_eq!(istiods(lab).await?, serving, "the old istiod should keep serving");
            test.assert_not_retried().await?;
            lab.clear_istiod_fault(release)?;
        }
        test.assert_all_injected().await?;
        // A changed spec starts a new attempt.
        test.mesh.apply(NAME, spec(LAB_1_32)).await?;
        test.wait_ready_condition("True", "Healthy").await?;
        Ok(())
    });
}

#[test]
fn rolls_back_when_injection_or_gateway_fails() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let test = UpgradeTest::start(lab, spec(LAB_1_31)).await?;
        let before = test.inventory().await?;

        let gateways = Restriction::unready_gateways(lab.client(), LAB_1_32).await?;
        test.mesh.apply(NAME, spec_with_deadline(LONG_DEADLINE, LAB_1_32)).await?;
        let message = test.wait_rolled_back(&before).await?;
        assert!(message.contains("edge"), "{message}");
        test.assert_not_retried().await?;
        gateways.remove().await?;
        test.assert_all_injected().await?;

        // With a template that can't be rendered, pods are rejected. The injection check detects it without waiting for
        // the deadline.
        let mut broken = spec_with_deadline("1h", LAB_1_32_PATCH);
        broken["values"] = json!({"istiod": {"sidecarInjectorWebhook": {
            "templates": {"house": "{{ .UnknownField }}"}, "defaultTemplates": ["sidecar", "house"],
        }}});
        test.mesh.apply(NAME, broken).await?;
        let message = test.wait_rolled_back(&before).await?;
        assert!(message.contains("UnknownField") && message.contains("step InjectionCheck failed"), "{message}");
        Ok(())
    });
}

#[test]
fn rolls_back_when_quota_or_policy_denies() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let test = UpgradeTest::start(lab, spec(LAB_1_31)).await?;
        let (before, serving) = (test.inventory().await?, istiods(lab).await?);

        let quota = Restriction::deny_pods(lab.client(), "istio-system").await?;
        test.mesh.apply(NAME, spec_with_deadline(SHORT_DEADLINE, LAB_1_32)).await?;
        let message = test.wait_rolled_back(&before).await?;
        assert!(message.contains("exceeded quota"), "{message}");
        assert_eq!(istiods(lab).await?, serving, "the old istiod should keep serving");
        quota.remove().await?;

        // A denial that already exists is detected before anything is written.
        let injector = live(&test.mesh, "v1", "ConfigMap", INJECTOR).await?;
        let policy = Restriction::deny_object(lab.client(), &injector, LAB_1_32_PATCH).await?;
        test.mesh.apply(NAME, spec_with_deadline(LONG_DEADLINE, LAB_1_32_PATCH)).await?;
        let rejected = test.wait_ready_condition("False", "ObjectRejected").await?;
        let message = rejected.status.unwrap_or_default().message.unwrap_or_default();
        assert!(message.contains("refused-object") && message.contains(INJECTOR), "{message}");
        assert_eq!(test.differences(&before).await?, Vec::<String>::new());
        // Reverts the spec, so that the upgrade doesn't start when the policy is removed.
        test.mesh.apply(NAME, spec(LAB_1_31)).await?;
        test.wait_ready_condition("True", "Healthy").await?;
        policy.remove().await?;

        // A denial during the upgrade, while istiod is rolled out, causes a rollback.
        test.mesh.apply(NAME, spec_with_deadline(LONG_DEADLINE, LAB_1_32)).await?;
        test.wait_step(UpgradeStep::ControlPlane).await?;
        let policy = Restriction::deny_object(lab.client(), &injector, LAB_1_32).await?;
        let message = test.wait_rolled_back(&before).await?;
        assert!(message.contains("refused-object") && message.contains(INJECTOR), "{message}");
        test.assert_not_retried().await?;
        policy.remove().await?;
        test.assert_all_injected().await?;
        Ok(())
    });
}

#[test]
fn halts_failed_upgrade_on_request() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let test = UpgradeTest::start(lab, spec(LAB_1_31)).await?;
        let serving = istiods(lab).await?;
        lab.inject_istiod_fault(LAB_1_32, Fault::NeverStarts)?;
        let mut halting = spec_with_deadline(SHORT_DEADLINE, LAB_1_32);
        halting["upgrade"]["onFailure"] = "Halt".into();
        test.mesh.apply(NAME, halting).await?;
        let found = test.wait_ready_condition("False", "Halted").await?;
        let status = found.status.unwrap_or_default();
        assert!(is_true(&status.conditions, ConditionType::Available), "{:?}", status.conditions);
        assert!(status.message.is_some_and(|message| message.contains("ImagePullBackOff")));
        let now = istiods(lab).await?;
        assert!(now.len() == 2 && serving.iter().all(|old| now.contains(old)), "{now:?}");
        // After the fault is cleared, a changed spec starts a new attempt.
        lab.clear_istiod_fault(LAB_1_32)?;
        test.mesh.apply(NAME, spec(LAB_1_32)).await?;
        test.wait_ready_condition("True", "Healthy").await?;
        Ok(())
    });
}

#[test]
fn reports_failed_rollback_and_reverts_drift() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let test = UpgradeTest::start(lab, spec(LAB_1_31)).await?;
        // A gateway fails after istiod's upgrade, when the old istiod's image can no longer be pulled.
        let gateways = Restriction::unready_gateways(lab.client(), LAB_1_32).await?;
        lab.inject_istiod_fault(LAB_1_31, Fault::NeverStarts)?;
        test.mesh.apply(NAME, spec_with_deadline(LONG_DEADLINE, LAB_1_32)).await?;
        let found = test.wait_ready_condition("False", "RollbackFailed").await?;
        let status = found.status.unwrap_or_default();
        assert!(status.message.is_some_and(|message| message.contains("ImagePullBackOff")));
        let services = test.mesh.api("v1", "Service", Some("istio-system"));
        services.delete(ISTIOD, &Default::default()).await?;
        meshwright_e2e::wait::until(meshwright_e2e::wait::TIMEOUT, "istiod's Service to be recreated", async || {
            services.get(ISTIOD).await.map_err(|error| error.to_string())
        })
        .await?;
        lab.clear_istiod_fault(LAB_1_31)?;
        test.wait_ready_condition("False", "RolledBack").await?;
        gateways.remove().await?;
        Ok(())
    });
}
