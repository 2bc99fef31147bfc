//! One reconcile: does what it can and returns. Nothing waits in here; waiting is a phase in status, and a watch or a
//! requeue brings us back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::{ConditionType, Reason, is_true};
use serde_json::json;
use tracing::{debug, error, info};

use super::Watched;
use super::backoff::{OTHERS_MOVE, RESYNC, patience, pause};
use super::context::Context;
use super::error::ReconcileError;
use super::finalize::finalize;
use super::gateways::replace_uninjected;
use super::ports::{learn, reach};
use super::report::report;
use super::resolve::{Accepted, platform, resolve, resolve_remembered};
use crate::apply::ErrorClass;
use crate::mesh::health::{Blocker, Health, Injection, measure, minimum};
use crate::mesh::live::{Facts, LiveObjects};
use crate::mesh::object::{Component, short_hash};
use crate::mesh::plan::{Applied, Plan, Prepared, Refusal, plan};
use crate::mesh::pod_security::warnings;
use crate::mesh::revision::{Record, Verdict};
use crate::mesh::rollup::{Course, failure, reason_of};
use crate::runtime::metrics::ReconcileResult;

/// On every installation that we look after: deletion is ours to carry out.
pub const FINALIZER: &str = "meshwright.dev/uninstall";
/// After a write that left something to do.
const SOON: Duration = Duration::from_millis(50);
/// An installation that has to wait for another's end looks for it this often: nothing tells it.
const SECOND_LOOK: Duration = Duration::from_secs(10);

