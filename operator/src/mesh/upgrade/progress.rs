//! Progress of an upgrade with its times and deadlines, which only status stores: when status is lost, the current step
//! gets a new deadline.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::SignedDuration;
use meshwright_api::{UpgradeDirection, UpgradeOutcome, UpgradeStatus};
use semver::Version;

use super::step::RolloutStep;

/// Identity of one upgrade or rollback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeRun {
    /// The release before the upgrade.
    pub from: Version,
    /// The target release.
    pub to: Version,
    /// Forward or rollback.
    pub direction: UpgradeDirection,
    /// Name of the target's ControllerRevision; a changed spec has another one.
    pub controller_revision: String,
}

/// Progress of an upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeProgress {
    /// The upgrade that this is about.
    pub run: UpgradeRun,
    /// The current or the failed step.
    pub step: RolloutStep,
    /// Time limit of a step, from `spec.upgrade.progressDeadline`.
    pub limit: SignedDuration,
    /// When the step last made progress, as a Deployment's `progressDeadlineSeconds` counts: the deadline restarts then.
    pub progressed_at: Option<Time>,
    /// What the step waits for, or why it failed.
    pub message: String,
    /// `None` while the upgrade is in progress.
    pub outcome: Option<UpgradeOutcome>,
    /// `spec.paused` is set, which suspends the deadline.
    pub paused: bool,
}

impl UpgradeRun {
    /// Whether a status shows this upgrade, still in progress.
    #[must_use]
    pub fn matches_status(&self, status: &UpgradeStatus) -> bool {
        status.controller_revision == self.controller_revision
            && status.direction == self.direction
            && status.outcome.is_none()
    }

    /// The step in a status of this upgrade.
    #[must_use]
    pub fn step_in_status(&self, status: Option<&UpgradeStatus>) -> Option<RolloutStep> {
        let status = status.filter(|status| self.matches_status(status))?;
        Some(RolloutStep { name: status.step, gateway: status.gateway.clone() })
    }

    /// Time until the step's deadline in status, if status has one; zero or negative when it has passed.
    #[must_use]
    pub fn time_left(&self, status: Option<&UpgradeStatus>, step: &RolloutStep, now: &Time) -> Option<SignedDuration> {
        let status = status?;
        if self.step_in_status(Some(status)).as_ref() != Some(step) {
            return None;
        }
        Some(status.deadline.as_ref()?.0.duration_since(now.0))
    }
}

