//! A mesh on its way from what ran to what is to run: where it is, and when a step has taken too long.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use meshwright_api::conditions::Reason;
use meshwright_api::{MeshInstallation, OnFailure, UpgradeDirection, UpgradeOutcome, UpgradeStep};
use semver::Version;
use tracing::warn;

use super::accepted::Accepted;
use super::beside::place;
use super::cluster_objects::spare;
use super::context::Context;
use super::heading::{Heading, by_trust, last_good};
use super::injection::injection;
use super::resolve::resolve_remembered;
use crate::mesh::health::{Blocker, KeptRevision, of_other_control_planes};
use crate::mesh::kind::Kind;
use crate::mesh::live::LiveObjects;
use crate::mesh::object::Desired;
use crate::mesh::revision::{Record, Verdict};
use crate::mesh::upgrade::{Position, Progress, Route, Step, Way, direction, position};

/// A way that a mesh is on.
pub struct Transition {
    way: Way,
    route: Route,
    limit: SignedDuration,
    /// What becomes of it when a step takes too long.
    late: Late,
    /// Nothing is left to do but to take a control plane away that ran before.
    settled: bool,
    /// The states that objects may be found in, and what became of them.
    sources: Vec<(Verdict, Arc<Accepted>)>,
    /// How long a control plane is kept that nobody uses.
    retirement: SignedDuration,
}

#[derive(Clone, Copy, PartialEq)]
enum Late {
    /// Nothing: there is nowhere to go back to.
    Waits,
    /// The record counts as failed.
    Fails,
    /// It is on its way back already: everything is applied at once.
    Hurries,
    /// It has failed, and goes no further.
    Stands,
}

/// Where a mesh is on its way.
pub struct Moving {
    /// The step that is under way; `None` in the clean-up.
    pub position: Option<Position>,
    /// What status tells of it; nothing of a mesh that is where it should be.
    pub progress: Option<Progress>,
    /// In the clean-up: a control plane that ran before, and what is desired while it is kept.
    pub kept: Option<(KeptRevision, Vec<Arc<Desired>>)>,
    /// The time of the step is over, or waiting is in vain: the record of what it leads to counts as failed.
    pub failed: bool,
    /// The time of a step on the way back is over: nothing is held back any longer.
    pub hurried: bool,
}

/// The way that a mesh has to go to what is accepted; `None` where it is there, or nothing ran before.
pub async fn transition(
    context: &Context,
    installation: &MeshInstallation,
    records: &[Record],
    heading: Option<&Heading<'_>>,
    accepted: &Accepted,
) -> Result<Option<Transition>, Blocker> {
    let name = installation.name_any();
    let record = accepted.inputs.record_name(&name);
    let settled = match heading {
        None | Some(Heading::Back { .. } | Heading::Halted(_)) => false,
        Some(Heading::Follow(record)) => record.verdict == Verdict::Proved,
        Some(Heading::RolledBack { .. }) => true,
    };
    let others = by_trust(records, &record);
    let mut live = context.inventory.snapshot(&name, &[]);
    spare(context, &mut live);
    let is_alone = of_other_control_planes(&accepted.desired, &live).next().is_none();
    if others.is_empty() || (settled && is_alone) {
        context.memory.keep_only(&name, accepted);
        return Ok(None);
    }
    let mut sources: Vec<(Verdict, Arc<Accepted>)> = Vec::with_capacity(others.len());
    for other in &others {
        match resolve_remembered(context, installation, other).await {
            Ok(source) => match place(context, installation, &source) {
                Ok((own, _)) => sources.push((other.verdict, Arc::new(own))),
                Err(error) => warn!(installation = name, record = other.name, error = %error, "can't be made again"),
            },
            // Worth a moment; what can't be had is left out, like what is lost.
            Err(blocker) if blocker.reason == Reason::PullingRelease => return Err(blocker),
            Err(blocker) => {
                warn!(installation = name, record = other.name, why = blocker.message, "can't be made again");
            }
        }
    }
    let Some(from) = others.first().map(|other| other.inputs.version.clone()) else { return Ok(None) };
    let to = accepted.inputs.version.clone();
    let direction = match heading {
        Some(Heading::Back { .. }) => UpgradeDirection::Back,
        _ => chosen_direction(context, installation, records, &to, &record),
    };
    let known: Vec<&[Arc<Desired>]> = sources.iter().map(|(_, source)| source.desired.as_slice()).collect();
    let ran = sources.first().is_some_and(|(verdict, _)| *verdict == Verdict::Proved);
    let route = Route::new(direction, &accepted.desired, &known, ran)
        .map_err(|error| Blocker { reason: Reason::RenderFailed, message: error.to_string() })?;
    // What has failed says how long a step may take, on the way back too.
    let upgrade = match heading {
        Some(Heading::Back { from, .. }) => &from.inputs.spec.upgrade,
        _ => &accepted.inputs.spec.upgrade,
    };
    let late = match heading {
        Some(Heading::Back { .. }) => Late::Hurries,
        Some(Heading::Halted(_)) => Late::Stands,
        _ if upgrade.on_failure == OnFailure::Halt || last_good(records).is_some() => Late::Fails,
        _ => Late::Waits,
    };
    let from = match heading {
        Some(Heading::Back { from, .. }) => from.inputs.version.clone(),
        _ => from,
    };
    let way = Way { from, to, direction, record };
    let (limit, retirement) = (upgrade.deadline(), upgrade.retirement());
    Ok(Some(Transition { way, route, limit, late, settled, sources, retirement }))
}