/// Reconciles one installation.
pub async fn reconcile(watched: Arc<Watched>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let started = Instant::now();
    let Ok(installation) = &watched.0 else {
        return Err(ReconcileError::Unreadable(ObjectRef::from_obj(watched.as_ref())));
    };
    let done = step(installation, &context).await;
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

const fn class_result(class: ErrorClass) -> ReconcileResult {
    match class {
        ErrorClass::Forbidden => ReconcileResult::Forbidden,
        ErrorClass::Invalid => ReconcileResult::Invalid,
        ErrorClass::Conflict => ReconcileResult::Conflict,
        ErrorClass::Transient => ReconcileResult::Transient,
    }
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
        Course::Hindered { blocker, proved: false }
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

type Done = Result<(ReconcileResult, Action), ReconcileError>;

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
    if let Some(first) = another(installation, context) {
        let message = format!(
            "the cluster has the mesh of {first} already; a second one beside it needs revisions, which are not supported yet: delete one of the two"
        );
        let blocker = Blocker { reason: Reason::AnotherInstallation, message };
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
    match resolve(context, installation, platform, &records).await {
        Ok(accepted) => follow(installation, context, &records, &accepted, None).await,
        // Not the spec's fault.
        Err(blocker) if blocker.reason == Reason::ApiUnavailable => {
            hindered(installation, context, blocker, false, ErrorClass::Transient).await
        }
        Err(blocker) => {
            let Some(last) = records.last() else { return stalled(installation, context, blocker, None).await };
            // The mesh that runs is looked after whatever became of its new spec.
            match resolve_remembered(context, installation, last).await {
                Ok(accepted) => follow(installation, context, &records, &accepted, Some(blocker)).await,
                Err(_) => stalled(installation, context, blocker, None).await,
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
    Some(Course::Hindered { blocker, proved: false })
}

/// The oldest other installation, if this one isn't the oldest.
fn another(installation: &MeshInstallation, context: &Context) -> Option<String> {
    let first = context.installations().into_iter().next()?;
    (first.uid() != installation.uid()).then(|| first.name_any())
}

async fn stalled(
    installation: &MeshInstallation,
    context: &Context,
    blocker: Blocker,
    running: Option<&Health>,
) -> Done {
    let again = patience(blocker.reason);
    let told = report(context, installation, Course::Stalled { blocker, running }, None).await?;
    Ok((ReconcileResult::Invalid, told.again(again)))
}

/// Follows accepted inputs. `stall` says why they are not those of the present spec.
async fn follow(
    installation: &MeshInstallation,
    context: &Context,
    records: &[Record],
    accepted: &Accepted,
    stall: Option<Blocker>,
) -> Done {
    let name = installation.name_any();
    context.inventory.expect(&name, &accepted.desired);
    let record = records.iter().find(|r| r.name == accepted.inputs.record_name(&name));
    let proved = record.is_some_and(|record| record.verdict == Verdict::Proved);
    if let Err(error) = context.reader.complete(&name, &accepted.desired).await {
        return hindered(installation, context, failure(&error), proved, error.class()).await;
    }
    let live = context.inventory.snapshot(&name, &accepted.desired);
    let (injection, _) = injection(context, &name, accepted, &live);
    let existing = context.existing();
    let may_start = injection.lets_gateways_start(&accepted.validated);
    let prepared = plan(&accepted.desired, &live, &accepted.validated.owner, &existing, may_start);
    if installation.spec.paused {
        return paused(installation, context, accepted, &prepared, &live, &injection, stall).await;
    }
    if let Some(refusal) = prepared.refusals.first() {
        return refused(installation, context, accepted, &live, &injection, &prepared, refusal, stall, proved).await;
    }
    ensure_finalizer(installation, context).await?;
    if stall.is_none() {
        let uid = installation.uid().unwrap_or_default();
        context.revisions.accept(&name, &uid, &accepted.inputs).await.map_err(ReconcileError::Memory)?;
    }
    let mut prepared = prepared;
    let held = context.memory.hold_contested(&mut prepared);
    let applied = context.applier.apply(&name, prepared).await;
    context.memory.note_writes(applied.state.written.iter().map(|(key, _)| key));
    settle(installation, context, accepted, &applied, held, stall, proved).await
}

/// After the writes: measures, reports, and says when to come back.
async fn settle(
    installation: &MeshInstallation,
    context: &Context,
    accepted: &Accepted,
    applied: &Plan<Applied>,
    held: Option<Duration>,
    stall: Option<Blocker>,
    proved: bool,
) -> Done {
    let name = installation.name_any();
    let live = context.inventory.snapshot(&name, &accepted.desired);
    let (injection, look_again) = injection(context, &name, accepted, &live);
    let mut health = measure(&accepted.validated, &accepted.desired, &live, &injection);
    replace_uninjected(context, &name, accepted, &live, &injection, &mut health).await;
    health.blockers.extend(context.memory.contested(&accepted.desired));
    let namespaces = context.surveyor.guarded_namespaces(proved).await;
    health.warnings = namespaces.map(|namespaces| warnings(&accepted.validated, &namespaces));
    reach(context, &mut health, &live).await;
    let class = applied.state.failures.iter().map(crate::apply::ApplyError::class).next();
    for error in &applied.state.failures {
        error!(installation = name, error = %error, "a write failed");
    }
    if learn(context, &name, &applied.state.failures) && context.memory.count_failure(&name) == 1 {
        // Somebody was quicker, or the range has changed: the next reconcile chooses anew, or says who is in the way.
        return Ok((ReconcileResult::Conflict, Action::requeue(SOON)));
    }
    let resync = stall.as_ref().map_or(RESYNC, |stall| patience(stall.reason));
    let stands = stall.is_none();
    let course = match stall {
        Some(blocker) => Course::Stalled { blocker, running: Some(&health) },
        None => Course::Followed { plan: applied, health: &health, version: &accepted.inputs.version, proved },
    };
    let ca = authority(context, installation, accepted, &health).await;
    let told = report(context, installation, course, ca).await?;
    if stands && !proved && is_true(&told.status.conditions, ConditionType::Ready) {
        let record = accepted.inputs.record_name(&name);
        context.revisions.prove(&name, &record).await.map_err(ReconcileError::Memory)?;
        info!(installation = name, version = %accepted.inputs.version, "ready");
    }
    if let Some(class) = class {
        let delay = pause(class, context.memory.count_failure(&name), &name);
        return Ok((class_result(class), Action::requeue(delay)));
    }
    let unsettled = !plan(&accepted.desired, &live, &accepted.validated.owner, &context.existing(), true).is_settled();
    let wrote = !applied.state.written.is_empty();
    let result = match (wrote, unsettled || !health.is_ready()) {
        (_, true) => ReconcileResult::Waiting,
        (true, false) => ReconcileResult::Changed,
        (false, false) => ReconcileResult::Unchanged,
    };
    // Additions that an apply left behind, or objects whose end was not seen yet.
    let again = match held {
        Some(held) => held.min(look_again),
        None if unsettled && wrote => SOON,
        None => look_again.min(resync),
    };
    Ok((result, told.again(again)))
}

async fn hindered(
    installation: &MeshInstallation,
    context: &Context,
    blocker: Blocker,
    proved: bool,
    class: ErrorClass,
) -> Done {
    let told = report(context, installation, Course::Hindered { blocker, proved }, None).await?;
    let name = installation.name_any();
    let delay = pause(class, context.memory.count_failure(&name), &name);
    Ok((class_result(class), told.again(delay)))
}

async fn paused(
    installation: &MeshInstallation,
    context: &Context,
    accepted: &Accepted,
    prepared: &Plan<Prepared>,
    live: &LiveObjects,
    injection: &Injection,
    stall: Option<Blocker>,
) -> Done {
    let mut health = measure(&accepted.validated, &accepted.desired, live, injection);
    reach(context, &mut health, live).await;
    let applied = stall.is_none() && prepared.is_settled() && prepared.refusals.is_empty();
    let course = match stall {
        Some(blocker) => Course::Stalled { blocker, running: Some(&health) },
        None => Course::Paused { applied, health: &health, version: &accepted.inputs.version },
    };
    let told = report(context, installation, course, None).await?;
    Ok((ReconcileResult::Unchanged, told.again(RESYNC)))
}

/// Nothing is written while an object that we would overwrite is somebody else's.
#[allow(clippy::too_many_arguments, reason = "all of one reconcile's findings; a struct would only be unpacked again")]
async fn refused(
    installation: &MeshInstallation,
    context: &Context,
    accepted: &Accepted,
    live: &LiveObjects,
    injection: &Injection,
    prepared: &Plan<Prepared>,
    refusal: &Refusal,
    stall: Option<Blocker>,
    proved: bool,
) -> Done {
    if let Refusal::Terminating(namespace) = refusal {
        let rights = if *namespace == accepted.validated.namespace {
            ". The operator's rights in it go with it: apply them again then, with meshwright rbac | kubectl apply --server-side -f -"
        } else {
            ""
        };
        let message = format!("namespace {namespace} is being deleted; it is made again when it is gone{rights}");
        let blocker = Blocker { reason: Reason::NamespaceTerminating, message };
        let told = report(context, installation, Course::Hindered { blocker, proved }, None).await?;
        return Ok((ReconcileResult::Waiting, told.again(Duration::from_secs(2))));
    }
    let blocker = stall.unwrap_or_else(|| Blocker { reason: Reason::ForeignObject, message: foreign(prepared) });
    let mut health = measure(&accepted.validated, &accepted.desired, live, injection);
    reach(context, &mut health, live).await;
    let running = proved.then_some(&health);
    let told = report(context, installation, Course::Stalled { blocker, running }, None).await?;
    // Foreign objects carry no mark, so no watch tells when they go.
    Ok((ReconcileResult::Invalid, told.again(OTHERS_MOVE)))
}

fn foreign(prepared: &Plan<Prepared>) -> String {
    let named: Vec<String> = prepared
        .refusals
        .iter()
        .filter_map(|refusal| match refusal {
            Refusal::Foreign { key, holder: Some(holder) } => Some(format!("{key} (of installation {holder})")),
            Refusal::Foreign { key, holder: None } => Some(key.to_string()),
            Refusal::Terminating(_) => None,
        })
        .collect();
    let shown = named.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    let rest = named.len().saturating_sub(5);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    format!("not ours: {shown}{more}; delete or rename what is in the way; nothing was written")
}

/// Where the control plane is rolled out, injection is looked at; the second value says when to look again.
fn injection(context: &Context, name: &str, accepted: &Accepted, live: &LiveObjects) -> (Injection, Duration) {
    let Some(inputs) = probe_inputs(accepted, live) else { return (Injection::Pending, RESYNC) };
    let (proof, again) = context.prober.consult(name, &accepted.validated.namespace, &inputs);
    match proof {
        // What an older state showed tells nothing of this one.
        Some(proof) if proof.inputs == inputs => (Injection::Seen(proof.outcome), again),
        _ => (Injection::Pending, again),
    }
}

/// What injection depends on: webhooks with their CA, the control plane's pods, its configuration. `None` while the
/// control plane can't answer anyway.
fn probe_inputs(accepted: &Accepted, live: &LiveObjects) -> Option<String> {
    let mut parts = Vec::new();
    for desired in accepted.desired.iter().filter(|d| d.component == Component::Istiod) {
        match live.get(&desired.key).map(|live| &live.facts) {
            Some(Facts::Workload(workload)) => {
                if !workload.is_up(minimum(&accepted.desired, &desired.key)) {
                    return None;
                }
                parts.push(format!("{workload:?}"));
            }
            Some(Facts::Webhooks { without_ca, identity }) => {
                if !without_ca.is_empty() {
                    return None;
                }
                parts.push(identity.clone());
            }
            Some(Facts::Content(hash)) => parts.push(hash.clone()),
            Some(_) => {}
            None => return None,
        }
    }
    Some(short_hash(parts.join("/").as_bytes()))
}

async fn ensure_finalizer(installation: &MeshInstallation, context: &Context) -> Result<(), ReconcileError> {
    if installation.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(());
    }
    let name = installation.name_any();
    debug!(installation = name, "taking charge");
    let mut finalizers = installation.finalizers().to_vec();
    finalizers.push(FINALIZER.to_owned());
    // With the version that was read: nobody's finalizer gets lost.
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": installation.resource_version()}});
    let api: Api<MeshInstallation> = Api::all(context.clients.requests.clone());
    api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .map(drop)
        .map_err(|source| ReconcileError::Finalizer { name, source: Box::new(source) })
}

/// Looks at the mesh's certificate authority when the mesh is ready, and again from time to time: it can be exchanged.
async fn authority(
    context: &Context,
    installation: &MeshInstallation,
    accepted: &Accepted,
    health: &Health,
) -> Option<meshwright_api::CaStatus> {
    let known = installation.status.as_ref().is_some_and(|status| status.ca.is_some());
    if !health.is_ready() || (!context.memory.ca_is_due(&installation.name_any()) && known) {
        return None;
    }
    context.reader.certificate_authority(&accepted.validated.namespace).await
}
