//! One reconcile: does what it can and returns. Nothing waits in here; waiting is a phase in status, and a watch or a
//! requeue brings us back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::runtime::reflector::ObjectRef;
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::Reason;
use tracing::{debug, error};

use super::Watched;
use super::backoff::{patience, pause};
use super::beside::{beside, objection, place, tell_others};
use super::context::Context;
use super::error::ReconcileError;
use super::finalize::finalize;
use super::follow::{Case, follow};
use super::heading::Heading;
use super::outcome::{Done, SOON, class_result, hindered, stalled};
use super::preflight::preflight;
use super::releases::passes;
use super::report::report;
use super::resolve::{platform, resolve, resolve_remembered};
use crate::apply::ErrorClass;
use crate::mesh::health::Blocker;
use crate::mesh::revision::{Record, Verdict};
use crate::mesh::rollup::{Course, reason_of};
use crate::runtime::metrics::ReconcileResult;

/// An installation that has to wait for another's end looks for it this often: nothing tells it.
const SECOND_LOOK: Duration = Duration::from_secs(10);

/// Reconciles one installation.
pub async fn reconcile(watched: Arc<Watched>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let started = Instant::now();
    let installation = match &watched.0 {
        Ok(installation) => installation,
        Err(unreadable) => {
            let note = format!("the operator can't read it, and leaves its mesh as it is: {}", unreadable.error);
            context.events.publish(watched.as_ref(), EventType::Warning, Reason::InvalidSpec, "Reconcile", &note);
            return Err(ReconcileError::Unreadable(ObjectRef::from_obj(watched.as_ref())));
        }
    };
    // On the heap: it holds all that a reconcile knows, and is moved before it runs.
    let done = Box::pin(step(installation, &context)).await;
    let result = match &done {
        Ok((result, _)) => *result,
        Err(error) => class_result(error.class()),
    };
    context.metrics.reconciled(result, started.elapsed());
    if let Err(error) = &done {
        tell_of_failure(installation, &context, error).await;
    }
    let (result, action) = done?;
    if !matches!(result, ReconcileResult::Transient | ReconcileResult::Conflict | ReconcileResult::Forbidden) {
        context.memory.clear_failures(&installation.name_any());
    }
    Ok(action)
}

/// What a person must mend is told in status; what may pass by itself, or status itself, is left to the log.
async fn tell_of_failure(installation: &MeshInstallation, context: &Context, error: &ReconcileError) {
    if error.class() == ErrorClass::Transient || matches!(error, ReconcileError::Status { .. }) {
        return;
    }
    let blocker = Blocker { reason: reason_of(error.class()), message: error.to_string() };
    let course = if installation.metadata.deletion_timestamp.is_some() {
        Course::Uninstalling { blocker, in_use: None }
    } else {
        Course::Hindered { blocker, proved: false, running: None }
    };
    if let Err(error) = report(context, installation, course, None).await {
        error!(installation = installation.name_any(), error = %error, "a failure could not be told");
    }
}

/// What the queue does after a reconcile ended early.
#[allow(clippy::needless_pass_by_value, reason = "the controller's signature")]
pub fn on_error(watched: Arc<Watched>, failure: &ReconcileError, context: Arc<Context>) -> Action {
    let name = watched.name_any();
    if matches!(failure, ReconcileError::Unreadable(_)) {
        error!(installation = name, error = %failure, "skipped until it changes");
        return Action::await_change();
    }
    let delay = pause(failure.class(), context.memory.count_failure(&name), &name);
    error!(installation = name, error = %failure, retry_in = ?delay, "a reconcile ended early");
    Action::requeue(delay)
}

