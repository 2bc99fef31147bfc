//! A mesh's life in a lab, stage by stage, each undisturbed or not.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams};
use meshwright_api::conditions::ConditionType;

use super::end::End;
use super::gate::Write;
use super::operator::Operator;
use super::stage::{Disturbance, Stage, settled, spec};
use super::verdict::{Verdict, more, of_mesh};
use crate::mesh::{LAB_1_32_PATCH, Mesh, NAME};
use crate::wait::{self, PATIENCE};
use crate::{Fault, Lab, TestResult};

/// Nothing was written for this long after a stage has ended: nothing more comes.
const QUIET: Duration = Duration::from_millis(700);
/// istiod sets the last fields of its webhooks in its own time, and controllers clean up in theirs.
const OTHERS: Duration = Duration::from_secs(30);

/// A stage as it was undisturbed.
#[derive(Debug, Clone)]
pub struct Undisturbed {
    /// What it ended in.
    pub end: End,
    /// How many writes the operator asked for.
    pub sent: usize,
    writes: Vec<Write>,
}

impl Undisturbed {
    /// How many objects of the mesh were written.
    #[must_use]
    pub fn of_mesh(&self) -> usize {
        of_mesh(&self.writes).count()
    }
}

/// A lab, the operator in it, and the mesh as far as it has come.
pub struct Life<'l> {
    lab: &'l Lab,
    operator: Operator,
    mesh: Mesh,
}

impl<'l> Life<'l> {
    /// An operator, and no mesh.
    pub async fn begin(lab: &'l Lab) -> TestResult<Self> {
        Ok(Self { lab, operator: Operator::install(lab).await?, mesh: Mesh::of(lab.client()) })
    }

    /// Goes through a stage undisturbed; one whose spec changes on the way ends as its first spec says.
    pub async fn undisturbed(&mut self, stage: Stage) -> TestResult<Undisturbed> {
        self.operator.gate.set(None);
        self.ask(stage).await?;
        self.ended(stage).await.map_err(|error| format!("{}: {error}\n{}", stage.name(), self.operator.log_tail()))?;
        if stage != Stage::Uninstall {
            self.mesh.wait_strict().await?;
        }
        self.operator.gate.quiet(QUIET).await;
        let (sent, writes) = (self.operator.gate.sent(), self.operator.gate.writes());
        let end = End::now(&self.lab.client()).await?;
        self.leave(stage).await?;
        Ok(Undisturbed { end, sent, writes })
    }

    /// Installs a release directly; what it ends in.
    pub async fn directly(&mut self, version: &str) -> TestResult<End> {
        self.mesh.apply(NAME, spec(version, "90s")).await?;
        self.mesh.wait_ready(NAME).await?;
        self.mesh.wait_strict().await?;
        self.operator.gate.quiet(QUIET).await;
        End::now(&self.lab.client()).await
    }

    /// Goes through a stage in which the operator is disturbed after so many writes, and compares with how it was.
    /// `end` is what it is to end in.
    pub async fn disturbed(
        &mut self,
        stage: Stage,
        writes: usize,
        was: &Undisturbed,
        end: &End,
    ) -> TestResult<Verdict> {
        self.operator.gate.set(Some(stage.limit(writes, was.sent)));
        self.ask(stage).await?;
        let first = tokio::select! {
            biased;
            () = self.operator.gate.stopped() => Ok(()),
            ended = self.ended(stage) => ended,
        };
        if first.is_ok() && !self.operator.gate.is_stopped() {
            self.operator.gate.quiet(QUIET).await;
        }
        let reached = self.operator.gate.is_stopped();
        match stage.disturbance() {
            Disturbance::Killed if reached => self.operator.replace().await?,
            Disturbance::Killed => {}
            Disturbance::Changed => {
                self.change(stage).await?;
                self.operator.gate.open();
            }
        }
        let differences = match self.ended(stage).await {
            Ok(()) => self.differences(stage, end).await?,
            Err(error) => vec![format!("it never ended: {error}")],
        };
        let now = self.operator.gate.writes();
        let verdict = Verdict {
            stage,
            writes,
            reached,
            of_mesh: (was.of_mesh(), of_mesh(&now).count()),
            more: more(&was.writes, &now),
            log: if differences.is_empty() { String::new() } else { self.operator.log_tail() },
            differences,
        };
        self.leave(stage).await?;
        Ok(verdict)
    }

