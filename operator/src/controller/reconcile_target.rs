//! Reconciles one revision: plans, writes, measures health, reports status and requeues.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::{ConditionType, Reason, is_true};
use tracing::{error, info, warn};

use super::backoff::{EXTERNAL_RECHECK, RESYNC, backoff, requeue_after};
use super::cluster_scoped::measure_health;
use super::context::Context;
use super::error::ReconcileError;
use super::finalize::UninstallHold;
use super::finalizer::ensure_finalizer;
use super::gateways::replace_uninjected;
use super::injection::injection;
use super::node_ports::{add_gateway_addresses, note_rejections};
use super::outcome::{self, Reconciled, SOON, result_of_class};
use super::owned_objects::record_objects;
use super::peers::{requeue_peers, warn_of_removed_tags};
use super::plan_conflicts::{plan_conflict, report_adoption};
use super::proxies;
use super::report::{StatusUpdate, blocked, publish_reverts, report, report_progress};
use super::resolved_revision::ResolvedRevision;
use super::rollout_causes::{add_rollout_causes, namespace_obstacle};
use super::rollout_target::RolloutTarget;
use super::transition::{RETAINED_POLL, Transition, UpgradeState, completed_rollback, transition};
use super::unrendered::measure_unrendered;
use crate::apply::{ApplyError, ErrorClass};
use crate::mesh::external_ca;
use crate::mesh::health::{Blocker, Health, Injection};
use crate::mesh::object::DesiredObject;
use crate::mesh::observed::ObservedObjects;
use crate::mesh::owned_objects::lookalike_warning;
use crate::mesh::plan::{Applied, Plan, PlanConflict, Prepared, plan};
use crate::mesh::pod_security::warnings;
use crate::mesh::revision::{RevisionRecord, RevisionVerdict};
use crate::mesh::rollup::{ReconcileOutcome, RolloutProgress, blocker_of};
use crate::mesh::tags::ObjectAssignment;
use crate::runtime::metrics::ReconcileResult;

/// Interval during an upgrade, since pods that fail to start are not watched.
const UPGRADE_POLL: Duration = Duration::from_secs(3);
/// Interval while a workload is unavailable, since pods that fail to start are not watched.
const ROLLOUT_POLL: Duration = Duration::from_secs(10);
/// Interval while waiting for a peer, in case its requeue is missed.
const PEER_POLL: Duration = Duration::from_secs(2);

/// One reconcile of one revision.
pub struct Attempt<'a> {
    /// The MeshInstallation as watched.
    pub installation: &'a MeshInstallation,
    /// Clients, caches and helpers.
    pub context: &'a Context,
    /// The revision history, oldest first.
    pub records: &'a [RevisionRecord],
    /// The target that the history selects; `None` for a spec that is not in the history yet.
    pub target: Option<RolloutTarget<'a>>,
    /// The revision to reconcile, with the objects that this installation writes.
    pub accepted: &'a ResolvedRevision,
    /// Objects that belong to peers.
    pub assignment: &'a ObjectAssignment,
    /// Why the revision is not that of the current spec.
    pub stall: Option<Blocker>,
    /// The MeshInstallation is being deleted, but its uninstall has to wait: no new revision starts.
    pub hold: Option<UninstallHold>,
}

