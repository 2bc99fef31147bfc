//! Upgrades between the lab's releases with continuous injection checks.

mod canary;
mod downgrade;
mod in_place;
mod last_dist;
mod recovery;
mod renamed_fields;
mod rollback;

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::DynamicObject;
use meshwright_api::conditions::{ConditionType, get, is_true};
use meshwright_api::{MeshInstallation, UpgradeStep};
use meshwright_e2e::inventory::Inventory;
use meshwright_e2e::mesh::{Mesh, NAME, describe};
use meshwright_e2e::recorder::{InjectionMonitor, InjectionResults, RecordedState, StateRecorder};
use meshwright_e2e::wait::{self, WaitError};
use meshwright_e2e::{Lab, TestResult, objects};
use serde_json::{Value, json};

const ISTIOD: &str = "istiod";
const INJECTOR: &str = "istio-sidecar-injector";
const GATEWAY: &str = "edge";

// Labels of the watched APIs.
const MESHES: &str = "MeshInstallation";
const CONTROL_PLANE: &str = "Deployment istio-system";
const GATEWAYS: &str = "Deployment edge";
const DAEMON_SETS: &str = "DaemonSet istio-system";
const CONFIG: &str = "ConfigMap istio-system";
const ROLES: &str = "ClusterRole";

/// A mesh with a gateway and this deadline for each upgrade step.
fn spec_with_deadline(deadline: &str, version: &str) -> Value {
    let gateway = json!({"name": GATEWAY, "namespace": "edge", "service": {"type": "ClusterIP"}});
    json!({"version": version, "profile": "demo", "gateways": [gateway], "upgrade": {"progressDeadline": deadline}})
}

/// Like [`spec_with_deadline`] with a long deadline, for upgrades that succeed.
fn spec(version: &str) -> Value {
    spec_with_deadline("90s", version)
}

/// A Ready mesh, an application's namespace, a recorder of object states and an injection monitor.
struct UpgradeTest {
    mesh: Mesh,
    recorder: StateRecorder,
    monitor: InjectionMonitor,
}

impl UpgradeTest {
    /// Installs the operator and a mesh with this spec.
    async fn start(lab: &Lab, first: Value) -> TestResult<Self> {
        Self::with_operator(lab, Mesh::install_operator(lab).await?, first).await
    }

    /// Like [`Self::start`] with an operator that is already installed.
    async fn with_operator(lab: &Lab, mesh: Mesh, first: Value) -> TestResult<Self> {
        mesh.apply(NAME, first).await?;
        mesh.wait_ready(NAME).await?;
        mesh.wait_fail_closed().await?;
        objects::namespace(&lab.client(), "shop", &[("istio-injection", "enabled")]).await?;
        let apis = [
            (MESHES, mesh.api("meshwright.dev/v1alpha1", "MeshInstallation", None)),
            (CONTROL_PLANE, mesh.api("apps/v1", "Deployment", Some("istio-system"))),
            (GATEWAYS, mesh.api("apps/v1", "Deployment", Some("edge"))),
            (DAEMON_SETS, mesh.api("apps/v1", "DaemonSet", Some("istio-system"))),
            (CONFIG, mesh.api("v1", "ConfigMap", Some("istio-system"))),
            (ROLES, mesh.api("rbac.authorization.k8s.io/v1", "ClusterRole", None)),
        ];
        let recorder = StateRecorder::start(apis).await?;
        let monitor = InjectionMonitor::start(lab.client(), "shop", Duration::from_millis(50));
        Ok(Self { mesh, recorder, monitor })
    }

    /// Waits until Ready has this status and reason for the latest generation. The timeout covers several steps with
    /// their own deadlines.
    async fn wait_ready_condition(&self, status: &str, reason: &str) -> Result<MeshInstallation, WaitError> {
        wait::until(Duration::from_mins(5), format!("Ready={status} {reason}"), async || {
            let found = self.mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
            let conditions = found.status.clone().unwrap_or_default().conditions;
            let ready = get(&conditions, ConditionType::Ready);
            let matches = ready.is_some_and(|ready| {
                let now = ready.observed_generation == found.metadata.generation;
                now && ready.status == status && ready.reason == reason
            });
            if matches { Ok(found) } else { Err(describe(&found)) }
        })
        .await
    }

    /// Waits until the upgrade to the latest generation is at a step.
    async fn wait_step(&self, step: UpgradeStep) -> TestResult {
        wait::until(wait::TIMEOUT, format!("the step {}", step.as_str()), async || {
            let found = self.mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
            let status = found.status.clone().unwrap_or_default();
            let is_new = Some(status.observed_generation) == found.metadata.generation;
            let at = status.upgrade.filter(|upgrade| is_new && upgrade.outcome.is_none()).map(|upgrade| upgrade.step);
            if at == Some(step) { Ok(()) } else { Err(describe(&found)) }
        })
        .await?;
        Ok(())
    }