    /// Waits until nothing is different, or doesn't become so.
    async fn differences(&self, stage: Stage, end: &End) -> TestResult<Vec<String>> {
        let mut left = Vec::new();
        let client = self.lab.client();
        let equal = wait::until(OTHERS, "the end to be as it is undisturbed", async || {
            self.operator.gate.quiet(QUIET).await;
            let now = End::now(&client).await.map_err(|error| error.to_string())?;
            left = match stage.disturbance() {
                Disturbance::Killed => end.differences(&now),
                Disturbance::Changed => end.differences_but_definitions(&now),
            };
            if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
        })
        .await;
        match equal {
            Ok(()) => Ok(Vec::new()),
            Err(error) if left.is_empty() => Err(error.into()),
            Err(_) => Ok(left),
        }
    }

    /// What a person does.
    async fn ask(&self, stage: Stage) -> TestResult {
        if stage == Stage::Rollback {
            self.lab.break_istiod(LAB_1_32_PATCH, Fault::NeverStarts)?;
        }
        match stage.begins() {
            Some(spec) => drop(self.mesh.apply(NAME, spec).await?),
            None => drop(self.mesh.installations().delete(NAME, &DeleteParams::default()).await?),
        }
        Ok(())
    }

    async fn change(&self, stage: Stage) -> TestResult {
        if let Some(spec) = stage.changes_to() {
            self.mesh.apply(NAME, spec).await?;
        }
        Ok(())
    }

    /// Waits until what is asked for is there, or has come to nothing where it must.
    async fn ended(&self, stage: Stage) -> Result<(), wait::WaitError> {
        if stage == Stage::Uninstall {
            return self.mesh.wait_gone(NAME).await;
        }
        let (status, reason) = match stage {
            Stage::Rollback => ("False", Some("RolledBack")),
            _ => ("True", None),
        };
        self.mesh.wait_for(NAME, ConditionType::Ready, status, reason).await?;
        if stage == Stage::Canary { self.retired().await } else { Ok(()) }
    }

    /// Waits until the control plane that ran before a canary is gone.
    async fn retired(&self) -> Result<(), wait::WaitError> {
        let istiods = self.mesh.api("apps/v1", "Deployment", Some("istio-system"));
        wait::until(PATIENCE, "the old control plane to go", async || {
            let old = istiods.get_opt("istiod").await.map_err(|error| error.to_string())?;
            let found = self.mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
            let retiring = found.status.and_then(|status| status.version.retiring);
            if old.is_none() && retiring.is_none() { Ok(()) } else { Err(format!("{retiring:?} is retiring")) }
        })
        .await
    }

    /// Makes what follows begin as it does after an undisturbed stage.
    async fn leave(&self, stage: Stage) -> TestResult {
        match stage {
            Stage::Rollback => {
                self.lab.mend_istiod(LAB_1_32_PATCH)?;
                self.mesh.apply(NAME, settled()).await?;
                self.mesh.wait_ready(NAME).await?;
            }
            Stage::Uninstall => self.no_gateways().await?,
            _ => {}
        }
        self.operator.gate.quiet(QUIET).await;
        Ok(())
    }

    /// The namespace of gateways stays when a mesh goes.
    async fn no_gateways(&self) -> TestResult {
        let namespaces: Api<Namespace> = Api::all(self.lab.client());
        namespaces.delete("edge", &DeleteParams::default()).await?;
        wait::until(PATIENCE, "the namespace of gateways to be gone", async || {
            let found = namespaces.get_opt("edge").await.map_err(|error| error.to_string())?;
            found.map_or(Ok(()), |namespace| Err(format!("{:?}", namespace.status)))
        })
        .await?;
        Ok(())
    }
}