async fn step(installation: &MeshInstallation, context: &Context) -> Done {
    let name = installation.name_any();
    if let Some((kind, None)) = context.inventory.unsynced().first()
        && context.inventory.unsynced().iter().all(|(_, trouble)| trouble.is_none())
    {
        debug!(installation = name, %kind, "waiting for the first lists");
        return Ok((ReconcileResult::Waiting, Action::requeue(SOON)));
    }
    if let Some(course) = blind(context) {
        report(context, installation, course, None).await?;
        let delay = pause(ErrorClass::Transient, context.memory.count_failure(&name), &name);
        return Ok((ReconcileResult::Transient, Action::requeue(delay.min(Duration::from_secs(2)))));
    }
    if installation.metadata.deletion_timestamp.is_some() {
        return finalize(installation, context).await.map(|action| (ReconcileResult::Waiting, action));
    }
    if context.memory.is_news(installation) {
        tell_others(installation, context);
    }
    let beside = beside(installation, context);
    if let Some(blocker) = beside.same_revision() {
        let told = report(context, installation, Course::Stalled { blocker, running: None }, None).await?;
        return Ok((ReconcileResult::Invalid, told.again(SECOND_LOOK)));
    }
    let records = records(installation, context).await?;
    let platform = match platform(context, installation, &records).await {
        Ok(platform) => platform,
        Err(error) => {
            let blocker = Blocker { reason: reason_of(error.class()), message: error.to_string() };
            return hindered(installation, context, blocker, false, error.class()).await;
        }
    };
    let resolved = match objection(&beside, context) {
        Some(blocker) => Err(blocker),
        None => resolve(context, installation, platform, &records).await,
    };
    let resolved = match resolved {
        Ok(accepted) => {
            let (own, arranged) = place(context, installation, &accepted)?;
            let may_go =
                if installation.spec.paused { Ok(()) } else { preflight(context, installation, &records, &own).await };
            may_go.map(|()| (own, arranged))
        }
        Err(refused) => Err(refused),
    };
    let blocker = match resolved {
        Ok((own, arranged)) => {
            let record = own.inputs.record_name(&name);
            // The newest record tells what became of this very spec; any other begins anew.
            let heading = Heading::of(&records).filter(|_| records.last().is_some_and(|last| last.name == record));
            let Some(heading @ (Heading::Back { .. } | Heading::RolledBack { .. })) = heading else {
                let stall = heading.as_ref().and_then(Heading::stall);
                let (records, accepted, arranged) = (&records, &own, &arranged);
                return follow(Case { installation, context, records, heading, accepted, arranged, stall }).await;
            };
            return stand(installation, context, &records, heading, None).await;
        }
        Err(blocker) => blocker,
    };
    // Not the spec's fault.
    if blocker.reason == Reason::ApiUnavailable {
        return hindered(installation, context, blocker, false, ErrorClass::Transient).await;
    }
    let is_forbidden = blocker.reason == Reason::Forbidden;
    let (result, action) = match Heading::of(&records) {
        Some(heading) => stand(installation, context, &records, heading, Some(blocker)).await?,
        None if passes(blocker.reason) => {
            hindered(installation, context, blocker, false, ErrorClass::Transient).await?
        }
        None => stalled(installation, context, blocker, None).await?,
    };
    // Whatever becomes of the mesh that runs, a missing right is what the metric is to tell.
    Ok((if is_forbidden { ReconcileResult::Forbidden } else { result }, action))
}

/// The mesh that runs is looked after whatever became of its new spec.
async fn stand(
    installation: &MeshInstallation,
    context: &Context,
    records: &[Record],
    heading: Heading<'_>,
    blocker: Option<Blocker>,
) -> Done {
    let stall = blocker.or_else(|| heading.stall());
    match resolve_remembered(context, installation, heading.target()).await {
        Ok(accepted) => {
            let (own, arranged) = place(context, installation, &accepted)?;
            let (heading, accepted, arranged) = (Some(heading), &own, &arranged);
            follow(Case { installation, context, records, heading, accepted, arranged, stall }).await
        }
        Err(lost) => {
            let blocker = stall.unwrap_or(lost);
            let own = records.last().filter(|record| record.inputs.is_for(&installation.spec));
            let proved = own.is_some_and(|record| record.verdict == Verdict::Proved);
            match blocker.reason {
                // It is on its way, as after every start without a cache: nothing is known to be broken.
                Reason::PullingRelease if proved => {
                    Ok((ReconcileResult::Waiting, Action::requeue(patience(blocker.reason))))
                }
                reason if passes(reason) => {
                    hindered(installation, context, blocker, proved, ErrorClass::Transient).await
                }
                _ => stalled(installation, context, blocker, None).await,
            }
        }
    }
}

/// What is remembered of this installation. What another of its name left behind proves nothing of this one, and counts
/// only where that one's objects are still there to be looked after: then this one is it, restored from a backup.
async fn records(installation: &MeshInstallation, context: &Context) -> Result<Vec<Record>, ReconcileError> {
    let (name, uid) = (installation.name_any(), installation.uid().unwrap_or_default());
    let mut records = context.revisions.of(&name).await.map_err(ReconcileError::Memory)?;
    if records.iter().any(|record| record.uid != uid) {
        let restored = !context.inventory.snapshot(&name, &[]).is_empty();
        records.retain(|record| restored || record.uid == uid);
        for record in records.iter_mut().filter(|record| record.uid != uid) {
            record.verdict = Verdict::Pending;
        }
    }
    Ok(records)
}

/// Without all watches nothing can be judged: an object that isn't known may exist.
fn blind(context: &Context) -> Option<Course<'static>> {
    let unsynced = context.inventory.unsynced();
    let first = unsynced.first()?;
    let named = unsynced.iter().find_map(|(kind, trouble)| trouble.as_ref().map(|t| (kind, t)));
    let blocker = match named {
        Some((kind, trouble)) if trouble.contains("orbidden") => {
            Blocker { reason: Reason::Forbidden, message: format!("{} can't be watched: {trouble}", kind.plural()) }
        }
        Some((kind, trouble)) => Blocker {
            reason: Reason::ApiUnavailable,
            message: format!("{} can't be watched: {trouble}", kind.plural()),
        },
        None => {
            let message = format!("{} are not listed yet", first.0.plural());
            Blocker { reason: Reason::ApiUnavailable, message }
        }
    };
    Some(Course::Hindered { blocker, proved: false, running: None })
}
