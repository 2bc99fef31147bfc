//! An upgrade or rollback in progress: its current step, and what happens when a step exceeds its deadline.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use meshwright_api::conditions::Reason;
use meshwright_api::{MeshInstallation, OnFailure, UpgradeDirection, UpgradeOutcome, UpgradeStatus, UpgradeStep};
use semver::Version;
use tracing::warn;

use super::cluster_scoped::drop_cluster_scoped;
use super::context::Context;
use super::injection::injection;
use super::peers::split_shared_objects;
use super::proxies::listed_users;
use super::resolve::resolve_record;
use super::resolved_revision::ResolvedRevision;
use super::rollout_target::{RolloutTarget, last_known_good, may_be_live, previous_records};
use crate::mesh::health::{Blocker, RetiringRevision, other_control_planes};
use crate::mesh::kind::Kind;
use crate::mesh::object::DesiredObject;
use crate::mesh::observed::{ObjectState, ObservedObjects};
use crate::mesh::revision::{RevisionRecord, RevisionVerdict};
use crate::mesh::upgrade::{
    ConfigurationOrder, CurrentStep, RolloutStep, UpgradePlan, UpgradeProgress, UpgradeRun, current_step, direction,
    has_ready_istiod, is_down, is_same_release,
};

/// Interval while a previous control plane is retained.
pub const RETAINED_POLL: Duration = Duration::from_secs(10);

/// An upgrade or rollback between two revisions.
pub struct Transition {
    run: UpgradeRun,
    plan: UpgradePlan,
    limit: SignedDuration,
    on_deadline: OnDeadline,
    /// All that remains is the deletion of a previous control plane.
    is_deployed: bool,
    /// Revisions that live objects may belong to, with their verdicts.
    sources: Vec<(RevisionVerdict, Arc<ResolvedRevision>)>,
    /// How long an unused previous control plane is retained.
    retirement: SignedDuration,
}

/// What happens when a step exceeds its deadline.
#[derive(Clone, Copy, PartialEq)]
enum OnDeadline {
    /// Keep waiting, since there is no revision to roll back to.
    Wait,
    /// Mark the revision as failed.
    Fail,
    /// During a rollback: apply all remaining steps at once.
    ForceApply,
    /// The rollout has failed and stays at its last step.
    Hold,
}

/// The state of an upgrade or rollback.
pub struct UpgradeState {
    /// The step in progress; `None` during the clean-up.
    pub current_step: Option<CurrentStep>,
    /// Progress for status; `None` if the revision is deployed.
    pub progress: Option<UpgradeProgress>,
    /// During the clean-up: a retained control plane, and the desired objects including its own.
    pub retained: Option<(RetiringRevision, Vec<Arc<DesiredObject>>)>,
    /// The step exceeded its deadline or can't succeed, so that the revision is to be marked as failed.
    pub failed: bool,
    /// A rollback step exceeded its deadline, so that all remaining steps are applied.
    pub forced: bool,
}

