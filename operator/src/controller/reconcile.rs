//! One reconcile. It never waits: a reconcile that has to wait reports that in status and returns, and a watch or a
//! requeue starts the next one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::Reason;
use tracing::{debug, error};

use super::Watched;
use super::backoff::{backoff, requeue_after};
use super::context::Context;
use super::error::ReconcileError;
use super::finalize::{Finalized, UninstallHold, finalize};
use super::outcome::{Reconciled, SOON, report_blocked, report_stalled, result_of_class};
use super::owned_objects::identify_objects;
use super::peers::{peer_conflict, peer_set, requeue_peers, split_shared_objects};
use super::preflight::preflight;
use super::reconcile_target::{Attempt, reconcile_target};
use super::releases::is_transient;
use super::report::report;
use super::resolve::{platform, resolve, resolve_record};
use super::rollout_target::RolloutTarget;
use super::unreadable::report_unreadable;
use super::unrendered::measure_unrendered;
use crate::apply::ErrorClass;
use crate::mesh::health::Blocker;
use crate::mesh::renamed_fields;
use crate::mesh::revision::{RevisionRecord, RevisionVerdict};
use crate::mesh::rollup::{ReconcileOutcome, reason_of};
use crate::mesh::upgrade::has_ready_istiod;
use crate::runtime::metrics::ReconcileResult;

/// After this many failed reconciles in a row, an error that may pass is reported in status.
const UNREPORTED_FAILURES: u32 = 2;
/// Interval for an installation that waits for the deletion of a peer, which does not requeue it.
const PEER_RECHECK: Duration = Duration::from_secs(10);

/// Reconciles one MeshInstallation, and counts the result.
pub async fn reconcile(watched: Arc<Watched>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let started = Instant::now();
    let running = context.changes.progress().reconcile();
    let installation = match &watched.0 {
        Ok(installation) => installation,
        Err(unreadable) => {
            report_unreadable(&context, &watched, unreadable).await;
            return Err(ReconcileError::Unreadable(ObjectRef::from_obj(watched.as_ref())));
        }
    };
    let current = context.cache.unwritten.apply_to(installation);
    let installation: &MeshInstallation = &current;
    // The future is large, and moving it would copy it on the stack.
    let reconciled = running.run(Box::pin(reconcile_once(installation, &context))).await;
    let result = match &reconciled {
        // Metrics count a failed status write, which stops nothing else.
        Ok((result, _)) => {
            let class = context.cache.unwritten.error_class(&installation.name_any());
            class.map_or(*result, result_of_class)
        }
        Err(error) => result_of_class(error.class()),
    };
    context.metrics.count_reconcile(result, started.elapsed());
    if let Err(error) = &reconciled {
        report_failure(installation, &context, error).await;
    }
    let (result, action) = reconciled?;
    if !matches!(result, ReconcileResult::Transient | ReconcileResult::Conflict | ReconcileResult::Forbidden) {
        context.cache.clear_failures(&installation.name_any());
    }
    Ok(action)
}

/// Reports an error in status if a user has to act, or if it lasts. Others are only logged.
async fn report_failure(installation: &MeshInstallation, context: &Context, error: &ReconcileError) {
    let may_pass = matches!(error.class(), ErrorClass::Transient | ErrorClass::Conflict);
    if may_pass && context.cache.failures(&installation.name_any()) < UNREPORTED_FAILURES {
        return;
    }
    let blocker = Blocker { reason: reason_of(error.class()), message: error.to_string() };
    let health = measure_unrendered(context, installation);
    let running = health.as_ref();
    let outcome = if installation.metadata.deletion_timestamp.is_some() {
        ReconcileOutcome::Uninstalling { blocker, in_use: None, running }
    } else {
        ReconcileOutcome::Blocked { blocker, was_ready: false, running }
    };
    report(context, installation, outcome, None).await;
}

/// Decides when a failed reconcile is retried.
#[allow(clippy::needless_pass_by_value, reason = "the controller's signature")]
pub fn on_error(watched: Arc<Watched>, failure: &ReconcileError, context: Arc<Context>) -> Action {
    let name = watched.name_any();
    if matches!(failure, ReconcileError::Unreadable(_)) {
        error!(installation = name, error = %failure, "ignored until it changes");
        return Action::await_change();
    }
    let delay = backoff(failure.class(), context.cache.count_failure(&name), &name);
    error!(installation = name, error = %failure, retry_in = ?delay, "reconcile failed");
    Action::requeue(delay)
}

