//! The lifecycle of a mesh in a lab, stage by stage, each uninterrupted or interrupted.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams};
use meshwright_api::conditions::ConditionType;

use super::gate::CompletedWrite;
use super::operator::OperatorProcess;
use super::result::{CrashResult, extra_writes, mesh_writes};
use super::snapshot::ClusterSnapshot;
use super::stage::{Interruption, Stage, settled_spec, spec};
use crate::mesh::{LAB_1_32_PATCH, Mesh, NAME};
use crate::wait::{self, TIMEOUT};
use crate::{Fault, Lab, TestResult};

/// A stage is finished when the operator sent no write for this long.
const QUIET_PERIOD: Duration = Duration::from_millis(700);
/// Time for istiod to set the last fields of its webhooks and for controllers to clean up.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Result of an uninterrupted stage.
#[derive(Debug, Clone)]
pub struct Baseline {
    /// Cluster state at the end of the stage.
    pub snapshot: ClusterSnapshot,
    /// Number of writes that the operator sent.
    pub sent: usize,
    writes: Vec<CompletedWrite>,
}

impl Baseline {
    /// Number of writes to objects of the mesh.
    #[must_use]
    pub fn mesh_writes(&self) -> usize {
        mesh_writes(&self.writes).count()
    }
}

/// A lab with the operator, and the mesh in its current stage.
pub struct Lifecycle<'l> {
    lab: &'l Lab,
    operator: OperatorProcess,
    mesh: Mesh,
}

impl<'l> Lifecycle<'l> {
    /// Starts the operator without a mesh.
    pub async fn start(lab: &'l Lab) -> TestResult<Self> {
        Ok(Self { lab, operator: OperatorProcess::install(lab).await?, mesh: Mesh::connect(lab.client()) })
    }

    /// Runs a stage without interruption. A stage whose spec would change ends with its first spec.
    pub async fn run_baseline(&mut self, stage: Stage) -> TestResult<Baseline> {
        self.operator.gate.set(None);
        self.begin_stage(stage).await?;
        let finished = self.wait_finished(stage).await;
        finished.map_err(|error| format!("{}: {error}\n{}", stage.name(), self.operator.log_tail()))?;
        if stage != Stage::Uninstall {
            self.mesh.wait_fail_closed().await?;
        }
        self.operator.gate.wait_quiet(QUIET_PERIOD).await;
        let (sent, writes) = (self.operator.gate.sent(), self.operator.gate.writes());
        let snapshot = ClusterSnapshot::take(&self.lab.client()).await?;
        self.clean_up(stage).await?;
        Ok(Baseline { snapshot, sent, writes })
    }

    /// Installs a release directly, without an upgrade, and returns the resulting cluster state.
    pub async fn install_directly(&mut self, version: &str) -> TestResult<ClusterSnapshot> {
        self.mesh.apply(NAME, spec(version, "90s")).await?;
        self.mesh.wait_ready(NAME).await?;
        self.mesh.wait_fail_closed().await?;
        self.operator.gate.wait_quiet(QUIET_PERIOD).await;
        ClusterSnapshot::take(&self.lab.client()).await
    }

    /// Runs a stage that is interrupted after `writes` writes and compares the end with `expected`.
    pub async fn run_interrupted(
        &mut self,
        stage: Stage,
        writes: usize,
        baseline: &Baseline,
        expected: &ClusterSnapshot,
    ) -> TestResult<CrashResult> {
        self.operator.gate.set(Some(stage.limit(writes, baseline.sent)));
        self.begin_stage(stage).await?;
        let first = tokio::select! {
            biased;
            () = self.operator.gate.wait_stopped() => Ok(()),
            finished = self.wait_finished(stage) => finished,
        };
        if first.is_ok() && !self.operator.gate.is_stopped() {
            self.operator.gate.wait_quiet(QUIET_PERIOD).await;
        }
        let reached = self.operator.gate.is_stopped();
        match stage.interruption() {
            Interruption::OperatorKilled if reached => self.operator.replace().await?,
            Interruption::OperatorKilled => {}
            Interruption::SpecChanged => {
                self.change_spec(stage).await?;
                self.operator.gate.open();
            }
        }
        let differences = match self.wait_finished(stage).await {
            Ok(()) => self.differences(stage, expected).await?,
            Err(error) => vec![format!("the stage did not finish: {error}")],
        };
        let completed = self.operator.gate.writes();
        let result = CrashResult {
            stage,
            writes,
            reached,
            mesh_writes: (baseline.mesh_writes(), mesh_writes(&completed).count()),
            extra_writes: extra_writes(&baseline.writes, &completed),
            log: if differences.is_empty() { String::new() } else { self.operator.log_tail() },
            differences,
        };
        self.clean_up(stage).await?;
        Ok(result)
    }