/// The direction of a way: once it is gone, the one that status tells.
fn chosen_direction(
    context: &Context,
    installation: &MeshInstallation,
    records: &[Record],
    to: &Version,
    record: &str,
) -> UpgradeDirection {
    let told = installation.status.as_ref().and_then(|status| status.upgrade.as_ref());
    if let Some(told) = told.filter(|told| told.record == record && told.outcome.is_none()) {
        return told.direction;
    }
    let proved = last_good(records).map(|good| &good.inputs.version);
    let given_up = records
        .iter()
        .any(|other| other.name != record && other.verdict == Verdict::Pending && other.inputs.version > *to);
    direction(to, &context.inventory.snapshot(&installation.name_any(), &[]), proved, given_up)
}

impl Transition {
    /// Where the mesh is now.
    pub fn moving(
        &self,
        context: &Context,
        installation: &MeshInstallation,
        accepted: &Accepted,
        live: &LiveObjects,
        now: &Time,
    ) -> Moving {
        let name = installation.name_any();
        let told = installation.status.as_ref().and_then(|status| status.upgrade.as_ref());
        let told = told.filter(|told| told.record == self.way.record && told.direction == self.way.direction);
        let stands = self.late == Late::Stands;
        let furthest = if stands {
            told.map(|told| Step { name: told.step, gateway: told.gateway.clone() })
        } else {
            self.way.told_step(told)
        };
        let injection = |desired: &[Arc<Desired>]| injection(context, &name, accepted, desired, live).0;
        if self.settled {
            let kept = self.kept(context, &name, live);
            return Moving { position: None, progress: None, kept, failed: false, hurried: false };
        }
        let mut position = position(&self.route, live, injection, furthest.as_ref());
        if stands {
            position = Some(self.standstill(position, furthest.as_ref(), live));
        }
        let step = position.as_ref().map_or_else(|| UpgradeStep::CleanUp.into(), |position| position.step.clone());
        let over =
            position.is_some() && self.way.time_left(told, &step, now).is_some_and(|left| left <= SignedDuration::ZERO);
        let message = position.as_ref().map(|position| position.blocker.message.clone()).unwrap_or_default();
        let progress = Progress {
            way: self.way.clone(),
            step,
            limit: self.limit,
            message,
            outcome: stands.then_some(UpgradeOutcome::Halted),
            paused: installation.spec.paused,
        };
        let over = over && !installation.spec.paused;
        let in_vain = position.as_ref().is_some_and(|position| position.in_vain) && !installation.spec.paused;
        let kept = if position.is_none() { self.kept(context, &name, live) } else { None };
        Moving {
            position,
            progress: Some(progress),
            kept,
            failed: (over || in_vain) && self.late == Late::Fails,
            hurried: over && self.late == Late::Hurries,
        }
    }

