//! Follows accepted inputs: plans, writes, measures, reports, and says when to come back.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::{ConditionType, Reason, is_true};
use tracing::{error, info, warn};

use super::accepted::Accepted;
use super::backoff::{OTHERS_MOVE, RESYNC, patience, pause};
use super::beside::{tell_of_lost_tags, tell_others};
use super::charge::ensure_finalizer;
use super::cluster_objects::gauge;
use super::context::Context;
use super::error::ReconcileError;
use super::gateways::replace_uninjected;
use super::heading::Heading;
use super::injection::injection;
use super::outcome::{self, Done, SOON, class_result};
use super::ports::{learn, reach};
use super::proxies;
use super::refusals::{in_the_way, tell_of_adoption};
use super::report::{blocked, report, report_progress};
use super::transition::{Moving, Transition, ended, transition};
use crate::apply::{ApplyError, ErrorClass};
use crate::mesh::health::{Blocker, Health, Injection};
use crate::mesh::live::LiveObjects;
use crate::mesh::object::Desired;
use crate::mesh::plan::{Applied, Plan, Prepared, Refusal, plan};
use crate::mesh::pod_security::warnings;
use crate::mesh::revision::{Record, Verdict};
use crate::mesh::rollup::{Course, Travel, failure};
use crate::mesh::tags::Arrangement;
use crate::runtime::metrics::ReconcileResult;

/// While a mesh is on its way it is looked at this often: pods tell nobody why they don't come up.
const ON_THE_WAY: Duration = Duration::from_secs(3);
/// A control plane that ran before is looked at this often while it is kept.
const KEPT: Duration = Duration::from_secs(10);
/// What another installation does that this one waits for is told by it at most, and looked for this often all the same.
const OTHERS_WORK: Duration = Duration::from_secs(2);

/// One reconcile of one installation: what it is about.
pub struct Case<'a> {
    /// The installation.
    pub installation: &'a MeshInstallation,
    /// All that a reconcile works with.
    pub context: &'a Context,
    /// What is remembered, oldest first.
    pub records: &'a [Record],
    /// What that means for the mesh; `None` for a spec that isn't remembered yet.
    pub heading: Option<Heading<'a>>,
    /// What the mesh is brought to, as far as it is this installation's to write.
    pub accepted: &'a Accepted,
    /// What others write, and what stays for them.
    pub arranged: &'a Arrangement,
    /// Why that is not the present spec.
    pub stall: Option<Blocker>,
}

impl Case<'_> {
    fn name(&self) -> String {
        self.installation.name_any()
    }

    /// What the mesh is brought to was Ready before.
    fn proved(&self) -> bool {
        let name = self.accepted.inputs.record_name(&self.name());
        self.records.iter().any(|record| record.name == name && record.verdict == Verdict::Proved)
    }

    fn plan(&self, accepted: &Accepted, live: &LiveObjects, may_start: bool) -> Plan<Prepared> {
        let (owner, adoption) = (&accepted.validated.owner, self.installation.spec.adoption);
        plan(&accepted.desired, live, owner, &self.context.existing(), may_start, adoption)
    }
}

/// Follows accepted inputs as far as can be gone now.
pub async fn follow(case: Case<'_>) -> Done {
    let Case { installation, context, .. } = case;
    let name = case.name();
    let way = match transition(context, installation, case.records, case.heading.as_ref(), case.accepted).await {
        Ok(way) => way,
        Err(blocker) => return hindered(&case, blocker, ErrorClass::Invalid).await,
    };
    let now = Time(Timestamp::now());
    let live = context.inventory.snapshot(&name, &case.accepted.all());
    let moving = way.as_ref().map(|way| way.moving(context, installation, case.accepted, &live, &now));
    if let (Some(way), Some(moving)) = (&way, &moving)
        && moving.failed
    {
        return fail(&case, way, moving).await;
    }
    let staged = moving.as_ref().and_then(|moving| staged(case.accepted, moving));
    let accepted = staged.as_ref().unwrap_or(case.accepted);
    context.inventory.expect(&name, &accepted.all());
    if let Err(error) = context.reader.complete(&name, &accepted.all()).await {
        return hindered(&case, failure(&error), error.class()).await;
    }
    let live = context.inventory.snapshot(&name, &case.arranged.with_anothers(&accepted.desired));
    let judged = judged(accepted, way.as_ref(), &live);
    let (injection, _) = injection(context, &name, accepted, &judged, &live);
    let may_start = injection.lets_gateways_start(&accepted.validated);
    let before = case.arranged.without_kept(&live);
    let mut prepared = case.plan(accepted, &before, may_start);
    if installation.spec.paused {
        return paused(case, accepted, &prepared, &live, &injection, moving).await;
    }
    if let Some(refusal) = prepared.refusals.first() {
        return refused(&case, accepted, &live, &injection, &prepared, refusal).await;
    }
    ensure_finalizer(installation, context).await?;
    if case.stall.is_none() && matches!(case.heading, None | Some(Heading::Follow(_))) {
        let uid = installation.uid().unwrap_or_default();
        let inputs = &case.accepted.inputs;
        context.revisions.accept(&name, &uid, inputs).await.map_err(ReconcileError::Memory)?;
    }
    let held = context.memory.hold_contested(&mut prepared);
    let applied = context.applier.apply(&name, prepared).await;
    context.memory.note_writes(&applied);
    tell_of_adoption(context, installation, &applied);
    tell_of_lost_tags(context, installation, &applied, &before).await;
    if !case.arranged.moving.is_empty() && !applied.state.written.is_empty() {
        tell_others(installation, context);
    }
    settle(case, accepted, &applied, held, way.as_ref(), moving).await
}