    /// Snapshot of the mesh's objects.
    async fn inventory(&self) -> TestResult<Inventory> {
        Inventory::read(&self.mesh.client(), NAME).await
    }

    /// Differences to an earlier snapshot, without CRDs, which are never downgraded.
    async fn differences(&self, before: &Inventory) -> TestResult<Vec<String>> {
        let mut differences = before.differences(&self.inventory().await?);
        differences.retain(|line| !line.starts_with("CustomResourceDefinition"));
        Ok(differences)
    }

    /// Waits for more injected Pods and returns the results so far.
    async fn injections(&self) -> TestResult<InjectionResults> {
        let before = self.monitor.results().attempts;
        let results = wait::until(wait::TIMEOUT, "more injection attempts", async || {
            let now = self.monitor.results();
            if now.attempts > before + 3 { Ok(now) } else { Err(format!("{} attempts", now.attempts)) }
        });
        Ok(results.await?)
    }

    /// Checks that every Pod was injected. Retries after lost responses of terminating istiods are allowed.
    async fn assert_all_injected(&self) -> TestResult<InjectionResults> {
        let injections = self.injections().await?;
        println!(
            "{} attempts, {} lost responses, slowest {:?}",
            injections.attempts, injections.lost, injections.slowest
        );
        assert_eq!(injections.failures, Vec::<String>::new(), "of {}", injections.attempts);
        Ok(injections)
    }

    /// Waits until the upgrade was rolled back and all objects match `before`; returns the message of the Ready
    /// condition.
    async fn wait_rolled_back(&self, before: &Inventory) -> TestResult<String> {
        let found = self.wait_ready_condition("False", "RolledBack").await?;
        let status = found.status.unwrap_or_default();
        assert!(is_true(&status.conditions, ConditionType::Available), "{:?}", status.conditions);
        assert!(is_true(&status.conditions, ConditionType::Stalled), "{:?}", status.conditions);
        assert_eq!(self.differences(before).await?, Vec::<String>::new(), "every object should be restored");
        Ok(get(&status.conditions, ConditionType::Ready).map(|ready| ready.message.clone()).unwrap_or_default())
    }

    /// Checks that a failed spec isn't retried while drift is still reverted.
    async fn assert_not_retried(&self) -> TestResult {
        self.recorder.wait_caught_up().await?;
        let before = self.recorder.states(CONTROL_PLANE, ISTIOD).iter().filter_map(generation).max();
        let accounts = self.mesh.api("v1", "ServiceAccount", Some("istio-system"));
        let reader = "istio-reader-service-account";
        accounts.delete(reader, &Default::default()).await?;
        wait::until(wait::TIMEOUT, "the ServiceAccount to be recreated", async || {
            accounts.get(reader).await.map_err(|error| error.to_string())
        })
        .await?;
        let found = self.wait_ready_condition("False", "RolledBack").await?;
        self.recorder.wait_caught_up().await?;
        let after = self.recorder.states(CONTROL_PLANE, ISTIOD).iter().filter_map(generation).max();
        assert_eq!(after, before, "{}", describe(&found));
        Ok(())
    }
}

/// `metadata.generation` of a recorded object.
fn generation(state: &RecordedState) -> Option<i64> {
    state.object.as_ref()?["metadata"]["generation"].as_i64()
}

/// Whether a Deployment has a release's version label and is rolled out.
pub fn rolled_out(state: &RecordedState, release: &str) -> bool {
    let object = state.object.clone().unwrap_or_default();
    let deployment: Deployment = serde_json::from_value(object).unwrap_or_default();
    let labels = deployment.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref()?.labels.as_ref());
    let version = labels.and_then(|labels| labels.get("app.kubernetes.io/version"));
    version.is_some_and(|version| version == release) && objects::rolled_out(&deployment).is_ok()
}

/// Whether an installation was Ready for its latest generation.
fn is_ready(state: &RecordedState) -> bool {
    let object = state.object.clone().unwrap_or_default();
    let Ok(installation) = serde_json::from_value::<MeshInstallation>(object) else { return false };
    let status = installation.status.unwrap_or_default();
    let ready = get(&status.conditions, ConditionType::Ready);
    ready.is_some_and(|ready| ready.status == "True" && ready.observed_generation == installation.metadata.generation)
}

/// Reads an object in the control plane's namespace.
async fn live(mesh: &Mesh, api_version: &str, kind: &str, name: &str) -> TestResult<DynamicObject> {
    Ok(mesh.api(api_version, kind, Some("istio-system")).get(name).await?)
}
