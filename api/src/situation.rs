//! The conditions Ready, Reconciling and Stalled of each situation. Tools such as kstatus, Argo CD and Flux rely on
//! them, so all code paths use this one table.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::conditions::{ConditionStatus, ConditionType, Reason, remove, set};

/// State of an installation, which determines its summary conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Situation {
    /// An installation, rollout or removal is in progress.
    Progressing,
    /// The mesh matches its spec and is healthy.
    Healthy,
    /// The mesh is no longer healthy and the operator is retrying.
    Retrying,
    /// The operator needs user intervention.
    Stalled,
    /// Paused after the current spec was applied. The operator still measures health.
    PausedApplied {
        /// Whether the mesh is healthy.
        healthy: bool,
    },
    /// Paused before the current spec was applied.
    PausedNotApplied,
}

/// The status of Ready, and whether Reconciling and Stalled are True or absent.
struct SummaryConditions {
    ready: ConditionStatus,
    reconciling: bool,
    stalled: bool,
}

impl Situation {
    fn summary(self) -> SummaryConditions {
        let (ready, reconciling, stalled) = match self {
            Self::Progressing => (ConditionStatus::Unknown, true, false),
            Self::Healthy => (ConditionStatus::True, false, false),
            Self::Retrying => (ConditionStatus::False, true, false),
            Self::Stalled => (ConditionStatus::False, false, true),
            Self::PausedApplied { healthy } => (healthy.into(), false, false),
            Self::PausedNotApplied => (ConditionStatus::Unknown, false, false),
        };
        SummaryConditions { ready, reconciling, stalled }
    }

    /// Sets or removes Ready, Reconciling and Stalled, all with the same reason and message. Other conditions are not
    /// changed.
    pub fn write(self, conditions: &mut Vec<Condition>, reason: Reason, message: &str, generation: i64, now: &Time) {
        let summary = self.summary();
        let rows = [
            (ConditionType::Ready, Some(summary.ready)),
            (ConditionType::Reconciling, summary.reconciling.then_some(ConditionStatus::True)),
            (ConditionType::Stalled, summary.stalled.then_some(ConditionStatus::True)),
        ];
        for (condition_type, status) in rows {
            match status {
                Some(status) => set(conditions, condition_type, status, reason, message, generation, now),
                None => remove(conditions, condition_type),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::get;

    /// Statuses of Ready, Reconciling and Stalled, with `-` for absent ones.
    fn statuses(situation: Situation) -> [String; 3] {
        let now = Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        let mut conditions = Vec::new();
        // Start with all conditions present, so that the test notices missing removals.
        for condition_type in [ConditionType::Reconciling, ConditionType::Stalled] {
            set(&mut conditions, condition_type, ConditionStatus::True, Reason::Applying, "", 1, &now);
        }
        situation.write(&mut conditions, Reason::Healthy, "", 2, &now);
        [ConditionType::Ready, ConditionType::Reconciling, ConditionType::Stalled]
            .map(|t| get(&conditions, t).map_or_else(|| "-".to_owned(), |c| c.status.clone()))
    }

    #[test]
    fn progressing_is_unknown_and_reconciling() {
        assert_eq!(statuses(Situation::Progressing), ["Unknown", "True", "-"]);
    }

    #[test]
    fn healthy_is_ready() {
        assert_eq!(statuses(Situation::Healthy), ["True", "-", "-"]);
    }

    #[test]
    fn retrying_is_not_ready_and_reconciling() {
        assert_eq!(statuses(Situation::Retrying), ["False", "True", "-"]);
    }

    #[test]
    fn stalled_is_not_ready_and_stalled() {
        assert_eq!(statuses(Situation::Stalled), ["False", "-", "True"]);
    }

    #[test]
    fn paused_after_apply_shows_measured_health() {
        assert_eq!(statuses(Situation::PausedApplied { healthy: true }), ["True", "-", "-"]);
        assert_eq!(statuses(Situation::PausedApplied { healthy: false }), ["False", "-", "-"]);
    }

    #[test]
    fn paused_before_apply_is_unknown() {
        assert_eq!(statuses(Situation::PausedNotApplied), ["Unknown", "-", "-"]);
    }

    #[test]
    fn keeps_other_conditions() {
        let now = Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        let mut conditions = Vec::new();
        set(&mut conditions, ConditionType::Available, ConditionStatus::True, Reason::Serving, "", 1, &now);
        let before = conditions.clone();
        Situation::Stalled.write(&mut conditions, Reason::InvalidSpec, "bad", 2, &now);
        assert_eq!(get(&conditions, ConditionType::Available), before.first());
    }
}