impl Attempt<'_> {
    fn name(&self) -> String {
        self.installation.name_any()
    }

    /// Whether the revision has been Ready before.
    fn is_deployed(&self) -> bool {
        let name = self.accepted.inputs.revision_name(&self.name());
        self.records.iter().any(|record| record.name == name && record.verdict == RevisionVerdict::Deployed)
    }

    /// Whether no other revision is marked as deployed, as one may be if only a part of the writes succeeded.
    fn is_only_deployed(&self) -> bool {
        let deployed = self.records.iter().filter(|record| record.verdict == RevisionVerdict::Deployed);
        self.is_deployed() && deployed.count() == 1
    }

    /// Whether writes revert drift, since the rollout of the revision has ended.
    fn reverts_drift(&self, state: Option<&UpgradeState>) -> bool {
        match self.target {
            Some(RolloutTarget::Halted(_)) => true,
            Some(RolloutTarget::RollingBack { .. }) => false,
            _ => self.is_deployed() && state.is_none_or(|state| state.current_step.is_none()),
        }
    }

    /// The outcome to report regardless of the result of the reconcile.
    fn fixed_outcome<'h>(&self, running: Option<&'h Health>) -> Option<ReconcileOutcome<'h>> {
        match (&self.hold, &self.stall) {
            (Some(hold), _) => Some(hold.outcome(running)),
            (None, Some(blocker)) => Some(blocked(blocker.clone(), running)),
            (None, None) => None,
        }
    }

    fn plan(&self, accepted: &ResolvedRevision, live: &ObservedObjects, may_start: bool) -> Plan<Prepared> {
        let (owner, adoption) = (&accepted.validated.owner, self.installation.spec.adoption);
        plan(&accepted.desired, live, owner, &self.context.existing(), may_start, adoption)
    }
}

/// Reconciles a revision as far as is possible without waiting.
pub async fn reconcile_target(attempt: Attempt<'_>) -> Reconciled {
    let Attempt { installation, context, .. } = attempt;
    let name = attempt.name();
    let transition =
        match transition(context, installation, attempt.records, attempt.target.as_ref(), attempt.accepted).await {
            Ok(transition) => transition,
            Err(blocker) => return report_blocked(&attempt, blocker, ErrorClass::Invalid).await,
        };
    let now = Time(Timestamp::now());
    let live = context.inventory.snapshot(&name, &attempt.accepted.all());
    let state = match &transition {
        Some(transition) => Some(transition.state(context, installation, attempt.accepted, &live, &now).await),
        None => None,
    };
    if let (Some(transition), Some(state)) = (&transition, &state)
        && state.failed
    {
        return fail(&attempt, transition, state).await;
    }
    let staged = state.as_ref().and_then(|state| staged(attempt.accepted, state));
    let accepted = staged.as_ref().unwrap_or(attempt.accepted);
    context.inventory.expect(&name, &accepted.all());
    if let Err(error) = context.reader.complete(&name, &accepted.all()).await {
        return report_blocked(&attempt, blocker_of(&error), error.class()).await;
    }
    let live = context.inventory.snapshot(&name, &attempt.assignment.with_peer_objects(&accepted.desired));
    let measured = measured(accepted, transition.as_ref(), &live);
    let (injection, check_due) = injection(context, &name, accepted, &measured, &live);
    let may_start = injection.allows_gateways(&accepted.validated);
    let before = attempt.assignment.without_retained(&live);
    let mut prepared = attempt.plan(accepted, &before, may_start);
    if installation.spec.paused {
        return paused(attempt, accepted, &prepared, &live, (&injection, check_due), state).await;
    }
    if let Some(conflict) = prepared.conflicts.first() {
        return report_conflict(&attempt, accepted, &live, &injection, &prepared, conflict).await;
    }
    ensure_finalizer(installation, context).await?;
    let is_current = matches!(attempt.target, None | Some(RolloutTarget::Current(_)));
    let is_accepted = is_current && attempt.stall.is_none() && attempt.hold.is_none();
    let accepted_inputs = is_accepted.then_some(&attempt.accepted.inputs);
    record_objects(context, installation, &attempt.assignment.keys(), accepted_inputs).await?;
    let throttled = context.cache.throttle_conflicts(&mut prepared);
    let applied = context.applier.apply(&name, prepared).await;
    context.cache.record_writes(&applied);
    report_adoption(context, installation, &applied);
    warn_of_removed_tags(context, installation, &applied, &before).await;
    if !attempt.assignment.moving_tags.is_empty() && !applied.state.written.is_empty() {
        requeue_peers(installation, context);
    }
    finish(attempt, accepted, &applied, throttled, transition.as_ref(), state).await
}

/// The revision with the objects desired in the current step, unless all of them are.
fn staged(accepted: &ResolvedRevision, state: &UpgradeState) -> Option<ResolvedRevision> {
    let retained = state.retained.as_ref().map(|(_, desired)| desired);
    let desired =
        state.current_step.as_ref().map(|current_step| &current_step.desired).or(retained).filter(|_| !state.forced)?;
    Some(ResolvedRevision { desired: desired.clone(), ..accepted.clone() })
}