    /// Waits until the cluster matches `expected`; returns the differences that remain.
    async fn differences(&self, stage: Stage, expected: &ClusterSnapshot) -> TestResult<Vec<String>> {
        let mut remaining = Vec::new();
        let client = self.lab.client();
        let equal = wait::until(SETTLE_TIMEOUT, "the cluster to match the uninterrupted run", async || {
            self.operator.gate.wait_quiet(QUIET_PERIOD).await;
            let snapshot = ClusterSnapshot::take(&client).await.map_err(|error| error.to_string())?;
            remaining = match stage.interruption() {
                Interruption::OperatorKilled => expected.differences(&snapshot),
                Interruption::SpecChanged => expected.differences_except_crds(&snapshot),
            };
            if remaining.is_empty() { Ok(()) } else { Err(remaining.join("\n")) }
        })
        .await;
        match equal {
            Ok(()) => Ok(Vec::new()),
            Err(error) if remaining.is_empty() => Err(error.into()),
            Err(_) => Ok(remaining),
        }
    }

    /// Does what a user does at the start of a stage.
    async fn begin_stage(&self, stage: Stage) -> TestResult {
        if stage == Stage::Rollback {
            self.lab.inject_istiod_fault(LAB_1_32_PATCH, Fault::NeverStarts)?;
        }
        match stage.initial_spec() {
            Some(spec) => drop(self.mesh.apply(NAME, spec).await?),
            None => drop(self.mesh.installations().delete(NAME, &DeleteParams::default()).await?),
        }
        Ok(())
    }

    async fn change_spec(&self, stage: Stage) -> TestResult {
        if let Some(spec) = stage.changed_spec() {
            self.mesh.apply(NAME, spec).await?;
        }
        Ok(())
    }

    /// Waits until the stage has succeeded, or has failed where failure is expected.
    async fn wait_finished(&self, stage: Stage) -> Result<(), wait::WaitError> {
        if stage == Stage::Uninstall {
            return self.mesh.wait_gone(NAME).await;
        }
        let (status, reason) = match stage {
            Stage::Rollback => ("False", Some("RolledBack")),
            _ => ("True", None),
        };
        self.mesh.wait_for(NAME, ConditionType::Ready, status, reason).await?;
        if stage == Stage::Canary { self.wait_retired().await } else { Ok(()) }
    }

    /// Waits until the previous control plane is removed after a canary upgrade.
    async fn wait_retired(&self) -> Result<(), wait::WaitError> {
        let istiods = self.mesh.api("apps/v1", "Deployment", Some("istio-system"));
        wait::until(TIMEOUT, "removal of the previous control plane", async || {
            let old = istiods.get_opt("istiod").await.map_err(|error| error.to_string())?;
            let found = self.mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
            let retiring = found.status.and_then(|status| status.version.retiring);
            if old.is_none() && retiring.is_none() { Ok(()) } else { Err(format!("{retiring:?} is retiring")) }
        })
        .await
    }

    /// Restores the state that the next stage starts from.
    async fn clean_up(&self, stage: Stage) -> TestResult {
        match stage {
            Stage::Rollback => {
                self.lab.clear_istiod_fault(LAB_1_32_PATCH)?;
                self.mesh.apply(NAME, settled_spec()).await?;
                self.mesh.wait_ready(NAME).await?;
            }
            Stage::Uninstall => self.delete_gateway_namespace().await?,
            _ => {}
        }
        self.operator.gate.wait_quiet(QUIET_PERIOD).await;
        Ok(())
    }

    /// Uninstalling a mesh does not delete the namespace of its gateways.
    async fn delete_gateway_namespace(&self) -> TestResult {
        let namespaces: Api<Namespace> = Api::all(self.lab.client());
        namespaces.delete("edge", &DeleteParams::default()).await?;
        wait::until(TIMEOUT, "deletion of the gateways' namespace", async || {
            let found = namespaces.get_opt("edge").await.map_err(|error| error.to_string())?;
            found.map_or(Ok(()), |namespace| Err(format!("{:?}", namespace.status)))
        })
        .await?;
        Ok(())
    }
}
