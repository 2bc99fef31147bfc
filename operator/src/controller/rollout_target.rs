//! Selects the revision that a reconcile rolls out, from the revision history. Pure.

use meshwright_api::OnFailure;
use meshwright_api::conditions::Reason;

use crate::mesh::health::Blocker;
use crate::mesh::revision::{RevisionRecord, RevisionVerdict};

/// The revision to reconcile, by the state of the newest one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RolloutTarget<'a> {
    /// The newest revision.
    Current(&'a RevisionRecord),
    /// The newest revision, which has failed and stays as it is (`onFailure: Halt`).
    Halted(&'a RevisionRecord),
    /// The last known good revision, while it replaces the failed one.
    RollingBack {
        /// The last known good revision.
        to: &'a RevisionRecord,
        /// The failed revision.
        from: &'a RevisionRecord,
    },
    /// The last known good revision, after a completed rollback.
    RolledBack {
        /// The last known good revision.
        to: &'a RevisionRecord,
        /// The failed revision.
        from: &'a RevisionRecord,
    },
}

impl<'a> RolloutTarget<'a> {
    /// Selects the target from the history, oldest first; `None` if it is empty.
    #[must_use]
    pub fn of(records: &'a [RevisionRecord]) -> Option<Self> {
        let last = records.last()?;
        Some(match (last.verdict, last_known_good(records)) {
            (RevisionVerdict::Failed, _) if last.inputs.spec.upgrade.on_failure == OnFailure::Halt => {
                Self::Halted(last)
            }
            (RevisionVerdict::Failed, Some(to)) => Self::RollingBack { to, from: last },
            (RevisionVerdict::RolledBack, Some(to)) => Self::RolledBack { to, from: last },
            _ => Self::Current(last),
        })
    }

    /// The revision to reconcile.
    #[must_use]
    pub const fn target(&self) -> &'a RevisionRecord {
        match self {
            Self::Current(record) | Self::Halted(record) => record,
            Self::RollingBack { to, .. } | Self::RolledBack { to, .. } => to,
        }
    }

    /// The blocker for a spec that was halted or rolled back.
    #[must_use]
    pub fn stall(&self) -> Option<Blocker> {
        let cause =
            |record: &RevisionRecord| record.failure.clone().unwrap_or_else(|| "the cause was not recorded".into());
        match self {
            Self::Current(_) | Self::RollingBack { .. } => None,
            Self::Halted(record) => Some(Blocker {
                reason: Reason::Halted,
                message: format!(
                    "the rollout of Istio {} was halted. {}; to continue, change the spec: version, values, \
                     spec.upgrade.progressDeadline, or spec.upgrade.onFailure: Rollback",
                    record.inputs.version,
                    cause(record)
                ),
            }),
            Self::RolledBack { to, from } => Some(Blocker {
                reason: Reason::RolledBack,
                message: format!(
                    "the rollout of Istio {} failed and was rolled back to {}. {}; the operator retries when the spec \
                     changes",
                    from.inputs.version,
                    to.inputs.version,
                    cause(from)
                ),
            }),
        }
    }
}

/// The newest deployed revision that no later one has superseded.
#[must_use]
pub fn last_known_good(records: &[RevisionRecord]) -> Option<&RevisionRecord> {
    records.iter().rev().find(|record| record.verdict == RevisionVerdict::Deployed)
}

/// Whether objects of a revision may be live: it is the last known good one, or was tried since. Later ones that were
/// Ready have replaced all objects of earlier ones.
#[must_use]
pub fn may_be_live(records: &[RevisionRecord], record: &RevisionRecord) -> bool {
    last_known_good(records).is_none_or(|good| record.number >= good.number)
        && !matches!(record.verdict, RevisionVerdict::Superseded | RevisionVerdict::RolledBack)
}

/// All revisions but the one of this name: deployed ones first, then the newest.
#[must_use]
pub fn previous_records<'r>(records: &'r [RevisionRecord], name: &str) -> Vec<&'r RevisionRecord> {
    let mut others: Vec<&RevisionRecord> = records.iter().filter(|other| other.name != name).collect();
    others.sort_by_key(|other| (other.verdict != RevisionVerdict::Deployed, std::cmp::Reverse(other.number)));
    others
}

#[cfg(test)]
mod tests {
    use semver::Version;
    use serde_json::json;

    use super::*;

    fn record(number: i64, verdict: RevisionVerdict, on_failure: &str) -> RevisionRecord {
        let spec = json!({"version": "1.31", "upgrade": {"onFailure": on_failure}});
        let spec = serde_json::from_value(spec).unwrap();
        let sample = RevisionRecord::sample(number, spec, Version::new(1, 31, 2));
        let failure = (verdict == RevisionVerdict::Failed).then(|| "no image".to_owned());
        RevisionRecord { name: format!("r{number}"), verdict, failure, ..sample }
    }

    #[test]
    fn failed_revision_is_rolled_back() {
        let records =
            [record(1, RevisionVerdict::Deployed, "Rollback"), record(2, RevisionVerdict::Failed, "Rollback")];
        let target = RolloutTarget::of(&records).unwrap();
        assert_eq!(target, RolloutTarget::RollingBack { to: &records[0], from: &records[1] });
        assert_eq!((target.target().number, target.stall()), (1, None));
    }

    #[test]
    fn halted_revision_reports_cause_and_remedy() {
        let records = [record(1, RevisionVerdict::Deployed, "Halt"), record(2, RevisionVerdict::Failed, "Halt")];
        let target = RolloutTarget::of(&records).unwrap();
        let stall = target.stall().unwrap();
        assert_eq!((target.target().number, stall.reason), (2, Reason::Halted));
        assert!(stall.message.contains("no image") && stall.message.contains("change the spec"), "{}", stall.message);
    }

    #[test]
    fn revisions_since_last_known_good_may_be_live() {
        use RevisionVerdict::{Deployed, Failed, Pending, RolledBack, Superseded};
        let records: Vec<RevisionRecord> = [Pending, Superseded, Deployed, RolledBack, Failed, Pending]
            .into_iter()
            .zip(1..)
            .map(|(verdict, number)| record(number, verdict, "Rollback"))
            .collect();
        let live: Vec<i64> =
            records.iter().filter(|record| may_be_live(&records, record)).map(|record| record.number).collect();
        assert_eq!(live, [3, 5, 6]);
        let never_ready = [record(1, Failed, "Rollback"), record(2, Pending, "Rollback")];
        assert!(never_ready.iter().all(|record| may_be_live(&never_ready, record)));
    }

    #[test]
    fn rolled_back_revision_is_not_retried() {
        let records =
            [record(1, RevisionVerdict::Deployed, "Rollback"), record(2, RevisionVerdict::RolledBack, "Rollback")];
        assert_eq!(RolloutTarget::of(&records).unwrap().stall().unwrap().reason, Reason::RolledBack);
        let first = [record(1, RevisionVerdict::Failed, "Rollback")];
        assert_eq!(RolloutTarget::of(&first), Some(RolloutTarget::Current(&first[0])));
        assert_eq!(RolloutTarget::of(&[]), None);
    }
}