/// The objects that decide about health: those of the revision, without retained ones of another.
fn measured(
    accepted: &ResolvedRevision,
    transition: Option<&Transition>,
    live: &ObservedObjects,
) -> Vec<Arc<DesiredObject>> {
    transition.map_or_else(|| accepted.desired.clone(), |transition| transition.of_target(&accepted.desired, live))
}

/// Marks the revision as failed, since a step exceeded its deadline or can't succeed. The next reconcile handles that.
async fn fail(attempt: &Attempt<'_>, transition: &Transition, state: &UpgradeState) -> Reconciled {
    let name = attempt.name();
    let record = attempt.accepted.inputs.revision_name(&name);
    let reported = attempt.installation.status.as_ref().and_then(|status| status.upgrade.as_ref()?.message.clone());
    let cause = match &state.current_step {
        // Only the last attempt to write has seen the API server's rejection.
        Some(current_step) if current_step.blocker.reason == Reason::Applying => {
            reported.unwrap_or(current_step.blocker.message.clone())
        }
        Some(current_step) => {
            diagnose(attempt, transition, state).await.unwrap_or(current_step.blocker.message.clone())
        }
        None => reported.unwrap_or_default(),
    };
    let Some(progress) = &state.progress else { return Ok((ReconcileResult::Waiting, Action::requeue(SOON))) };
    let failure = match &state.current_step {
        Some(current_step) if current_step.cannot_succeed => format!("step {} failed: {cause}", progress.step),
        _ => format!("step {} did not complete within {:#}: {cause}", progress.step, progress.limit),
    };
    warn!(installation = name, record, failure, "the rollout failed");
    let revisions = &attempt.context.revision_history;
    revisions
        .set_verdict(&name, &record, RevisionVerdict::Failed, Some(&failure))
        .await
        .map_err(ReconcileError::RevisionHistory)?;
    Ok((ReconcileResult::Waiting, Action::requeue(SOON)))
}

/// What a step waits for, with the reason why its pods do not start.
async fn diagnose(attempt: &Attempt<'_>, transition: &Transition, state: &UpgradeState) -> Option<String> {
    let current_step = state.current_step.as_ref()?;
    if current_step.blocker.reason != Reason::WaitingForRollout {
        return None;
    }
    let obstacle = namespace_obstacle(attempt.context, &attempt.name(), attempt.accepted, &current_step.step);
    if obstacle.is_some() {
        return obstacle;
    }
    let since = state.step_started_at(attempt.installation);
    for workload in transition.rolled_out_by(current_step) {
        if let Some(cause) = attempt.context.pod_diagnostics.of(&workload, since).await {
            return Some(format!("{}; {cause}", current_step.blocker.message));
        }
    }
    None
}

