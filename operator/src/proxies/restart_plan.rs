//! Selects the workloads to restart. Pure: the time is an argument, and earlier restarts are read from the live
//! objects.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::policy::RestartPolicy;
use super::window::WindowState;
use super::workload::{LastRestart, ProxyWorkload, RolloutState, WorkloadId, WorkloadKind};

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
/// The restart of a StatefulSet or DaemonSet has failed if it isn't complete after this time plus the time per pod.
/// For a Deployment, its controller decides.
const ROLLOUT_TIMEOUT: SignedDuration = SignedDuration::from_mins(10);
const ROLLOUT_TIMEOUT_PER_POD: SignedDuration = SignedDuration::from_mins(2);
/// Time in which old pods may terminate after a complete rollout.
const TERMINATION_GRACE: SignedDuration = SignedDuration::from_mins(5);

/// A rollout that is incomplete this long after the restart is not attributed to the restart, unless old proxies
/// remain.
const ATTRIBUTION_WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// What the proxies are updated to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyTarget<'v> {
    /// The mesh's version.
    pub version: &'v str,
    /// When the rollout of the current spec started. An earlier restart was for an earlier rollout, even of this
    /// version: pods may have got old proxies since, for example after a rollback.
    pub since: Option<Timestamp>,
}

impl ProxyTarget<'_> {
    /// The workload's restart for this target, if there was one.
    fn restart_of<'w>(&self, workload: &'w ProxyWorkload) -> Option<&'w LastRestart> {
        let last = workload.restarted.as_ref().filter(|last| last.version == self.version)?;
        // The annotation has whole seconds. A template from a Git repository may have the annotation of another cluster,
        // or one without a time.
        let is_recent = |since: Timestamp| last.at.is_some_and(|at| at.as_second() >= since.as_second());
        self.since.is_none_or(is_recent).then_some(last)
    }
}

/// A workload with the data that the restart plan depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct RestartCandidate {
    /// The workload that may be restarted.
    pub workload: ProxyWorkload,
    /// Whether the workload or its namespace opted in to restarts.
    pub allowed: bool,
    /// Whether pods have a proxy whose version differs from the mesh's.
    pub outdated: bool,
    /// Name of a PodDisruptionBudget that currently allows no disruption.
    pub budget: Option<String>,
}

/// Workloads with outdated or restarting proxies by the action that they need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestartPlan {
    /// Workloads to restart now.
    pub restart: Vec<WorkloadId>,
    /// Restarted workloads whose rollout is in progress.
    pub in_progress: Vec<WorkloadId>,
    /// Restarted workloads whose rollout failed.
    pub failed: Vec<WorkloadId>,
    /// Whether `maxFailures` is reached, so that no other workload is restarted.
    pub stopped: bool,
    /// Workloads that can't be restarted yet.
    pub waiting: Vec<(WorkloadId, WaitReason)>,
    /// Workloads that can't be restarted without user intervention.
    pub skipped: Vec<(WorkloadId, SkipReason)>,
    /// Number of workloads that are restarted later.
    pub queued: usize,
    /// Number of outdated workloads that did not opt in to restarts.
    pub not_opted_in: usize,
    /// Start of the next maintenance window, if workloads wait for it.
    pub closed_until: Option<Timestamp>,
}

/// Why a workload can't be restarted yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// A rollout started by another client is in progress; contains its progress.
    Rollout(String),
    /// A PodDisruptionBudget allows no disruption; contains its name.
    Budget(String),
}

/// Why a workload can't be restarted without user intervention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// The Deployment is paused.
    Paused,
    /// An earlier rollout failed.
    RolloutFailed,
    /// The update strategy doesn't update all pods automatically.
    ManualUpdates,
    /// The workload is too large to read, so that its update strategy and template are unknown.
    Unreadable,
    /// The pod template sets the proxy's image.
    PinnedImage(String),
    /// The workload was restarted for this rollout, and its new pods have outdated proxies, too.
    StillOutdated,
}