/// What is desired now, where that is not yet all of what is accepted.
fn staged(accepted: &Accepted, moving: &Moving) -> Option<Accepted> {
    let kept = moving.kept.as_ref().map(|(_, desired)| desired);
    let desired = moving.position.as_ref().map(|position| &position.desired).or(kept).filter(|_| !moving.hurried)?;
    let Accepted { inputs, validated, preinstalled, .. } = accepted.clone();
    Some(Accepted { inputs, validated, preinstalled, desired: desired.clone() })
}

/// What the mesh is judged by: what is to be, without what merely stays for now.
fn judged(accepted: &Accepted, way: Option<&Transition>, live: &LiveObjects) -> Vec<Arc<Desired>> {
    way.map_or_else(|| accepted.desired.clone(), |way| way.of_target(&accepted.desired, live))
}

/// A step has taken too long, or can't be done: the record counts as failed, and the next reconcile goes by that.
async fn fail(case: &Case<'_>, way: &Transition, moving: &Moving) -> Done {
    let name = case.name();
    let record = case.accepted.inputs.record_name(&name);
    let told = case.installation.status.as_ref().and_then(|status| status.upgrade.as_ref()?.message.clone());
    let waited = match &moving.position {
        // What could not be written is told by the refusal, which only the last try has seen.
        Some(position) if position.blocker.reason == Reason::Applying => {
            told.unwrap_or(position.blocker.message.clone())
        }
        Some(position) => in_words(case, way, moving).await.unwrap_or(position.blocker.message.clone()),
        None => told.unwrap_or_default(),
    };
    let Some(progress) = &moving.progress else { return Ok((ReconcileResult::Waiting, Action::requeue(SOON))) };
    let failure = match &moving.position {
        Some(position) if position.in_vain => format!("step {} can't be done: {waited}", progress.step),
        _ => format!("step {} was not done within {:#}: {waited}", progress.step, progress.limit),
    };
    warn!(installation = name, record, failure, "an upgrade failed");
    let revisions = &case.context.revisions;
    revisions.judge(&name, &record, Verdict::Failed, Some(&failure)).await.map_err(ReconcileError::Memory)?;
    Ok((ReconcileResult::Waiting, Action::requeue(SOON)))
}

/// What a step waits for, with what is told of pods that don't come up.
async fn in_words(case: &Case<'_>, way: &Transition, moving: &Moving) -> Option<String> {
    let position = moving.position.as_ref()?;
    if position.blocker.reason != Reason::WaitingForRollout {
        return None;
    }
    let since = moving.step_started_at(case.installation);
    for workload in way.rolled_out_by(position) {
        if let Some(symptom) = case.context.symptoms.of(&workload, since).await {
            return Some(format!("{}; {symptom}", position.blocker.message));
        }
    }
    None
}