/// Measures health after the writes, reports status, updates the revision history and requeues.
async fn finish(
    attempt: Attempt<'_>,
    accepted: &ResolvedRevision,
    applied: &Plan<Applied>,
    throttled: Option<Duration>,
    transition: Option<&Transition>,
    state: Option<UpgradeState>,
) -> Reconciled {
    let Attempt { context, .. } = attempt;
    let (name, is_deployed) = (attempt.name(), attempt.is_deployed());
    let live = context.inventory.snapshot(&name, &attempt.assignment.with_peer_objects(&accepted.desired));
    let measured = measured(accepted, transition, &live);
    let all = attempt.assignment.with_peer_objects(&measured);
    let (injection, check_due) = self::injection(context, &name, accepted, &measured, &live);
    let mut health = measure_health(accepted, &all, &live, &injection);
    health.retiring = state.as_ref().and_then(|state| state.retained.as_ref().map(|(revision, _)| revision.clone()));
    replace_uninjected(context, &name, accepted, &live, &injection, &mut health).await;
    let has_step = state.as_ref().is_some_and(|state| state.current_step.is_some());
    add_rollout_causes(context, &name, &measured, &live, has_step, &mut health).await;
    health.blockers.extend(context.cache.drift_loop(&accepted.desired));
    applied.failed_add_ons().for_each(|(add_on, error)| health.add_add_on_failure(add_on, &error.to_string()));
    let namespaces = context.detector.restricted_namespaces(is_deployed).await;
    let gateway_api = context.gateway_api.warning(&accepted.inputs.version);
    let lookalikes = lookalike_warning(&name, &context.inventory.lookalikes(&name));
    let others = health.obstacle_warnings().chain(gateway_api).chain(lookalikes).collect::<Vec<_>>();
    health.warnings = namespaces.map(|found| warnings(&accepted.validated, &found).into_iter().chain(others).collect());
    add_gateway_addresses(context, &mut health, &live).await;
    let class = applied.state.failures.iter().map(ApplyError::class).next();
    for error in &applied.state.failures {
        error!(installation = name, error = %error, "writing an object failed");
    }
    if note_rejections(context, &name, &applied.state.failures) && context.cache.count_failure(&name) == 1 {
        // A Service took the port, or the range has changed: the next reconcile assigns again, or reports the conflict.
        return Ok((ReconcileResult::Conflict, Action::requeue(SOON)));
    }
    let own_objects = attempt.assignment.without_retained(&live);
    let has_pending_writes = !attempt.plan(accepted, &own_objects, true).is_settled();
    let resync = resync(&attempt, &health, state.as_ref());
    let ca = certificate_authority(&attempt, accepted, &health).await;
    if attempt.reverts_drift(state.as_ref()) {
        publish_reverts(context, attempt.installation, applied);
    }
    let is_complete = state.as_ref().is_none_or(|state| state.current_step.is_none());
    proxies::compare_configuration(context, &name, accepted, is_complete, health.is_ready());
    let update = report_status(&attempt, applied, &health, transition, state.as_ref(), ca).await;
    let ready = is_complete && attempt.stall.is_none() && is_true(&update.status.conditions, ConditionType::Ready);
    // Ready stays Unknown while an uninstall waits.
    let held_ready = attempt.hold.is_some() && is_complete && health.is_ready() && !has_pending_writes;
    if (ready || held_ready) && !attempt.is_only_deployed() {
        let record = attempt.accepted.inputs.revision_name(&name);
        context.revision_history.mark_deployed(&name, &record).await.map_err(ReconcileError::RevisionHistory)?;
        info!(installation = name, version = %attempt.accepted.inputs.version, "ready");
    }
    if let Some(RolloutTarget::RollingBack { from, to }) = attempt.target
        && (is_complete || state.as_ref().is_some_and(|state| state.forced))
        && health.is_ready_but_for_check()
        && !has_pending_writes
    {
        let written = context.revision_history.set_verdict(&name, &from.name, RevisionVerdict::RolledBack, None).await;
        written.map_err(ReconcileError::RevisionHistory)?;
        info!(installation = name, version = %to.inputs.version, "rolled back");
        return Ok((ReconcileResult::Changed, Action::requeue(SOON)));
    }
    let version = attempt.accepted.inputs.version.to_string();
    let proxies_due = if ready && attempt.hold.is_none() {
        proxies::update(context, attempt.installation, &version).await
    } else {
        proxies::suspend(context, attempt.installation);
        None
    };
    if let Some(class) = class {
        let delay = backoff(class, context.cache.count_failure(&name), &name);
        return Ok((result_of_class(class), Action::requeue(delay.min(resync))));
    }
    let wrote = !applied.state.written.is_empty();
    let result = match (wrote, has_pending_writes || !health.is_ready()) {
        (_, true) => ReconcileResult::Waiting,
        (true, false) => ReconcileResult::Changed,
        (false, false) => ReconcileResult::Unchanged,
    };
    // Pending writes are unmanaged fields to remove, deletions not observed yet, or the next step.
    let delay = match throttled {
        Some(throttled) => throttled.min(check_due).min(resync),
        None if wrote && (has_pending_writes || state.is_some()) => SOON,
        None if attempt.assignment.waits_for_peer(&live) => check_due.min(resync).min(PEER_POLL),
        None => check_due.min(resync),
    };
    Ok((result, update.requeue(proxies_due.map_or(delay, |due| due.min(delay)))))
}

