//! Upgrades in place between the lab's releases, watched by those who would suffer.

mod canary;
mod in_place;
mod last_dist;
mod refused;
mod rollback;

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::DynamicObject;
use meshwright_api::conditions::{ConditionType, get, is_true};
use meshwright_api::{MeshInstallation, UpgradeStep};
use meshwright_e2e::inventory::Inventory;
use meshwright_e2e::mesh::{Mesh, NAME, picture};
use meshwright_e2e::wait::{self, WaitError};
use meshwright_e2e::witness::{Injecting, Injections, Seen, Witness};
use meshwright_e2e::{Lab, TestResult, objects};
use serde_json::{Value, json};

const ISTIOD: &str = "istiod";
const INJECTOR: &str = "istio-sidecar-injector";
const GATEWAY: &str = "edge";

// What the witness watches, by these names.
const MESHES: &str = "MeshInstallation";
const CONTROL_PLANE: &str = "Deployment istio-system";
const GATEWAYS: &str = "Deployment edge";
const AGENTS: &str = "DaemonSet istio-system";
const CONFIG: &str = "ConfigMap istio-system";
const ROLES: &str = "ClusterRole";

/// A mesh of some release with a gateway, whose steps may take that long.
fn within(deadline: &str, version: &str) -> Value {
    let gateway = json!({"name": GATEWAY, "namespace": "edge", "service": {"type": "ClusterIP"}});
    json!({"version": version, "profile": "demo", "gateways": [gateway], "upgrade": {"progressDeadline": deadline}})
}

/// The same, in no hurry to give up: for upgrades that are to succeed.
fn spec(version: &str) -> Value {
    within("90s", version)
}

/// A Ready mesh, an application's namespace beside it, and those who watch.
struct Scene {
    mesh: Mesh,
    witness: Witness,
    injecting: Injecting,
}

impl Scene {
    /// With the spec that is there first.
    async fn begin(lab: &Lab, first: Value) -> TestResult<Self> {
        Self::by(lab, Mesh::operator(lab).await?, first).await
    }

    /// The same, by an operator that runs already.
    async fn by(lab: &Lab, mesh: Mesh, first: Value) -> TestResult<Self> {
        mesh.apply(NAME, first).await?;
        mesh.wait_ready(NAME).await?;
        mesh.wait_strict().await?;
        objects::namespace(&lab.client(), "shop", &[("istio-injection", "enabled")]).await?;
        let apis = [
            (MESHES, mesh.api("meshwright.dev/v1alpha1", "MeshInstallation", None)),
            (CONTROL_PLANE, mesh.api("apps/v1", "Deployment", Some("istio-system"))),
            (GATEWAYS, mesh.api("apps/v1", "Deployment", Some("edge"))),
            (AGENTS, mesh.api("apps/v1", "DaemonSet", Some("istio-system"))),
            (CONFIG, mesh.api("v1", "ConfigMap", Some("istio-system"))),
            (ROLES, mesh.api("rbac.authorization.k8s.io/v1", "ClusterRole", None)),
        ];
        let witness = Witness::of(apis).await?;
        let injecting = Injecting::start(lab.client(), "shop", Duration::from_millis(50));
        Ok(Self { mesh, witness, injecting })
    }

    /// Waits until Ready has this status and reason for the newest generation. Several steps, each with its deadline, may
    /// lie before that.
    async fn comes_to(&self, status: &str, reason: &str) -> Result<MeshInstallation, WaitError> {
        wait::until(Duration::from_mins(5), format!("Ready={status} {reason}"), async || {
            let found = self.mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
            let conditions = found.status.clone().unwrap_or_default().conditions;
            let ready = get(&conditions, ConditionType::Ready);
            let fits = ready.is_some_and(|ready| {
                let now = ready.observed_generation == found.metadata.generation;
                now && ready.status == status && ready.reason == reason
            });
            if fits { Ok(found) } else { Err(picture(&found)) }
        })
        .await
    }

    /// Waits until an upgrade to the newest generation is at a step.
    async fn reaches(&self, step: UpgradeStep) -> TestResult {
        wait::until(wait::PATIENCE, format!("the step {}", step.as_str()), async || {
            let found = self.mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
            let status = found.status.clone().unwrap_or_default();
            let is_new = Some(status.observed_generation) == found.metadata.generation;
            let at = status.upgrade.filter(|upgrade| is_new && upgrade.outcome.is_none()).map(|upgrade| upgrade.step);
            if at == Some(step) { Ok(()) } else { Err(picture(&found)) }
        })
        .await?;
        Ok(())
    }

