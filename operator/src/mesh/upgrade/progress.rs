//! How far an upgrade has come, with times and deadlines, as status keeps it. Nothing else does: where status is lost,
//! the step that is under way gets a new deadline, and that is all.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::SignedDuration;
use meshwright_api::{UpgradeDirection, UpgradeOutcome, UpgradeStatus};
use semver::Version;

use super::step::Step;

/// Which way a mesh is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The release that it leads from.
    pub from: Version,
    /// The release that it leads to.
    pub to: Version,
    /// Forward or back.
    pub direction: UpgradeDirection,
    /// Name of the record of what it leads to; a changed spec has another.
    pub record: String,
}

/// How far a mesh has come on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The way.
    pub way: Way,
    /// The step that is under way, or that failed.
    pub step: Step,
    /// How long a step may take.
    pub limit: SignedDuration,
    /// What it waits for, or why it failed.
    pub message: String,
    /// How it ended, if it did.
    pub outcome: Option<UpgradeOutcome>,
    /// Nobody may write, so no time counts.
    pub paused: bool,
}

impl Way {
    /// Whether a status tells of this very way, and of one that is not over.
    #[must_use]
    pub fn is_told_by(&self, status: &UpgradeStatus) -> bool {
        status.record == self.record && status.direction == self.direction && status.outcome.is_none()
    }

    /// The step that a status tells of.
    #[must_use]
    pub fn told_step(&self, status: Option<&UpgradeStatus>) -> Option<Step> {
        let status = status.filter(|status| self.is_told_by(status))?;
        Some(Step { name: status.step, gateway: status.gateway.clone() })
    }

    /// How much time the step that is under way has left by its status, if its deadline was told: zero or less when it is
    /// over.
    #[must_use]
    pub fn time_left(&self, status: Option<&UpgradeStatus>, step: &Step, now: &Time) -> Option<SignedDuration> {
        let status = status?;
        if self.told_step(Some(status)).as_ref() != Some(step) {
            return None;
        }
        Some(status.deadline.as_ref()?.0.duration_since(now.0))
    }
}

impl Progress {
    /// As status tells it. What was begun keeps its times.
    #[must_use]
    pub fn tell(&self, previous: Option<&UpgradeStatus>, now: &Time) -> UpgradeStatus {
        let same_way = previous.filter(|p| p.record == self.way.record && p.direction == self.way.direction);
        let same_way = same_way.filter(|previous| previous.outcome.is_none() || self.outcome.is_some());
        let same_step =
            same_way.filter(|previous| previous.step == self.step.name && previous.gateway == self.step.gateway);
        let running = self.outcome.is_none() && !self.paused;
        let deadline = running.then(|| {
            let given = same_step.and_then(|previous| previous.deadline.clone());
            given.or_else(|| now.0.checked_add(self.limit).ok().map(Time))
        });
        let ended = self.outcome.map(|_| {
            let told = same_way.filter(|previous| previous.outcome == self.outcome);
            told.and_then(|previous| previous.ended_at.clone()).unwrap_or_else(|| now.clone())
        });
        UpgradeStatus {
            from: same_way.map_or_else(|| self.way.from.to_string(), |previous| previous.from.clone()),
            to: self.way.to.to_string(),
            direction: self.way.direction,
            record: self.way.record.clone(),
            step: self.step.name,
            gateway: self.step.gateway.clone(),
            started_at: same_way.map_or_else(|| now.clone(), |previous| previous.started_at.clone()),
            step_started_at: same_step.map_or_else(|| now.clone(), |previous| previous.step_started_at.clone()),
            deadline: deadline.flatten(),
            outcome: self.outcome,
            ended_at: ended,
            message: Some(self.message.clone()).filter(|message| !message.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use meshwright_api::UpgradeStep;

    use super::*;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    fn progress(step: UpgradeStep) -> Progress {
        Progress {
            way: Way {
                from: Version::new(1, 31, 0),
                to: Version::new(1, 32, 0),
                direction: UpgradeDirection::Forward,
                record: "mesh-1".into(),
            },
            step: step.into(),
            limit: SignedDuration::from_secs(60),
            message: "waiting".into(),
            outcome: None,
            paused: false,
        }
    }

    #[test]
    fn a_step_keeps_its_deadline_and_the_next_gets_its_own() {
        let first = progress(UpgradeStep::ControlPlane).tell(None, &at(0));
        assert_eq!(first.deadline, Some(at(60)));
        let later = progress(UpgradeStep::ControlPlane).tell(Some(&first), &at(30));
        assert_eq!(later, first);
        let next = progress(UpgradeStep::Configuration).tell(Some(&later), &at(40));
        assert_eq!((next.started_at, next.step_started_at, next.deadline), (at(0), at(40), Some(at(100))));
    }

    #[test]
    fn time_runs_out_only_for_the_step_and_the_spec_that_it_was_given_to() {
        let under_way = progress(UpgradeStep::ControlPlane);
        let told = under_way.tell(None, &at(0));
        let left = |way: &Way, step: UpgradeStep| way.time_left(Some(&told), &step.into(), &at(61));
        assert!(left(&under_way.way, UpgradeStep::ControlPlane).unwrap().is_negative());
        assert_eq!(left(&under_way.way, UpgradeStep::Injection), None);
        let changed = Way { record: "mesh-2".into(), ..under_way.way.clone() };
        assert_eq!(left(&changed, UpgradeStep::ControlPlane), None);
    }

    #[test]
    fn no_time_counts_while_paused() {
        let under_way = progress(UpgradeStep::ControlPlane);
        let told = under_way.tell(None, &at(0));
        let paused = Progress { paused: true, ..under_way.clone() }.tell(Some(&told), &at(50));
        assert_eq!(paused.deadline, None);
        assert_eq!(under_way.way.time_left(Some(&paused), &under_way.step, &at(500)), None);
        assert_eq!(under_way.tell(Some(&paused), &at(500)).deadline, Some(at(560)));
    }

    #[test]
    fn an_end_is_told_once_and_the_same_spec_tried_anew_starts_afresh() {
        let done = Progress { outcome: Some(UpgradeOutcome::Done), ..progress(UpgradeStep::CleanUp) };
        let told = done.tell(Some(&progress(UpgradeStep::Injection).tell(None, &at(0))), &at(9));
        assert_eq!((told.started_at.clone(), told.ended_at.clone(), told.deadline.clone()), (at(0), Some(at(9)), None));
        assert_eq!(done.tell(Some(&told), &at(99)), told);
        let again = progress(UpgradeStep::ControlPlane).tell(Some(&told), &at(100));
        assert_eq!((again.started_at, again.deadline), (at(100), Some(at(160))));
    }
}
