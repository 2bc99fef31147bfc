//! The stages of a mesh's life, and how each is disturbed. Pure.

use serde_json::{Value, json};

use super::gate::{Limit, Stop};
use crate::mesh::{LAB_1_31, LAB_1_32, LAB_1_32_PATCH};

/// A stage of a mesh's life. A life is `Install`, `Upgrade`, `Rollback`, `Change`, `Uninstall` in this order, or
/// `Install`, `Forward` or `Canary`, `Uninstall`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The first release comes into an empty cluster.
    Install,
    /// The next minor.
    Upgrade,
    /// A patch whose istiod never starts.
    Rollback,
    /// A good patch; on the way to it the version is set back.
    Change,
    /// From the first release to the next minor; on the way to it the version is set to a patch of that.
    Forward,
    /// From the first release to the next minor beside it, until the first control plane is gone.
    Canary,
    /// Everything goes.
    Uninstall,
}

/// What happens at the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    /// The operator is killed.
    Killed,
    /// The spec changes.
    Changed,
}

/// The step that fails takes this long.
const SHORT: &str = "5s";
/// No step that is to succeed takes this long.
const LONG: &str = "90s";

impl Stage {
    /// Its name in a table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Upgrade => "upgrade to the next minor",
            Self::Rollback => "rollback of a patch",
            Self::Change => "upgrade to a patch, set back on the way",
            Self::Forward => "upgrade to the next minor, on the way set to its patch",
            Self::Canary => "canary of the next minor",
            Self::Uninstall => "uninstall",
        }
    }

    /// What is done to the operator in it.
    #[must_use]
    pub const fn disturbance(self) -> Disturbance {
        match self {
            Self::Change | Self::Forward => Disturbance::Changed,
            _ => Disturbance::Killed,
        }
    }

    /// The spec that it begins with; `None`: the installation is deleted.
    pub(super) fn begins(self) -> Option<Value> {
        match self {
            Self::Install => Some(spec(LAB_1_31, LONG)),
            Self::Upgrade | Self::Forward => Some(spec(LAB_1_32, LONG)),
            Self::Rollback => Some(spec(LAB_1_32_PATCH, SHORT)),
            Self::Change => Some(spec(LAB_1_32_PATCH, LONG)),
            Self::Canary => Some(canary()),
            Self::Uninstall => None,
        }
    }

    /// The spec that it is changed to on the way.
    pub(super) fn changes_to(self) -> Option<Value> {
        match self {
            Self::Change => Some(spec(LAB_1_32, LONG)),
            Self::Forward => Some(spec(LAB_1_32_PATCH, LONG)),
            _ => None,
        }
    }

    /// Where the operator is stopped after so many writes, of as many as it does undisturbed. What stops it goes by
    /// turns.
    pub(super) const fn limit(self, writes: usize, of: usize) -> Limit {
        let killed = matches!(self.disturbance(), Disturbance::Killed);
        let lost = killed && writes > 0 && (writes >= of || writes % 2 == 1);
        Limit { writes, stop: if lost { Stop::LastUnanswered } else { Stop::NextUnsent } }
    }
}

/// A mesh of some release with a gateway, whose steps may take that long.
pub(super) fn spec(version: &str, deadline: &str) -> Value {
    let gateway = json!({"name": "edge", "namespace": "edge", "service": {"type": "ClusterIP"}});
    json!({
        "version": version, "profile": "demo", "gateways": [gateway], "upgrade": {"progressDeadline": deadline},
        // So that the next life begins as this one did.
        "deletion": {"crds": "Delete"},
    })
}

/// The same, by the strategy `Canary`.
fn canary() -> Value {
    let mut spec = spec(LAB_1_32, LONG);
    if let Some(upgrade) = spec.get_mut("upgrade").and_then(Value::as_object_mut) {
        upgrade.extend([("strategy".to_owned(), "Canary".into()), ("retireAfter".to_owned(), "0s".into())]);
    }
    spec
}

/// The spec by which a mesh is what it was before a stage that came to nothing.
pub(super) fn settled() -> Value {
    spec(LAB_1_32, LONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_writes_stops_the_operator_and_both_ways_are_taken() {
        let stops: Vec<_> = (0..=4).map(|writes| Stage::Install.limit(writes, 4).stop).collect();
        let (unsent, lost) = (Stop::NextUnsent, Stop::LastUnanswered);
        assert_eq!(stops, [unsent, lost, unsent, lost, lost], "after the last write nothing is asked for any more");
        assert_eq!(Stage::Change.limit(3, 4).stop, unsent, "who lives on must have an answer");
    }
}