    /// The objects of the mesh as they are.
    async fn inventory(&self) -> TestResult<Inventory> {
        Inventory::of(&self.mesh.client(), NAME).await
    }

    /// What isn't as it was. Definitions are left out: they never go back.
    async fn differences(&self, before: &Inventory) -> TestResult<Vec<String>> {
        let mut differences = before.differences(&self.inventory().await?);
        differences.retain(|line| !line.starts_with("CustomResourceDefinition"));
        Ok(differences)
    }

    /// What became of the Pods that were tried, after some more were tried.
    async fn injections(&self) -> TestResult<Injections> {
        let before = self.injecting.so_far().tried;
        let some_more = wait::until(wait::PATIENCE, "some more Pods to be tried", async || {
            let now = self.injecting.so_far();
            if now.tried > before + 3 { Ok(now) } else { Err(format!("{} were", now.tried)) }
        });
        Ok(some_more.await?)
    }

    /// Checks that no Pod went without a proxy, but for answers that ending istiods lost.
    async fn all_were_injected(&self) -> TestResult<Injections> {
        let injections = self.injections().await?;
        println!("{} tried, {} lost, slowest {:?}", injections.tried, injections.lost, injections.slowest);
        assert_eq!(injections.failures, Vec::<String>::new(), "of {}", injections.tried);
        Ok(injections)
    }

    /// Waits until a changed spec was given up and what ran before runs again; checks what has to hold of every such
    /// end, and returns what is said of the cause.
    async fn rolled_back(&self, before: &Inventory) -> TestResult<String> {
        let ended = self.comes_to("False", "RolledBack").await?;
        let status = ended.status.unwrap_or_default();
        assert!(is_true(&status.conditions, ConditionType::Available), "{:?}", status.conditions);
        assert!(is_true(&status.conditions, ConditionType::Stalled), "{:?}", status.conditions);
        assert_eq!(self.differences(before).await?, Vec::<String>::new(), "every object is as it was");
        Ok(get(&status.conditions, ConditionType::Ready).map(|ready| ready.message.clone()).unwrap_or_default())
    }

    /// Checks that a spec that failed isn't tried again, though the operator goes on healing.
    async fn is_not_tried_again(&self) -> TestResult {
        self.witness.caught_up().await?;
        let tried = self.witness.states(CONTROL_PLANE, ISTIOD).iter().filter_map(template).max();
        let accounts = self.mesh.api("v1", "ServiceAccount", Some("istio-system"));
        let reader = "istio-reader-service-account";
        accounts.delete(reader, &Default::default()).await?;
        wait::until(wait::PATIENCE, "an account to come back", async || {
            accounts.get(reader).await.map_err(|error| error.to_string())
        })
        .await?;
        let found = self.comes_to("False", "RolledBack").await?;
        self.witness.caught_up().await?;
        let now = self.witness.states(CONTROL_PLANE, ISTIOD).iter().filter_map(template).max();
        assert_eq!(now, tried, "{}", picture(&found));
        Ok(())
    }
}

/// How often a Deployment's spec has changed.
fn template(seen: &Seen) -> Option<i64> {
    seen.object.as_ref()?["metadata"]["generation"].as_i64()
}

/// Whether a Deployment is of a release, and rolled out.
pub fn rolled_out(seen: &Seen, release: &str) -> bool {
    let object = seen.object.clone().unwrap_or_default();
    let deployment: Deployment = serde_json::from_value(object).unwrap_or_default();
    let labels = deployment.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref()?.labels.as_ref());
    let version = labels.and_then(|labels| labels.get("app.kubernetes.io/version"));
    version.is_some_and(|version| version == release) && objects::rolled_out(&deployment).is_ok()
}

/// Whether an installation was said to be Ready, for its newest generation.
fn is_ready(seen: &Seen) -> bool {
    let object = seen.object.clone().unwrap_or_default();
    let Ok(installation) = serde_json::from_value::<MeshInstallation>(object) else { return false };
    let status = installation.status.unwrap_or_default();
    let ready = get(&status.conditions, ConditionType::Ready);
    ready.is_some_and(|ready| ready.status == "True" && ready.observed_generation == installation.metadata.generation)
}

/// The live object of some kind in the control plane's namespace.
async fn live(mesh: &Mesh, api_version: &str, kind: &str, name: &str) -> TestResult<DynamicObject> {
    Ok(mesh.api(api_version, kind, Some("istio-system")).get(name).await?)
}