/// When to reconcile again if no watch triggers.
fn resync(attempt: &Attempt<'_>, health: &Health, state: Option<&UpgradeState>) -> Duration {
    let blockers = attempt.stall.iter().chain(&health.blockers);
    let usual = blockers.map(|blocker| requeue_after(blocker.reason)).min().unwrap_or(RESYNC);
    let rolls_out = health.blockers.iter().any(|blocker| blocker.reason == Reason::WaitingForRollout)
        || !health.unready_add_ons.is_empty();
    let usual = if rolls_out { usual.min(ROLLOUT_POLL) } else { usual };
    let usual = attempt.hold.as_ref().map_or(usual, |hold| usual.min(hold.recheck));
    let Some(state) = state else { return usual };
    if state.progress.is_none() {
        return usual.min(RETAINED_POLL);
    }
    let left = state.time_left(attempt.installation, &Time(Timestamp::now()));
    // Slightly later than the deadline, so that it has passed by then.
    let left = left.filter(|left| !left.is_zero());
    left.map_or(UPGRADE_POLL, |left| UPGRADE_POLL.min(left + SOON)).min(usual)
}

async fn report_status(
    attempt: &Attempt<'_>,
    applied: &Plan<Applied>,
    health: &Health,
    transition: Option<&Transition>,
    state: Option<&UpgradeState>,
    ca: Option<meshwright_api::CaStatus>,
) -> StatusUpdate {
    let Attempt { installation, context, target, .. } = attempt;
    let is_rollback = matches!(target, Some(RolloutTarget::RollingBack { .. }));
    let mut progress = state.and_then(|state| state.progress.clone());
    if let (Some(transition), Some(state), Some(progress)) = (transition, state, &mut progress) {
        if let Some(message) = diagnose(attempt, transition, state).await {
            progress.message = message;
        }
        if let Some(error) = applied.failure() {
            progress.message = error.to_string();
        }
    }
    let progress = progress.or_else(|| target.as_ref().and_then(|target| completed_rollback(installation, target)));
    let version = &attempt.accepted.inputs.version;
    let in_progress = state.filter(|state| is_rollback || state.current_step.is_some());
    let in_progress = in_progress.and_then(|state| Some((state, state.progress.as_ref()?)));
    let outcome = match (attempt.fixed_outcome(Some(health)), in_progress) {
        (Some(outcome), _) => outcome,
        (None, Some((state, current))) => ReconcileOutcome::InProgress {
            plan: applied,
            health,
            version,
            rollout: RolloutProgress {
                rolling_back: is_rollback,
                deadline_exceeded: state.forced,
                step: current.step.to_string(),
                from: current.run.from.clone(),
                blocker: step_blocker(state, progress.as_ref().map(|progress| progress.message.as_str())),
            },
        },
        (None, None) => {
            ReconcileOutcome::Reconciled { plan: applied, health, version, was_ready: attempt.is_deployed() }
        }
    };
    report_progress(context, installation, outcome, ca, progress).await
}

/// What the current step waits for. For the clean-up, plan and health show it.
fn step_blocker(state: &UpgradeState, message: Option<&str>) -> Option<Blocker> {
    let current_step = state.current_step.as_ref()?;
    let message = message.unwrap_or(&current_step.blocker.message).to_owned();
    Some(Blocker { reason: current_step.blocker.reason, message })
}

/// Reads the mesh's root certificate when the mesh is ready, and periodically after that, since it can be replaced.
async fn certificate_authority(
    attempt: &Attempt<'_>,
    accepted: &ResolvedRevision,
    health: &Health,
) -> Option<meshwright_api::CaStatus> {
    let known = attempt.installation.status.as_ref().is_some_and(|status| status.ca.is_some());
    if !health.is_ready() || (!attempt.context.cache.ca_is_due(&attempt.name()) && known) {
        return None;
    }
    let is_external = external_ca::is_external(&accepted.desired);
    attempt.context.reader.certificate_authority(&accepted.validated.namespace, is_external).await
}