async fn reconcile_once(installation: &MeshInstallation, context: &Context) -> Reconciled {
    let name = installation.name_any();
    if let Some((kind, None)) = context.inventory.unsynced().first()
        && context.inventory.unsynced().iter().all(|(_, error)| error.is_none())
    {
        debug!(installation = name, %kind, "waiting for the first lists");
        return Ok((ReconcileResult::Waiting, Action::requeue(SOON)));
    }
    if let Some(outcome) = watch_failure(context) {
        report(context, installation, outcome, None).await;
        let delay = backoff(ErrorClass::Transient, context.cache.count_failure(&name), &name);
        return Ok((ReconcileResult::Transient, Action::requeue(delay.min(Duration::from_secs(2)))));
    }
    identify_objects(context, installation).await?;
    // Upgrades need to know for how long istiod has been away when they start.
    context.cache.istiod_away_for(&name, has_ready_istiod(&context.inventory.snapshot(&name, &[])));
    if installation.metadata.deletion_timestamp.is_some() {
        return match finalize(installation, context).await? {
            Finalized::Step(action) => Ok((ReconcileResult::Waiting, action)),
            Finalized::Waits(hold) => Box::pin(retain(installation, context, hold)).await,
        };
    }
    if context.cache.is_new_generation(installation) {
        requeue_peers(installation, context);
    }
    let peer_set = peer_set(installation, context);
    if let Some(blocker) = peer_set.duplicate_revision() {
        let update = report(context, installation, ReconcileOutcome::Stalled { blocker, running: None }, None).await;
        return Ok((ReconcileResult::Invalid, update.requeue(PEER_RECHECK)));
    }
    let records = revision_records(installation, context).await?;
    let platform = match platform(context, installation, &records).await {
        Ok(platform) => Ok(platform),
        Err(error) => {
            let blocker = Blocker { reason: reason_of(error.class()), message: error.to_string() };
            if records.is_empty() {
                return report_blocked(installation, context, blocker, false, error.class()).await;
            }
            Err(blocker)
        }
    };
    let blocker = renamed_fields_blocker(installation, &records).or_else(|| peer_conflict(&peer_set, context));
    let resolved = match (blocker, platform) {
        (Some(blocker), _) | (None, Err(blocker)) => Err(blocker),
        (None, Ok(platform)) => resolve(context, installation, platform, &records).await,
    };
    let resolved = match resolved {
        Ok(accepted) => {
            let (own, assignment) = split_shared_objects(context, installation, &accepted)?;
            let checked =
                if installation.spec.paused { Ok(()) } else { preflight(context, installation, &records, &own).await };
            checked.map(|()| (own, assignment))
        }
        Err(blocker) => Err(blocker),
    };
    let blocker = match resolved {
        Ok((own, assignment)) => {
            let record = own.inputs.revision_name(&name);
            // The newest revision decides only if it is that of the current spec; a changed spec starts a new rollout.
            let target = RolloutTarget::of(&records).filter(|_| records.last().is_some_and(|last| last.name == record));
            let Some(target @ (RolloutTarget::RollingBack { .. } | RolloutTarget::RolledBack { .. })) = target else {
                let stall = target.as_ref().and_then(RolloutTarget::stall);
                let (records, accepted, assignment) = (&records, &own, &assignment);
                let attempt =
                    Attempt { installation, context, records, target, accepted, assignment, stall, hold: None };
                return reconcile_target(attempt).await;
            };
            return Box::pin(reconcile_last_known_good(installation, context, &records, target, None, None)).await;
        }
        Err(blocker) => blocker,
    };
    // An unavailable API server says nothing about the spec.
    if blocker.reason == Reason::APIServerUnavailable {
        return report_blocked(installation, context, blocker, false, ErrorClass::Transient).await;
    }
    let is_forbidden = blocker.reason == Reason::Forbidden;
    let (result, action) = match RolloutTarget::of(&records) {
        Some(target) => {
            Box::pin(reconcile_last_known_good(installation, context, &records, target, Some(blocker), None)).await?
        }
        None if is_transient(blocker.reason) => {
            report_blocked(installation, context, blocker, false, ErrorClass::Transient).await?
        }
        None => report_stalled(installation, context, blocker).await?,
    };
    // The metric counts missing permissions regardless of what the last known good revision reports.
    Ok((if is_forbidden { ReconcileResult::Forbidden } else { result }, action))
}