    /// The control plane that ran before, unless nobody has used it for long enough.
    fn kept(
        &self,
        context: &Context,
        installation: &str,
        live: &LiveObjects,
    ) -> Option<(KeptRevision, Vec<Arc<Desired>>)> {
        let at = self.route.left_over(live)?;
        let (verdict, source) = self.sources.get(at)?;
        let revision = source.validated.revision.label().to_owned();
        let own = context.inventory.workload_names(installation);
        let pods = context.proxies.others(std::slice::from_ref(&revision), &own);
        let kept = KeptRevision { revision, pods };
        // What never was the mesh is not kept unless somebody uses it.
        let was_ready = matches!(verdict, Verdict::Proved | Verdict::Superseded);
        let grace = if was_ready { self.retirement } else { SignedDuration::ZERO };
        let unused = context.memory.unused_for(installation, &kept);
        let over = unused.is_some_and(|unused| SignedDuration::try_from(unused).is_ok_and(|unused| unused >= grace));
        (!over).then(|| (kept, self.route.retained(at, live)))
    }

    /// What injection is judged by: what is to be, without what merely stays for now.
    #[must_use]
    pub fn of_target(&self, desired: &[Arc<Desired>], live: &LiveObjects) -> Vec<Arc<Desired>> {
        self.route.of_target(desired, live)
    }

    /// A halted mesh goes no further than it came, though what it waited for may be there by now.
    fn standstill(&self, found: Option<Position>, furthest: Option<&Step>, live: &LiveObjects) -> Position {
        let place = furthest.and_then(|step| self.route.steps.iter().position(|of| of == step));
        let last = self.route.steps.len().saturating_sub(1);
        let at = place.or_else(|| found.as_ref().map(|found| found.at)).unwrap_or(last);
        let step = self.route.steps.get(at).cloned().unwrap_or_else(|| UpgradeStep::Definitions.into());
        let blocker = found.map_or_else(
            || Blocker { reason: Reason::Halted, message: "nothing is waited for any longer".into() },
            |found| found.blocker,
        );
        Position { at, step, blocker, in_vain: false, desired: self.route.desired(at, live) }
    }

    /// The workloads that the step under way rolls out.
    pub fn rolled_out_by(&self, position: &Position) -> Vec<Arc<Desired>> {
        let moved = self.route.moved_by(position.at);
        moved.filter(|d| matches!(d.key.kind, Kind::Deployment | Kind::DaemonSet)).map(Arc::clone).collect()
    }
}

impl Moving {
    /// When the step that is under way began, as status tells it; nothing of one that it doesn't tell of yet.
    pub fn step_started_at(&self, installation: &MeshInstallation) -> Option<Timestamp> {
        let told = installation.status.as_ref().and_then(|status| status.upgrade.as_ref());
        let progress = self.progress.as_ref()?;
        let is_told = progress.way.told_step(told).as_ref() == Some(&progress.step);
        told.filter(|_| is_told).map(|told| told.step_started_at.0)
    }

    /// How long until the step's time is over, as status tells it.
    pub fn time_left(&self, installation: &MeshInstallation, now: &Time) -> Option<std::time::Duration> {
        let told = installation.status.as_ref().and_then(|status| status.upgrade.as_ref());
        let progress = self.progress.as_ref()?;
        let left = progress.way.time_left(told, &progress.step, now)?;
        Some(left.max(SignedDuration::ZERO).unsigned_abs())
    }
}

/// The end of a way, as status tells it, where the heading knows it.
pub fn ended(installation: &MeshInstallation, heading: &Heading<'_>) -> Option<Progress> {
    let Heading::RolledBack { to, from } = heading else { return None };
    let told = installation.status.as_ref().and_then(|status| status.upgrade.as_ref());
    let told = told.filter(|told| told.record == to.name && told.direction == UpgradeDirection::Back);
    let step = told
        .map_or_else(|| UpgradeStep::CleanUp.into(), |told| Step { name: told.step, gateway: told.gateway.clone() });
    let way = Way {
        from: from.inputs.version.clone(),
        to: to.inputs.version.clone(),
        direction: UpgradeDirection::Back,
        record: to.name.clone(),
    };
    Some(Progress {
        way,
        step,
        limit: SignedDuration::ZERO,
        message: from.failure.clone().unwrap_or_default(),
        outcome: Some(UpgradeOutcome::RolledBack),
        paused: false,
    })
}