/// After the writes: measures, reports, and says when to come back.
async fn settle(
    case: Case<'_>,
    accepted: &Accepted,
    applied: &Plan<Applied>,
    held: Option<Duration>,
    way: Option<&Transition>,
    moving: Option<Moving>,
) -> Done {
    let Case { context, .. } = case;
    let (name, proved) = (case.name(), case.proved());
    let live = context.inventory.snapshot(&name, &case.arranged.with_anothers(&accepted.desired));
    let judged = judged(accepted, way, &live);
    let all = case.arranged.with_anothers(&judged);
    let (injection, look_again) = self::injection(context, &name, accepted, &judged, &live);
    let mut health = gauge(accepted, &all, &live, &injection);
    health.kept = moving.as_ref().and_then(|moving| moving.kept.as_ref().map(|(kept, _)| kept.clone()));
    replace_uninjected(context, &name, accepted, &live, &injection, &mut health).await;
    health.blockers.extend(context.memory.contested(&accepted.desired));
    applied.failed_add_ons().for_each(|(add_on, error)| health.excuse(add_on, &error.to_string()));
    let namespaces = context.surveyor.guarded_namespaces(proved).await;
    health.warnings = namespaces.map(|namespaces| warnings(&accepted.validated, &namespaces));
    reach(context, &mut health, &live).await;
    let class = applied.state.failures.iter().map(ApplyError::class).next();
    for error in &applied.state.failures {
        error!(installation = name, error = %error, "a write failed");
    }
    if learn(context, &name, &applied.state.failures) && context.memory.count_failure(&name) == 1 {
        // Somebody was quicker, or the range has changed: the next reconcile chooses anew, or says who is in the way.
        return Ok((ReconcileResult::Conflict, Action::requeue(SOON)));
    }
    let left = case.arranged.without_kept(&live);
    let unsettled = !case.plan(accepted, &left, true).is_settled();
    let resync = resync(&case, &health, moving.as_ref());
    let ca = authority(&case, accepted, &health).await;
    let told = tell(&case, applied, &health, way, moving.as_ref(), ca).await?;
    let arrived = moving.as_ref().is_none_or(|moving| moving.position.is_none());
    if arrived && case.stall.is_none() && !proved && is_true(&told.status.conditions, ConditionType::Ready) {
        let record = case.accepted.inputs.record_name(&name);
        context.revisions.prove(&name, &record).await.map_err(ReconcileError::Memory)?;
        info!(installation = name, version = %case.accepted.inputs.version, "ready");
    }
    if let Some(Heading::Back { from, to }) = case.heading
        && (arrived || moving.as_ref().is_some_and(|moving| moving.hurried))
        && health.is_as_good_as_ready()
        && !unsettled
    {
        let judged = context.revisions.judge(&name, &from.name, Verdict::RolledBack, None).await;
        judged.map_err(ReconcileError::Memory)?;
        info!(installation = name, version = %to.inputs.version, "rolled back");
        return Ok((ReconcileResult::Changed, Action::requeue(SOON)));
    }
    let ready = arrived && case.stall.is_none() && is_true(&told.status.conditions, ConditionType::Ready);
    let version = case.accepted.inputs.version.to_string();
    let look_at_proxies = if ready {
        proxies::update(context, case.installation, &version).await
    } else {
        proxies::hold(context, case.installation);
        None
    };
    if let Some(class) = class {
        let delay = pause(class, context.memory.count_failure(&name), &name);
        return Ok((class_result(class), Action::requeue(delay.min(resync))));
    }
    let wrote = !applied.state.written.is_empty();
    let result = match (wrote, unsettled || !health.is_ready()) {
        (_, true) => ReconcileResult::Waiting,
        (true, false) => ReconcileResult::Changed,
        (false, false) => ReconcileResult::Unchanged,
    };
    // Additions that an apply left behind, objects whose end was not seen yet, or the next step.
    let again = match held {
        Some(held) => held.min(look_again).min(resync),
        None if wrote && (unsettled || moving.is_some()) => SOON,
        None if case.arranged.waits_for_another(&live) => look_again.min(resync).min(OTHERS_WORK),
        None => look_again.min(resync),
    };
    Ok((result, told.again(look_at_proxies.map_or(again, |look| look.min(again)))))
}

/// When to look again though nothing happens.
fn resync(case: &Case<'_>, health: &Health, moving: Option<&Moving>) -> Duration {
    let wrong = case.stall.iter().chain(&health.blockers);
    let usual = wrong.map(|blocker| patience(blocker.reason)).min().unwrap_or(RESYNC);
    let Some(moving) = moving else { return usual };
    if moving.progress.is_none() {
        return usual.min(KEPT);
    }
    let left = moving.time_left(case.installation, &Time(Timestamp::now()));
    // A moment more, so that the time is over then.
    left.map_or(ON_THE_WAY, |left| ON_THE_WAY.min(left + SOON)).min(usual)
}

