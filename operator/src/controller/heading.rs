//! What an installation is to be brought to, by what is remembered of it. Pure.

use meshwright_api::OnFailure;
use meshwright_api::conditions::Reason;

use crate::mesh::health::Blocker;
use crate::mesh::revision::{Record, Verdict};

/// What is to be done about the newest record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Heading<'a> {
    /// It is followed.
    Follow(&'a Record),
    /// It has failed, and everything stays as it was then.
    Halted(&'a Record),
    /// It has failed, and the one before is being brought back.
    Back {
        /// What is brought back.
        to: &'a Record,
        /// What has failed.
        from: &'a Record,
    },
    /// It has failed, and the one before runs again.
    RolledBack {
        /// What runs.
        to: &'a Record,
        /// What has failed.
        from: &'a Record,
    },
}

impl<'a> Heading<'a> {
    /// The heading that these records make, oldest first; `None` where nothing is remembered.
    #[must_use]
    pub fn of(records: &'a [Record]) -> Option<Self> {
        let last = records.last()?;
        Some(match (last.verdict, last_good(records)) {
            (Verdict::Failed, _) if last.inputs.spec.upgrade.on_failure == OnFailure::Halt => Self::Halted(last),
            (Verdict::Failed, Some(to)) => Self::Back { to, from: last },
            (Verdict::RolledBack, Some(to)) => Self::RolledBack { to, from: last },
            _ => Self::Follow(last),
        })
    }

    /// The record that the mesh is brought to.
    #[must_use]
    pub const fn target(&self) -> &'a Record {
        match self {
            Self::Follow(record) | Self::Halted(record) => record,
            Self::Back { to, .. } | Self::RolledBack { to, .. } => to,
        }
    }

    /// Why the present spec isn't followed, where that is certain.
    #[must_use]
    pub fn stall(&self) -> Option<Blocker> {
        let why = |record: &Record| record.failure.clone().unwrap_or_else(|| "the reason is no longer known".into());
        match self {
            Self::Follow(_) | Self::Back { .. } => None,
            Self::Halted(record) => Some(Blocker {
                reason: Reason::Halted,
                message: format!(
                    "moving to {} was halted: {}. To go on, change the spec: another version, other values, a longer \
                     spec.upgrade.progressDeadline; or set spec.upgrade.onFailure to Rollback",
                    record.inputs.version,
                    why(record)
                ),
            }),
            Self::RolledBack { to, from } => Some(Blocker {
                reason: Reason::RolledBack,
                message: format!(
                    "moving to {} failed, and {} runs again: {}. The same spec is not tried again until it changes",
                    from.inputs.version,
                    to.inputs.version,
                    why(from)
                ),
            }),
        }
    }
}

/// The newest record that was Ready, and that no later one has replaced.
#[must_use]
pub fn last_good(records: &[Record]) -> Option<&Record> {
    records.iter().rev().find(|record| record.verdict == Verdict::Proved)
}

/// The records other than the one of this name: first what was Ready, then what is newest.
#[must_use]
pub fn by_trust<'r>(records: &'r [Record], name: &str) -> Vec<&'r Record> {
    let mut others: Vec<&Record> = records.iter().filter(|other| other.name != name).collect();
    others.sort_by_key(|other| (other.verdict != Verdict::Proved, std::cmp::Reverse(other.number)));
    others
}

#[cfg(test)]
mod tests {
    use semver::Version;
    use serde_json::json;

    use super::*;
    use crate::mesh::revision::ResolvedInputs;

    fn record(number: i64, verdict: Verdict, on_failure: &str) -> Record {
        let spec = json!({"version": "1.31", "upgrade": {"onFailure": on_failure}});
        let inputs = ResolvedInputs {
            spec: serde_json::from_value(spec).unwrap(),
            version: Version::new(1, 31, 2),
            charts: std::collections::BTreeMap::new(),
            revision: None,
            kubernetes: "v1.33.0".into(),
            platform: crate::platform::Detected::default(),
            node_ports: crate::nodeports::Pins::default(),
        };
        let failure = (verdict == Verdict::Failed).then(|| "no image".to_owned());
        Record { name: format!("r{number}"), number, inputs, verdict, failure, uid: "u".into() }
    }

    #[test]
    fn what_has_failed_gives_way_to_what_was_ready_before() {
        let records = [record(1, Verdict::Proved, "Rollback"), record(2, Verdict::Failed, "Rollback")];
        let heading = Heading::of(&records).unwrap();
        assert_eq!(heading, Heading::Back { to: &records[0], from: &records[1] });
        assert_eq!((heading.target().number, heading.stall()), (1, None));
    }

    #[test]
    fn halted_stays_where_it_is_and_says_why_and_how_to_go_on() {
        let records = [record(1, Verdict::Proved, "Halt"), record(2, Verdict::Failed, "Halt")];
        let heading = Heading::of(&records).unwrap();
        let stall = heading.stall().unwrap();
        assert_eq!((heading.target().number, stall.reason), (2, Reason::Halted));
        assert!(stall.message.contains("no image") && stall.message.contains("change the spec"), "{}", stall.message);
    }

    #[test]
    fn what_is_rolled_back_is_not_tried_again_and_what_never_ran_is() {
        let records = [record(1, Verdict::Proved, "Rollback"), record(2, Verdict::RolledBack, "Rollback")];
        assert_eq!(Heading::of(&records).unwrap().stall().unwrap().reason, Reason::RolledBack);
        let first = [record(1, Verdict::Failed, "Rollback")];
        assert_eq!(Heading::of(&first), Some(Heading::Follow(&first[0])));
        assert_eq!(Heading::of(&[]), None);
    }
}
