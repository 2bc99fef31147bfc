//! Which conditions each situation shows. Tools such as kstatus, Argo CD and Flux read them, so
//! there is one table and everything goes through it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::conditions::{ConditionStatus, ConditionType, Reason, remove, set};

/// Where an installation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Situation {
    /// New, or a changed spec is being brought about, or the mesh is being removed.
    Progressing,
    /// As the spec says, and working.
    Healthy,
    /// Was healthy and isn't; the operator is at it.
    Retrying,
    /// A person must change something first.
    Stalled,
    /// Paused with the present spec in place; health is still measured.
    PausedApplied {
        /// Whether the mesh works.
        healthy: bool,
    },
    /// Paused before the present spec was in place.
    PausedNotApplied,
}

/// What a situation shows: the status of Ready, and whether Reconciling and Stalled are there
/// (True) or absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Status of the condition Ready.
    pub ready: ConditionStatus,
    /// Whether the condition Reconciling is there.
    pub reconciling: bool,
    /// Whether the condition Stalled is there.
    pub stalled: bool,
}

impl Situation {
    /// The row of the table.
    #[must_use]
    pub fn shows(self) -> Shown {
        let (ready, reconciling, stalled) = match self {
            Self::Progressing => (ConditionStatus::Unknown, true, false),
            Self::Healthy => (ConditionStatus::True, false, false),
            Self::Retrying => (ConditionStatus::False, true, false),
            Self::Stalled => (ConditionStatus::False, false, true),
            Self::PausedApplied { healthy } => (healthy.into(), false, false),
            Self::PausedNotApplied => (ConditionStatus::Unknown, false, false),
        };
        Shown { ready, reconciling, stalled }
    }

    /// Writes Ready, Reconciling and Stalled as this situation has them, with one reason and one
    /// message on each that is there. Other conditions are left alone.
    pub fn write(self, conditions: &mut Vec<Condition>, reason: Reason, message: &str, generation: i64, now: &Time) {
        let shown = self.shows();
        let rows = [
            (ConditionType::Ready, Some(shown.ready)),
            (ConditionType::Reconciling, shown.reconciling.then_some(ConditionStatus::True)),
            (ConditionType::Stalled, shown.stalled.then_some(ConditionStatus::True)),
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

    /// What a reader of status sees: Ready, Reconciling, Stalled, `-` for absent.
    fn seen(situation: Situation) -> [String; 3] {
        let now = Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        let mut conditions = Vec::new();
        // Each row starts from the fullest state, so that what must vanish is seen to vanish.
        for condition_type in [ConditionType::Reconciling, ConditionType::Stalled] {
            set(&mut conditions, condition_type, ConditionStatus::True, Reason::Applying, "", 1, &now);
        }
        situation.write(&mut conditions, Reason::Healthy, "", 2, &now);
        [ConditionType::Ready, ConditionType::Reconciling, ConditionType::Stalled]
            .map(|t| get(&conditions, t).map_or_else(|| "-".to_owned(), |c| c.status.clone()))
    }

    #[test]
    fn new_or_progressing_is_unknown_and_reconciling() {
        assert_eq!(seen(Situation::Progressing), ["Unknown", "True", "-"]);
    }

    #[test]
    fn healthy_shows_ready_alone() {
        assert_eq!(seen(Situation::Healthy), ["True", "-", "-"]);
    }

    #[test]
    fn retrying_is_not_ready_and_reconciling() {
        assert_eq!(seen(Situation::Retrying), ["False", "True", "-"]);
    }

    #[test]
    fn stalled_is_not_ready_and_stalled() {
        assert_eq!(seen(Situation::Stalled), ["False", "-", "True"]);
    }

    #[test]
    fn paused_with_the_spec_applied_shows_what_is_measured() {
        assert_eq!(seen(Situation::PausedApplied { healthy: true }), ["True", "-", "-"]);
        assert_eq!(seen(Situation::PausedApplied { healthy: false }), ["False", "-", "-"]);
    }

    #[test]
    fn paused_before_the_spec_was_applied_is_unknown() {
        assert_eq!(seen(Situation::PausedNotApplied), ["Unknown", "-", "-"]);
    }

    #[test]
    fn other_conditions_are_left_alone() {
        let now = Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        let mut conditions = Vec::new();
        set(&mut conditions, ConditionType::Available, ConditionStatus::True, Reason::Serving, "", 1, &now);
        let before = conditions.clone();
        Situation::Stalled.write(&mut conditions, Reason::InvalidSpec, "bad", 2, &now);
        assert_eq!(get(&conditions, ConditionType::Available), before.first());
    }
}
