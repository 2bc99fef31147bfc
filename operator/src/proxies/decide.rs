//! Which workload is restarted next, and why the others aren't. Pure: the time is an argument, and what was done before is
//! what the live objects say.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::policy::Policy;
use super::window::Opening;
use super::workload::{Rollout, Workload, WorkloadId, WorkloadKind};

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
/// A StatefulSet or DaemonSet that was restarted has failed when it isn't complete after this long, and so much more for
/// each of its pods. Of a Deployment, its own controller says so.
const PATIENCE: SignedDuration = SignedDuration::from_mins(10);
const PATIENCE_PER_POD: SignedDuration = SignedDuration::from_mins(2);
/// The last old pods may take so long to end, after a rollout is complete.
const FAREWELL: SignedDuration = SignedDuration::from_mins(5);

/// What happens to a workload so long after its restart isn't the restart's doing, if its old proxies are gone.
const AFTERMATH: SignedDuration = SignedDuration::from_hours(24);

/// A workload, and what else there is to know of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The workload.
    pub workload: Workload,
    /// It may be restarted: it or its namespace says so.
    pub allowed: bool,
    /// It has pods with a proxy of another version than the mesh.
    pub outdated: bool,
    /// A `PodDisruptionBudget` that allows none of its pods to go at present.
    pub budget: Option<String>,
}

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Restart these.
    pub restart: Vec<WorkloadId>,
    /// Were restarted and are not complete yet.
    pub under_way: Vec<WorkloadId>,
    /// Were restarted and don't come up.
    pub failed: Vec<WorkloadId>,
    /// So many failed that nothing more is restarted.
    pub stopped: bool,
    /// May be restarted once something else has come to an end.
    pub waiting: Vec<(WorkloadId, Wait)>,
    /// Are not restarted until a person does something.
    pub skipped: Vec<(WorkloadId, Skip)>,
    /// Come later, when it is their turn.
    pub queued: usize,
    /// Have an outdated proxy, and nobody allowed to restart them.
    pub not_allowed: usize,
    /// No window is open until then, and something waits for one.
    pub closed_until: Option<Timestamp>,
}

/// What a workload waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// A rollout that others began; how far it is.
    Rollout(String),
    /// A `PodDisruptionBudget` that allows nothing at present.
    Budget(String),
}

/// Why a workload isn't restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Skip {
    /// It is paused.
    Paused,
    /// An earlier rollout of it has failed.
    Stuck,
    /// A new template doesn't reach all of its pods.
    ByHand,
    /// Its template names the proxy's image.
    Pinned(String),
    /// It was restarted for this version already and its proxies are still others.
    StillOutdated,
}

/// Decides. `version` is the mesh's.
#[must_use]
pub fn decide(now: Timestamp, policy: &Policy, version: &str, candidates: &[Candidate]) -> Decision {
    let mut decision = Decision::default();
    let mut busy = BTreeSet::new();
    for candidate in candidates {
        let id = &candidate.workload.id;
        match fate(candidate, version, now) {
            Fate::None => continue,
            Fate::UnderWay => decision.under_way.push(id.clone()),
            Fate::Failed => decision.failed.push(id.clone()),
        }
        busy.insert(id.namespace.as_str());
    }
    decision.stopped = decision.failed.len() >= policy.max_failures.get();
    let opening = policy.opening(now);
    let mut room = policy.per_minute.saturating_sub(lately(now, candidates));
    let mut outdated: Vec<&Candidate> = candidates.iter().filter(|c| c.outdated && !c.workload.of_mesh).collect();
    outdated.sort_by(|a, b| a.workload.id.cmp(&b.workload.id));
    for candidate in outdated {
        let workload = &candidate.workload;
        let id = &workload.id;
        match (candidate.allowed, obstacle(candidate, version, now)) {
            (false, _) => decision.not_allowed += 1,
            (true, Obstacle::Restarted) => {}
            (true, Obstacle::Skip(why)) => decision.skipped.push((id.clone(), why)),
            (true, Obstacle::Wait(what)) => decision.waiting.push((id.clone(), what)),
            (true, Obstacle::None) => {
                if let Opening::From(then) = opening {
                    decision.closed_until = Some(then);
                    decision.queued += 1;
                } else if decision.stopped || room == 0 || !busy.insert(&id.namespace) {
                    decision.queued += 1;
                } else {
                    room -= 1;
                    decision.restart.push(id.clone());
                }
            }
        }
    }
    decision
}

/// What a restart has come to.
enum Fate {
    /// There was none for this version, or it is complete.
    None,
    UnderWay,
    Failed,
}

fn fate(candidate: &Candidate, version: &str, now: Timestamp) -> Fate {
    let workload = &candidate.workload;
    let Some(restarted) = workload.restarted.as_ref().filter(|restarted| restarted.version == version) else {
        return Fate::None;
    };
    let longer_ago = |than: SignedDuration| restarted.at.is_none_or(|at| now.duration_since(at) > than);
    match workload.rollout {
        Rollout::Complete => Fate::None,
        _ if !candidate.outdated && longer_ago(AFTERMATH) => Fate::None,
        Rollout::Stuck => Fate::Failed,
        _ => {
            let pods = i32::try_from(workload.pods).unwrap_or(i32::MAX);
            let patience = PATIENCE_PER_POD.saturating_mul(pods).saturating_add(PATIENCE);
            let judged_by_itself = workload.id.kind == WorkloadKind::Deployment;
            if longer_ago(patience) && !judged_by_itself { Fate::Failed } else { Fate::UnderWay }
        }
    }
}

/// How many restarts the last minute saw, for whichever version.
fn lately(now: Timestamp, candidates: &[Candidate]) -> usize {
    let restarts = candidates.iter().filter_map(|candidate| candidate.workload.restarted.as_ref()?.at);
    // A clock that runs ahead counts as well: whoever wrote that time did so lately.
    restarts.filter(|at| now.duration_since(*at) < MINUTE).count()
}

/// What keeps one workload, by itself, from being restarted.
enum Obstacle {
    None,
    /// It was restarted for this version, and its old pods may still be leaving.
    Restarted,
    Wait(Wait),
    Skip(Skip),
}

fn obstacle(candidate: &Candidate, version: &str, now: Timestamp) -> Obstacle {
    let workload = &candidate.workload;
    if let Some(restarted) = workload.restarted.as_ref().filter(|restarted| restarted.version == version) {
        let long_ago = restarted.at.is_none_or(|at| now.duration_since(at) > FAREWELL);
        let in_vain = long_ago && workload.rollout == Rollout::Complete;
        return if in_vain { Obstacle::Skip(Skip::StillOutdated) } else { Obstacle::Restarted };
    }
    match &workload.rollout {
        Rollout::Paused => return Obstacle::Skip(Skip::Paused),
        Rollout::Stuck => return Obstacle::Skip(Skip::Stuck),
        Rollout::ByHand => return Obstacle::Skip(Skip::ByHand),
        Rollout::Complete | Rollout::UnderWay(_) => {}
    }
    if let Some(image) = &workload.pinned {
        return Obstacle::Skip(Skip::Pinned(image.clone()));
    }
    match (&workload.rollout, &candidate.budget) {
        (Rollout::UnderWay(progress), _) => Obstacle::Wait(Wait::Rollout(progress.clone())),
        (_, Some(budget)) => Obstacle::Wait(Wait::Budget(budget.clone())),
        _ => Obstacle::None,
    }
}