impl UpgradeProgress {
    /// The status of this progress. An upgrade and a step that have started keep their times.
    #[must_use]
    pub fn to_status(&self, previous: Option<&UpgradeStatus>, now: &Time) -> UpgradeStatus {
        let same_run = previous
            .filter(|p| p.controller_revision == self.run.controller_revision && p.direction == self.run.direction);
        let same_run = same_run.filter(|previous| previous.outcome.is_none() || self.outcome.is_some());
        let same_step =
            same_run.filter(|previous| previous.step == self.step.name && previous.gateway == self.step.gateway);
        let running = self.outcome.is_none() && !self.paused;
        let deadline = running.then(|| {
            let published = same_step.and_then(|previous| previous.deadline.clone());
            let restarted = self.progressed_at.as_ref().and_then(|at| at.0.checked_add(self.limit).ok());
            let published = published.map(|deadline| deadline.0).or_else(|| now.0.checked_add(self.limit).ok());
            published.max(restarted).map(Time)
        });
        let ended = self.outcome.map(|_| {
            let published = same_run.filter(|previous| previous.outcome == self.outcome);
            published.and_then(|previous| previous.ended_at.clone()).unwrap_or_else(|| now.clone())
        });
        UpgradeStatus {
            from: same_run.map_or_else(|| self.run.from.to_string(), |previous| previous.from.clone()),
            to: self.run.to.to_string(),
            direction: self.run.direction,
            controller_revision: self.run.controller_revision.clone(),
            step: self.step.name,
            gateway: self.step.gateway.clone(),
            started_at: same_run.map_or_else(|| now.clone(), |previous| previous.started_at.clone()),
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

    fn progress(step: UpgradeStep) -> UpgradeProgress {
        UpgradeProgress {
            run: UpgradeRun {
                from: Version::new(1, 31, 0),
                to: Version::new(1, 32, 0),
                direction: UpgradeDirection::Forward,
                controller_revision: "mesh-1".into(),
            },
            step: step.into(),
            limit: SignedDuration::from_secs(60),
            progressed_at: None,
            message: "waiting".into(),
            outcome: None,
            paused: false,
        }
    }

    #[test]
    fn each_step_has_its_own_deadline() {
        let first = progress(UpgradeStep::ControlPlane).to_status(None, &at(0));
        assert_eq!(first.deadline, Some(at(60)));
        let later = progress(UpgradeStep::ControlPlane).to_status(Some(&first), &at(30));
        assert_eq!(later, first);
        let next = progress(UpgradeStep::Configuration).to_status(Some(&later), &at(40));
        assert_eq!((next.started_at, next.step_started_at, next.deadline), (at(0), at(40), Some(at(100))));
    }

    #[test]
    fn deadline_belongs_to_step_and_spec() {
        let in_progress = progress(UpgradeStep::ControlPlane);
        let published = in_progress.to_status(None, &at(0));
        let left = |run: &UpgradeRun, step: UpgradeStep| run.time_left(Some(&published), &step.into(), &at(61));
        assert!(left(&in_progress.run, UpgradeStep::ControlPlane).unwrap().is_negative());
        assert_eq!(left(&in_progress.run, UpgradeStep::InjectionCheck), None);
        let changed = UpgradeRun { controller_revision: "mesh-2".into(), ..in_progress.run.clone() };
        assert_eq!(left(&changed, UpgradeStep::ControlPlane), None);
    }

    #[test]
    fn pause_suspends_deadline() {
        let in_progress = progress(UpgradeStep::ControlPlane);
        let published = in_progress.to_status(None, &at(0));
        let paused = UpgradeProgress { paused: true, ..in_progress.clone() }.to_status(Some(&published), &at(50));
        assert_eq!(paused.deadline, None);
        assert_eq!(in_progress.run.time_left(Some(&paused), &in_progress.step, &at(500)), None);
        assert_eq!(in_progress.to_status(Some(&paused), &at(500)).deadline, Some(at(560)));
    }

    #[test]
    fn end_time_is_kept_and_retry_starts_again() {
        let done = UpgradeProgress { outcome: Some(UpgradeOutcome::Succeeded), ..progress(UpgradeStep::CleanUp) };
        let published = done.to_status(Some(&progress(UpgradeStep::InjectionCheck).to_status(None, &at(0))), &at(9));
        assert_eq!(
            (published.started_at.clone(), published.ended_at.clone(), published.deadline.clone()),
            (at(0), Some(at(9)), None)
        );
        assert_eq!(done.to_status(Some(&published), &at(99)), published);
        let again = progress(UpgradeStep::ControlPlane).to_status(Some(&published), &at(100));
        assert_eq!((again.started_at, again.deadline), (at(100), Some(at(160))));
    }

    #[test]
    fn progress_restarts_the_deadline() {
        let started = progress(UpgradeStep::Cni).to_status(None, &at(0));
        assert_eq!(started.deadline, Some(at(60)));
        let later = UpgradeProgress { progressed_at: Some(at(50)), ..progress(UpgradeStep::Cni) };
        let status = later.to_status(Some(&started), &at(55));
        assert_eq!((status.deadline.clone(), status.step_started_at.clone()), (Some(at(110)), at(0)));
        // Without further progress it stays.
        assert_eq!(progress(UpgradeStep::Cni).to_status(Some(&status), &at(100)).deadline, Some(at(110)));
    }
}
