//! What each step waits for, measured on live objects.

use std::sync::Arc;

use meshwright_api::conditions::Reason;
use meshwright_api::{UpgradeDirection, UpgradeStep};

use super::route::Route;
use super::step::Step;
use crate::mesh::health::{Blocker, Injection, injection_blocker, serves, waiting_for};
use crate::mesh::live::{Facts, LiveObjects};
use crate::mesh::object::Desired;
use crate::mesh::probe::Outcome;

/// Where a mesh is on its way.
#[derive(Debug)]
pub struct Position {
    /// Place of the step among the route's.
    pub at: usize,
    /// The step.
    pub step: Step,
    /// What the first step that isn't done waits for.
    pub blocker: Blocker,
    /// It is the step that waits, and waiting doesn't mend it.
    pub in_vain: bool,
    /// What is desired now.
    pub desired: Vec<Arc<Desired>>,
}

/// Where a mesh is: at the first step that isn't done, or at `furthest`, one that was reached before and that it doesn't
/// fall behind. `None` when every step is done, but for the clean-up. `injection` tells what is known of injection while
/// these objects are desired.
#[must_use]
pub fn position(
    route: &Route,
    live: &LiveObjects,
    injection: impl Fn(&[Arc<Desired>]) -> Injection,
    furthest: Option<&Step>,
) -> Option<Position> {
    if furthest.is_some_and(|step| step.name == UpgradeStep::CleanUp) {
        return None;
    }
    let reached = furthest.and_then(|step| route.steps.iter().position(|of| of == step)).unwrap_or_default();
    let (first, blocker) = route.steps.iter().enumerate().find_map(|(at, step)| {
        let desired = route.desired(at, live);
        let blocker = gate(route, at, step, &desired, live, &injection)?;
        Some((at, blocker))
    })?;
    let at = first.max(reached);
    let step = route.steps.get(at)?.clone();
    let desired = route.desired(at, live);
    let in_vain = at == first
        && step.name == UpgradeStep::Injection
        && injection(&route.of_target(&desired, live)).is_refused_for_good();
    Some(Position { at, step, blocker, in_vain, desired })
}

fn gate(
    route: &Route,
    at: usize,
    step: &Step,
    desired: &[Arc<Desired>],
    live: &LiveObjects,
    injection: impl Fn(&[Arc<Desired>]) -> Injection,
) -> Option<Blocker> {
    let open: Vec<&Arc<Desired>> = route
        .moved_by(at)
        .filter(|desired| !live.get(&desired.key).is_some_and(|live| route.has_moved(desired, live)))
        .collect();
    if let Some(first) = open.first() {
        let more = if open.len() > 1 { format!(" and {} more", open.len() - 1) } else { String::new() };
        let message = format!("{}{more} to be written", first.key);
        return Some(Blocker { reason: Reason::Applying, message });
    }
    let facts = |desired: &Arc<Desired>| live.get(&desired.key).map(|live| &live.facts);
    match step.name {
        UpgradeStep::Definitions => {
            let closed =
                route.moved_by(at).find(|d| matches!(facts(d), Some(Facts::Definition { established: false })))?;
            let message = format!("{} is not served yet", closed.key);
            Some(Blocker { reason: Reason::WaitingForCrds, message })
        }
        UpgradeStep::Injection => {
            let injection = injection(&route.of_target(desired, live));
            match &injection {
                // Told in status, and no fault of the new spec.
                Injection::Seen(Outcome::RefusedByOther { .. } | Outcome::Excluded { .. } | Outcome::NotAllowed(_)) => {
                    None
                }
                _ => injection_blocker(&injection),
            }
        }
        UpgradeStep::Configuration if route.direction == UpgradeDirection::Forward => {
            route.moved_by(at).find_map(|desired| match facts(desired)? {
                Facts::Webhooks { without_ca, .. } if !without_ca.is_empty() => Some(Blocker {
                    reason: Reason::WaitingForCaBundle,
                    message: format!("{}: istiod has not set the caBundle of {}", desired.key, without_ca.join(", ")),
                }),
                _ => None,
            })
        }
        UpgradeStep::ControlPlane | UpgradeStep::Cni | UpgradeStep::Ztunnel | UpgradeStep::Gateway => {
            route.moved_by(at).find_map(|moved| match facts(moved)? {
                Facts::Workload(workload) => {
                    (!serves(desired, &moved.key, workload)).then(|| waiting_for(&moved.key.name, Some(workload)))
                }
                _ => None,
            })
        }
        UpgradeStep::Tags => {
            let awake = route.awake(live).next()?;
            let message = format!("{awake} still answers for the default");
            Some(Blocker { reason: Reason::Applying, message })
        }
        UpgradeStep::Rights | UpgradeStep::Configuration | UpgradeStep::CleanUp => None,
    }
}