/// The transition to a revision; `None` if it is deployed, or if there is no previous revision.
pub async fn transition(
    context: &Context,
    installation: &MeshInstallation,
    records: &[RevisionRecord],
    target: Option<&RolloutTarget<'_>>,
    accepted: &ResolvedRevision,
) -> Result<Option<Transition>, Blocker> {
    let name = installation.name_any();
    let record = accepted.inputs.revision_name(&name);
    let is_deployed = match target {
        None | Some(RolloutTarget::RollingBack { .. } | RolloutTarget::Halted(_)) => false,
        Some(RolloutTarget::Current(record)) => record.verdict == RevisionVerdict::Deployed,
        Some(RolloutTarget::RolledBack { .. }) => true,
    };
    let others = previous_records(records, &record);
    let mut live = context.inventory.snapshot(&name, &[]);
    drop_cluster_scoped(context, &mut live);
    let is_alone = other_control_planes(&accepted.desired, &live).next().is_none();
    if others.is_empty() || (is_deployed && is_alone) {
        context.cache.retain_render(&name, accepted);
        return Ok(None);
    }
    let mut sources: Vec<(RevisionVerdict, Arc<ResolvedRevision>)> = Vec::with_capacity(others.len());
    let mut live_sources: Vec<Arc<ResolvedRevision>> = Vec::new();
    for other in &others {
        match resolve_record(context, installation, other).await {
            Ok(source) => match split_shared_objects(context, installation, &source) {
                Ok((own, _)) => {
                    let own = Arc::new(own);
                    live_sources.extend(may_be_live(records, other).then(|| Arc::clone(&own)));
                    sources.push((other.verdict, own));
                }
                Err(error) => warn!(installation = name, record = other.name, error = %error, "ignoring a revision"),
            },
            // A pull finishes soon. Revisions that can't be resolved at all are ignored.
            Err(blocker) if blocker.reason == Reason::PullingRelease => return Err(blocker),
            Err(blocker) => {
                warn!(installation = name, record = other.name, error = blocker.message, "ignoring a revision");
            }
        }
    }
    let Some(from) = others.first().map(|other| other.inputs.version.clone()) else { return Ok(None) };
    let to = accepted.inputs.version.clone();
    let direction = match target {
        Some(RolloutTarget::RollingBack { .. }) => UpgradeDirection::Rollback,
        _ => chosen_direction(context, installation, records, &to, &record),
    };
    let known: Vec<&[Arc<DesiredObject>]> = sources.iter().map(|(_, source)| source.desired.as_slice()).collect();
    let was_deployed = sources.first().is_some_and(|(verdict, _)| *verdict == RevisionVerdict::Deployed);
    let live_sources: Vec<&[Arc<DesiredObject>]> =
        live_sources.iter().map(|source| source.desired.as_slice()).collect();
    let mut live_records = others.iter().filter(|other| may_be_live(records, other));
    let same_release =
        live_records.all(|other| other.inputs.version == to) && is_same_release(&accepted.desired, &live_sources);
    let away_for = context.cache.istiod_away_for(&name, has_ready_istiod(&live));
    // A halted upgrade goes no further, not even if istiod is down.
    let is_down = !matches!(target, Some(RolloutTarget::Halted(_))) && is_down(&live, away_for);
    let order = ConfigurationOrder::new(direction, same_release, is_down);
    let plan = UpgradePlan::new(direction, order, &accepted.desired, &known, was_deployed)
        .map_err(|error| Blocker { reason: Reason::RenderFailed, message: error.to_string() })?;
    // The failed revision's deadline applies to its rollback, too.
    let upgrade = match target {
        Some(RolloutTarget::RollingBack { from, .. }) => &from.inputs.spec.upgrade,
        _ => &accepted.inputs.spec.upgrade,
    };
    let on_deadline = match target {
        Some(RolloutTarget::RollingBack { .. }) => OnDeadline::ForceApply,
        Some(RolloutTarget::Halted(_)) => OnDeadline::Hold,
        _ if upgrade.on_failure == OnFailure::Halt || last_known_good(records).is_some() => OnDeadline::Fail,
        _ => OnDeadline::Wait,
    };
    let from = match target {
        Some(RolloutTarget::RollingBack { from, .. }) => from.inputs.version.clone(),
        _ => from,
    };
    let run = UpgradeRun { from, to, direction, controller_revision: record };
    let (limit, retirement) = (upgrade.deadline(), upgrade.retirement());
    Ok(Some(Transition { run, plan, limit, on_deadline, is_deployed, sources, retirement }))
}

/// The direction of a transition: the one in status once it has started.
fn chosen_direction(
    context: &Context,
    installation: &MeshInstallation,
    records: &[RevisionRecord],
    to: &Version,
    record: &str,
) -> UpgradeDirection {
    let started = upgrade_status(installation)
        .filter(|upgrade| upgrade.controller_revision == record && upgrade.outcome.is_none());
    if let Some(started) = started {
        return started.direction;
    }
    let deployed = last_known_good(records).map(|good| &good.inputs.version);
    let abandons_newer = records
        .iter()
        .any(|other| other.name != record && other.verdict == RevisionVerdict::Pending && other.inputs.version > *to);
    direction(to, &context.inventory.snapshot(&installation.name_any(), &[]), deployed, abandons_newer)
}