async fn tell(
    case: &Case<'_>,
    applied: &Plan<Applied>,
    health: &Health,
    way: Option<&Transition>,
    moving: Option<&Moving>,
    ca: Option<meshwright_api::CaStatus>,
) -> Result<super::report::Told, ReconcileError> {
    let Case { installation, context, heading, stall, .. } = case;
    let back = matches!(heading, Some(Heading::Back { .. }));
    let mut progress = moving.and_then(|moving| moving.progress.clone());
    if let (Some(way), Some(moving), Some(progress)) = (way, moving, &mut progress) {
        if let Some(words) = in_words(case, way, moving).await {
            progress.message = words;
        }
        if let Some(error) = applied.failure() {
            progress.message = error.to_string();
        }
    }
    let progress = progress.or_else(|| heading.as_ref().and_then(|heading| ended(installation, heading)));
    let version = &case.accepted.inputs.version;
    let travels = moving.filter(|moving| back || moving.position.is_some());
    let travels = travels.and_then(|moving| Some((moving, moving.progress.as_ref()?)));
    let course = match (stall, travels) {
        (Some(blocker), _) => blocked(blocker.clone(), Some(health)),
        (None, Some((moving, told))) => Course::Travelling {
            plan: applied,
            health,
            version,
            travel: Travel {
                back,
                late: moving.hurried,
                step: told.step.to_string(),
                from: told.way.from.clone(),
                blocker: waits_for(moving, progress.as_ref().map(|progress| progress.message.as_str())),
            },
        },
        (None, None) => Course::Followed { plan: applied, health, version, proved: case.proved() },
    };
    report_progress(context, installation, course, ca, progress).await
}

/// What the step under way waits for; the clean-up's is told by the plan and by health.
fn waits_for(moving: &Moving, message: Option<&str>) -> Option<Blocker> {
    let position = moving.position.as_ref()?;
    let message = message.unwrap_or(&position.blocker.message).to_owned();
    Some(Blocker { reason: position.blocker.reason, message })
}

/// Looks at the mesh's certificate authority when the mesh is ready, and again from time to time: it can be exchanged.
async fn authority(case: &Case<'_>, accepted: &Accepted, health: &Health) -> Option<meshwright_api::CaStatus> {
    let known = case.installation.status.as_ref().is_some_and(|status| status.ca.is_some());
    if !health.is_ready() || (!case.context.memory.ca_is_due(&case.name()) && known) {
        return None;
    }
    case.context.reader.certificate_authority(&accepted.validated.namespace).await
}

async fn hindered(case: &Case<'_>, blocker: Blocker, class: ErrorClass) -> Done {
    outcome::hindered(case.installation, case.context, blocker, case.proved(), class).await
}

async fn paused(
    case: Case<'_>,
    accepted: &Accepted,
    prepared: &Plan<Prepared>,
    live: &LiveObjects,
    injection: &Injection,
    moving: Option<Moving>,
) -> Done {
    let all = case.arranged.with_anothers(&accepted.desired);
    let mut health = gauge(accepted, &all, live, injection);
    reach(case.context, &mut health, live).await;
    let arrived = moving.as_ref().is_none_or(|moving| moving.position.is_none());
    let applied = arrived && case.stall.is_none() && prepared.is_settled() && prepared.refusals.is_empty();
    let course = match case.stall {
        Some(blocker) => blocked(blocker, Some(&health)),
        None => Course::Paused { applied, health: &health, version: &case.accepted.inputs.version },
    };
    // A way that was begun is told of with its time stopped.
    let begun = case.heading.is_some();
    let progress = moving.and_then(|moving| moving.progress).filter(|_| begun);
    let told = report_progress(case.context, case.installation, course, None, progress).await?;
    Ok((ReconcileResult::Unchanged, told.again(RESYNC)))
}

/// Nothing is written while an object that we would overwrite is somebody else's.
async fn refused(
    case: &Case<'_>,
    accepted: &Accepted,
    live: &LiveObjects,
    injection: &Injection,
    prepared: &Plan<Prepared>,
    refusal: &Refusal,
) -> Done {
    let Case { installation, context, .. } = case;
    if let Refusal::Terminating(namespace) = refusal {
        let rights = if *namespace == accepted.validated.namespace {
            ". The operator's rights in it go with it: apply them again then, with meshwright rbac | kubectl apply --server-side -f -"
        } else {
            ""
        };
        let message = format!("namespace {namespace} is being deleted; it is made again when it is gone{rights}");
        let blocker = Blocker { reason: Reason::NamespaceTerminating, message };
        let course = Course::Hindered { blocker, proved: case.proved(), running: None };
        let told = report(context, installation, course, None).await?;
        return Ok((ReconcileResult::Waiting, told.again(Duration::from_secs(2))));
    }
    let Some(blocker) = case.stall.clone().or_else(|| in_the_way(prepared)) else {
        return Ok((ReconcileResult::Waiting, Action::requeue(SOON)));
    };
    let all = case.arranged.with_anothers(&accepted.desired);
    let mut health = gauge(accepted, &all, live, injection);
    reach(context, &mut health, live).await;
    let running = case.proved().then_some(&health);
    let told = report(context, installation, blocked(blocker, running), None).await?;
    // Foreign objects carry no mark, so no watch tells when they go.
    Ok((ReconcileResult::Invalid, told.again(OTHERS_MOVE)))
}