/// Selects the workloads to restart for the target.
#[must_use]
pub fn plan_restarts(
    now: Timestamp,
    policy: &RestartPolicy,
    target: ProxyTarget<'_>,
    candidates: &[RestartCandidate],
) -> RestartPlan {
    let mut plan = RestartPlan::default();
    let mut busy = BTreeSet::new();
    for candidate in candidates {
        let id = &candidate.workload.id;
        match restart_progress(candidate, target, now) {
            RestartProgress::None => continue,
            RestartProgress::InProgress => plan.in_progress.push(id.clone()),
            RestartProgress::Failed => plan.failed.push(id.clone()),
        }
        busy.insert(id.namespace.as_str());
    }
    plan.stopped = plan.failed.len() >= policy.max_failures.get();
    let window_state = policy.window_state(now);
    let mut remaining = policy.per_minute.saturating_sub(restarts_in_last_minute(now, candidates));
    let mut outdated: Vec<&RestartCandidate> =
        candidates.iter().filter(|c| c.outdated && !c.workload.managed).collect();
    outdated.sort_by(|a, b| a.workload.id.cmp(&b.workload.id));
    for candidate in outdated {
        let workload = &candidate.workload;
        let id = &workload.id;
        match (candidate.allowed, blocker(candidate, target, now)) {
            (false, _) => plan.not_opted_in += 1,
            (true, RestartBlocker::Restarted) => {}
            (true, RestartBlocker::Skip(reason)) => plan.skipped.push((id.clone(), reason)),
            (true, RestartBlocker::Wait(reason)) => plan.waiting.push((id.clone(), reason)),
            (true, RestartBlocker::None) => {
                if let WindowState::OpensAt(then) = window_state {
                    plan.closed_until = Some(then);
                    plan.queued += 1;
                } else if plan.stopped || remaining == 0 || !busy.insert(&id.namespace) {
                    plan.queued += 1;
                } else {
                    remaining -= 1;
                    plan.restart.push(id.clone());
                }
            }
        }
    }
    plan
}

/// Progress of a workload's restart for the target.
enum RestartProgress {
    /// There is no restart, or it is complete.
    None,
    InProgress,
    Failed,
}

fn restart_progress(candidate: &RestartCandidate, target: ProxyTarget<'_>, now: Timestamp) -> RestartProgress {
    let workload = &candidate.workload;
    let Some(restarted) = target.restart_of(workload) else { return RestartProgress::None };
    let longer_ago = |than: SignedDuration| restarted.at.is_none_or(|at| now.duration_since(at) > than);
    match workload.rollout {
        RolloutState::Complete => RestartProgress::None,
        _ if !candidate.outdated && longer_ago(ATTRIBUTION_WINDOW) => RestartProgress::None,
        RolloutState::Failed => RestartProgress::Failed,
        _ => {
            let pods = i32::try_from(workload.pods).unwrap_or(i32::MAX);
            let timeout = ROLLOUT_TIMEOUT_PER_POD.saturating_mul(pods).saturating_add(ROLLOUT_TIMEOUT);
            let reports_failure = workload.id.kind == WorkloadKind::Deployment;
            if longer_ago(timeout) && !reports_failure { RestartProgress::Failed } else { RestartProgress::InProgress }
        }
    }
}

/// Counts the restarts of the last minute for any version.
fn restarts_in_last_minute(now: Timestamp, candidates: &[RestartCandidate]) -> usize {
    let restarts = candidates.iter().filter_map(|candidate| candidate.workload.restarted.as_ref()?.at);
    // Includes times in the future, which result from clock skew.
    restarts.filter(|at| now.duration_since(*at) < MINUTE).count()
}

/// What prevents the restart of a workload, regardless of other workloads.
enum RestartBlocker {
    None,
    /// The workload was restarted for this target, and old pods may still be terminating.
    Restarted,
    Wait(WaitReason),
    Skip(SkipReason),
}

fn blocker(candidate: &RestartCandidate, target: ProxyTarget<'_>, now: Timestamp) -> RestartBlocker {
    let workload = &candidate.workload;
    let pinned = workload.pinned_image.as_ref().map(|image| SkipReason::PinnedImage(image.clone()));
    if let Some(restarted) = target.restart_of(workload) {
        let terminated = restarted.at.is_none_or(|at| now.duration_since(at) > TERMINATION_GRACE);
        if !terminated || workload.rollout != RolloutState::Complete {
            return RestartBlocker::Restarted;
        }
        return RestartBlocker::Skip(pinned.unwrap_or(SkipReason::StillOutdated));
    }
    match &workload.rollout {
        RolloutState::Paused => return RestartBlocker::Skip(SkipReason::Paused),
        RolloutState::Failed => return RestartBlocker::Skip(SkipReason::RolloutFailed),
        RolloutState::Manual => return RestartBlocker::Skip(SkipReason::ManualUpdates),
        RolloutState::Unreadable => return RestartBlocker::Skip(SkipReason::Unreadable),
        RolloutState::Complete | RolloutState::InProgress(_) => {}
    }
    if let Some(reason) = pinned {
        return RestartBlocker::Skip(reason);
    }
    match (&workload.rollout, &candidate.budget) {
        (RolloutState::InProgress(progress), _) => RestartBlocker::Wait(WaitReason::Rollout(progress.clone())),
        (_, Some(budget)) => RestartBlocker::Wait(WaitReason::Budget(budget.clone())),
        _ => RestartBlocker::None,
    }
}