fn upgrade_status(installation: &MeshInstallation) -> Option<&UpgradeStatus> {
    installation.status.as_ref().and_then(|status| status.upgrade.as_ref())
}

impl Transition {
    /// The current state, from the live objects.
    pub async fn state(
        &self,
        context: &Context,
        installation: &MeshInstallation,
        accepted: &ResolvedRevision,
        live: &ObservedObjects,
        now: &Time,
    ) -> UpgradeState {
        let name = installation.name_any();
        let status = upgrade_status(installation).filter(|upgrade| {
            upgrade.controller_revision == self.run.controller_revision && upgrade.direction == self.run.direction
        });
        let is_halted = self.on_deadline == OnDeadline::Hold;
        let furthest = if is_halted {
            status.map(|upgrade| RolloutStep { name: upgrade.step, gateway: upgrade.gateway.clone() })
        } else {
            self.run.step_in_status(status)
        };
        let injection = |desired: &[Arc<DesiredObject>]| injection(context, &name, accepted, desired, live).0;
        if self.is_deployed {
            let retained = self.retained(context, installation, live).await;
            return UpgradeState { current_step: None, progress: None, retained, failed: false, forced: false };
        }
        let mut current = current_step(&self.plan, live, injection, furthest.as_ref());
        if is_halted {
            current = Some(self.halted_step(current, furthest.as_ref(), live));
        }
        let step = current.as_ref().map_or_else(|| UpgradeStep::CleanUp.into(), |current| current.step.clone());
        let progressed_at = current.as_ref().and_then(|current| {
            let ready = self.ready_pods(current, live);
            context.cache.step_progress(&name, (&self.run.controller_revision, &step), ready, now)
        });
        let restarted = progressed_at.as_ref().is_some_and(|at| now.0.duration_since(at.0) < self.limit);
        let is_overdue = current.is_some()
            && !restarted
            && self.run.time_left(status, &step, now).is_some_and(|left| left <= SignedDuration::ZERO);
        let message = current.as_ref().map(|current| current.blocker.message.clone()).unwrap_or_default();
        let progress = UpgradeProgress {
            run: self.run.clone(),
            step,
            limit: self.limit,
            progressed_at,
            message,
            outcome: is_halted.then_some(UpgradeOutcome::Halted),
            paused: installation.spec.paused,
        };
        let is_overdue = is_overdue && !installation.spec.paused;
        let cannot_succeed =
            current.as_ref().is_some_and(|current| current.cannot_succeed) && !installation.spec.paused;
        let retained = if current.is_none() { self.retained(context, installation, live).await } else { None };
        UpgradeState {
            current_step: current,
            progress: Some(progress),
            retained,
            failed: (is_overdue || cannot_succeed) && self.on_deadline == OnDeadline::Fail,
            forced: is_overdue && self.on_deadline == OnDeadline::ForceApply,
        }
    }

    /// How many pods of the current template are ready in the workloads of a step.
    fn ready_pods(&self, current: &CurrentStep, live: &ObservedObjects) -> i32 {
        let ready = |desired: &Arc<DesiredObject>| {
            // Before the update has been observed, status counts pods of the old template.
            let live = live.get(&desired.key).filter(|live| self.plan.is_updated(desired, live))?;
            match &live.state {
                ObjectState::Workload(workload) if workload.observed => Some(workload.ready()),
                _ => None,
            }
        };
        self.plan.objects_of_step(current.index).filter_map(ready).sum()
    }

    /// The previous control plane, until it has been unused for the retirement period.
    async fn retained(
        &self,
        context: &Context,
        installation: &MeshInstallation,
        live: &ObservedObjects,
    ) -> Option<(RetiringRevision, Vec<Arc<DesiredObject>>)> {
        let at = self.plan.leftover_source(live)?;
        let (verdict, source) = self.sources.get(at)?;
        let revision = source.validated.revision.label().to_owned();
        let name = installation.name_any();
        let own = context.inventory.workload_names(&name);
        let pods = context.proxies.count_users(std::slice::from_ref(&revision), &own);
        let retained = RetiringRevision { revision, pods };
        // A revision that was never deployed is only retained while pods use it.
        let was_deployed = matches!(verdict, RevisionVerdict::Deployed | RevisionVerdict::Superseded);
        let grace = if was_deployed { self.retirement } else { SignedDuration::ZERO };
        let unused = context.cache.unused_for(&name, &retained);
        let expired = unused.is_some_and(|unused| SignedDuration::try_from(unused).is_ok_and(|unused| unused >= grace));
        // While the MeshInstallation is paused, nothing is deleted.
        let retained = if expired && !installation.spec.paused {
            listed_users(context, &name, &retained.revision, RETAINED_POLL).await
        } else {
            retained
        };
        let is_unused = expired && retained.pods == Some(0);
        (!is_unused).then(|| (retained, self.plan.retained(at, live)))
    }