/// The API server has dropped values that the spec had under former names: the spec that it returns is not what the user
/// wants.
fn renamed_fields_blocker(installation: &MeshInstallation, records: &[RevisionRecord]) -> Option<Blocker> {
    let stored = records.last().map(|record| record.renamed_fields.as_slice());
    let dropped = renamed_fields::dropped(installation, stored);
    (!dropped.is_empty()).then(|| Blocker { reason: Reason::InvalidSpec, message: renamed_fields::message(&dropped) })
}

/// Reconciles the last known good revision while the new spec can't be rolled out.
async fn reconcile_last_known_good(
    installation: &MeshInstallation,
    context: &Context,
    records: &[RevisionRecord],
    target: RolloutTarget<'_>,
    blocker: Option<Blocker>,
    hold: Option<UninstallHold>,
) -> Reconciled {
    let stall = blocker.or_else(|| target.stall());
    match resolve_record(context, installation, target.target()).await {
        Ok(accepted) => {
            let (own, assignment) = split_shared_objects(context, installation, &accepted)?;
            let (target, accepted, assignment) = (Some(target), &own, &assignment);
            let attempt = Attempt { installation, context, records, target, accepted, assignment, stall, hold };
            reconcile_target(attempt).await
        }
        Err(error) => {
            if let Some(hold) = hold {
                return report_hold(installation, context, hold).await;
            }
            let blocker = stall.unwrap_or(error);
            let own = records.last().filter(|record| record.inputs.matches_spec(&installation.spec));
            let was_ready = own.is_some_and(|record| record.verdict == RevisionVerdict::Deployed);
            match blocker.reason {
                // Normal after each start without a cached release; Ready stays as it is.
                Reason::PullingRelease if was_ready => {
                    Ok((ReconcileResult::Waiting, Action::requeue(requeue_after(blocker.reason))))
                }
                reason if is_transient(reason) => {
                    report_blocked(installation, context, blocker, was_ready, ErrorClass::Transient).await
                }
                _ => report_stalled(installation, context, blocker).await,
            }
        }
    }
}

/// Keeps the mesh at its current revision while its uninstall waits: pods depend on it.
async fn retain(installation: &MeshInstallation, context: &Context, hold: UninstallHold) -> Reconciled {
    let records = revision_records(installation, context).await?;
    match RolloutTarget::of(&records) {
        Some(target) => {
            Box::pin(reconcile_last_known_good(installation, context, &records, target, None, Some(hold))).await
        }
        None => report_hold(installation, context, hold).await,
    }
}

/// Reports an uninstall that waits, where the mesh can't be reconciled meanwhile.
async fn report_hold(installation: &MeshInstallation, context: &Context, hold: UninstallHold) -> Reconciled {
    let recheck = hold.recheck;
    let running = measure_unrendered(context, installation);
    let update = report(context, installation, hold.outcome(running.as_ref()), None).await;
    Ok((ReconcileResult::Waiting, update.requeue(recheck)))
}

/// The revision history of this installation. Ignores records with another UID, unless their objects still exist: then
/// the MeshInstallation was restored from a backup, and its revisions have to be verified again.
async fn revision_records(
    installation: &MeshInstallation,
    context: &Context,
) -> Result<Vec<RevisionRecord>, ReconcileError> {
    let (name, uid) = (installation.name_any(), installation.uid().unwrap_or_default());
    let mut records = context.revision_history.of(&name).await.map_err(ReconcileError::RevisionHistory)?;
    if records.iter().any(|record| record.uid != uid) {
        let restored = !context.inventory.snapshot(&name, &[]).is_empty();
        records.retain(|record| restored || record.uid == uid);
        for record in records.iter_mut().filter(|record| record.uid != uid) {
            record.verdict = RevisionVerdict::Pending;
        }
    }
    Ok(records)
}

/// The outcome while not all watches are synced: an object that is missing in the cache may exist in the cluster.
fn watch_failure(context: &Context) -> Option<ReconcileOutcome<'static>> {
    let unsynced = context.inventory.unsynced();
    let first = unsynced.first()?;
    let named = unsynced.iter().find_map(|(kind, error)| error.as_ref().map(|t| (kind, t)));
    let blocker = match named {
        Some((kind, error)) if error.contains("orbidden") => {
            Blocker { reason: Reason::Forbidden, message: format!("watching {} failed: {error}", kind.plural()) }
        }
        Some((kind, error)) => Blocker {
            reason: Reason::APIServerUnavailable,
            message: format!("watching {} failed: {error}", kind.plural()),
        },
        None => {
            let message = format!("the initial list of {} has not completed", first.0.plural());
            Blocker { reason: Reason::APIServerUnavailable, message }
        }
    };
    Some(ReconcileOutcome::Blocked { blocker, was_ready: false, running: None })
}