async fn report_blocked(attempt: &Attempt<'_>, blocker: Blocker, class: ErrorClass) -> Reconciled {
    if let Some(hold) = &attempt.hold {
        let running = measure_unrendered(attempt.context, attempt.installation);
        let update = report(attempt.context, attempt.installation, hold.outcome(running.as_ref()), None).await;
        return Ok((result_of_class(class), update.requeue(hold.recheck)));
    }
    outcome::report_blocked(attempt.installation, attempt.context, blocker, attempt.is_deployed(), class).await
}

async fn paused(
    attempt: Attempt<'_>,
    accepted: &ResolvedRevision,
    prepared: &Plan<Prepared>,
    live: &ObservedObjects,
    (injection, check_due): (&Injection, Duration),
    state: Option<UpgradeState>,
) -> Reconciled {
    let all = attempt.assignment.with_peer_objects(&accepted.desired);
    let mut health = measure_health(accepted, &all, live, injection);
    add_rollout_causes(attempt.context, &attempt.name(), &accepted.desired, live, false, &mut health).await;
    add_gateway_addresses(attempt.context, &mut health, live).await;
    let is_complete = state.as_ref().is_none_or(|state| state.current_step.is_none());
    let applied = is_complete && attempt.stall.is_none() && prepared.is_settled() && prepared.conflicts.is_empty();
    let version = &attempt.accepted.inputs.version;
    let hold_recheck = attempt.hold.as_ref().map(|hold| hold.recheck);
    let outcome =
        attempt.fixed_outcome(Some(&health)).unwrap_or(ReconcileOutcome::Paused { applied, health: &health, version });
    // Status keeps showing an upgrade that has started; its deadline does not run.
    let started = attempt.target.is_some();
    let progress = state.and_then(|state| state.progress).filter(|_| started);
    let update = report_progress(attempt.context, attempt.installation, outcome, None, progress).await;
    let recheck = hold_recheck.unwrap_or(if health.is_ready() { RESYNC } else { ROLLOUT_POLL });
    Ok((ReconcileResult::Unchanged, update.requeue(recheck.min(check_due))))
}

/// Reports a conflict. Nothing is written while the plan has one.
async fn report_conflict(
    attempt: &Attempt<'_>,
    accepted: &ResolvedRevision,
    live: &ObservedObjects,
    injection: &Injection,
    prepared: &Plan<Prepared>,
    conflict: &PlanConflict,
) -> Reconciled {
    let Attempt { installation, context, .. } = attempt;
    let all = attempt.assignment.with_peer_objects(&accepted.desired);
    let mut health = measure_health(accepted, &all, live, injection);
    add_gateway_addresses(context, &mut health, live).await;
    let running = attempt.is_deployed().then_some(&health);
    if let PlanConflict::NamespaceTerminating(namespace) = conflict {
        let permissions = if *namespace == accepted.validated.namespace {
            ". It contains Roles of the operator; recreate them with meshwright rbac | kubectl apply --server-side -f -"
        } else {
            ""
        };
        let message = format!("Namespace {namespace} is terminating and will be recreated{permissions}");
        let blocker = Blocker { reason: Reason::NamespaceTerminating, message };
        let usual = ReconcileOutcome::Blocked { blocker, was_ready: attempt.is_deployed(), running };
        let outcome = attempt.hold.as_ref().map_or(usual, |hold| hold.outcome(running));
        let update = report(context, installation, outcome, None).await;
        return Ok((ReconcileResult::Waiting, update.requeue(Duration::from_secs(2))));
    }
    let conflict = || plan_conflict(prepared).map(|blocker| blocked(blocker, running));
    let Some(outcome) = attempt.fixed_outcome(running).or_else(conflict) else {
        return Ok((ReconcileResult::Waiting, Action::requeue(SOON)));
    };
    let update = report(context, installation, outcome, None).await;
    // Unmanaged resources are not watched.
    let recheck = attempt.hold.as_ref().map_or(EXTERNAL_RECHECK, |hold| hold.recheck);
    Ok((ReconcileResult::Invalid, update.requeue(recheck)))
}