    /// The objects that decide about injection: those of the target, without retained ones of the source.
    #[must_use]
    pub fn of_target(&self, desired: &[Arc<DesiredObject>], live: &ObservedObjects) -> Vec<Arc<DesiredObject>> {
        self.plan.target_objects(desired, live)
    }

    /// The step of a halted rollout, which does not proceed even if the cause of the failure is gone.
    fn halted_step(
        &self,
        found: Option<CurrentStep>,
        furthest: Option<&RolloutStep>,
        live: &ObservedObjects,
    ) -> CurrentStep {
        let index = furthest.and_then(|step| self.plan.steps.iter().position(|of| of == step));
        let last = self.plan.steps.len().saturating_sub(1);
        let at = index.or_else(|| found.as_ref().map(|found| found.index)).unwrap_or(last);
        let step = self.plan.steps.get(at).cloned().unwrap_or_else(|| UpgradeStep::Crds.into());
        let blocker = found.map_or_else(
            || Blocker { reason: Reason::Halted, message: "the step is complete in the meantime".into() },
            |found| found.blocker,
        );
        CurrentStep { index: at, step, blocker, cannot_succeed: false, desired: self.plan.desired(at, live) }
    }

    /// The workloads that a step rolls out.
    pub fn rolled_out_by(&self, step: &CurrentStep) -> Vec<Arc<DesiredObject>> {
        let objects = self.plan.objects_of_step(step.index);
        objects.filter(|d| matches!(d.key.kind, Kind::Deployment | Kind::DaemonSet)).map(Arc::clone).collect()
    }
}

impl UpgradeState {
    /// The start of the current step according to status; `None` if status does not show the step yet.
    pub fn step_started_at(&self, installation: &MeshInstallation) -> Option<Timestamp> {
        let status = upgrade_status(installation);
        let progress = self.progress.as_ref()?;
        let is_reported = progress.run.step_in_status(status).as_ref() == Some(&progress.step);
        status.filter(|_| is_reported).map(|upgrade| upgrade.step_started_at.0)
    }

    /// The time until the step's deadline, from its start in status.
    pub fn time_left(&self, installation: &MeshInstallation, now: &Time) -> Option<std::time::Duration> {
        let progress = self.progress.as_ref()?;
        let left = progress.run.time_left(upgrade_status(installation), &progress.step, now)?;
        Some(left.max(SignedDuration::ZERO).unsigned_abs())
    }
}

/// The progress of a completed rollback.
pub fn completed_rollback(installation: &MeshInstallation, target: &RolloutTarget<'_>) -> Option<UpgradeProgress> {
    let RolloutTarget::RolledBack { to, from } = target else { return None };
    let status = upgrade_status(installation)
        .filter(|upgrade| upgrade.controller_revision == to.name && upgrade.direction == UpgradeDirection::Rollback);
    let step = status.map_or_else(
        || UpgradeStep::CleanUp.into(),
        |upgrade| RolloutStep { name: upgrade.step, gateway: upgrade.gateway.clone() },
    );
    let run = UpgradeRun {
        from: from.inputs.version.clone(),
        to: to.inputs.version.clone(),
        direction: UpgradeDirection::Rollback,
        controller_revision: to.name.clone(),
    };
    Some(UpgradeProgress {
        run,
        step,
        limit: SignedDuration::ZERO,
        progressed_at: None,
        message: from.failure.clone().unwrap_or_default(),
        outcome: Some(UpgradeOutcome::RolledBack),
        paused: false,
    })
}
