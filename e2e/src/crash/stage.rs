//! The stages of a mesh's lifecycle and their interruptions.

use serde_json::{Value, json};

use super::gate::{StopMode, WriteLimit};
use crate::mesh::{LAB_1_31, LAB_1_32, LAB_1_32_PATCH};

/// A stage of a mesh's lifecycle. A lifecycle is `Install`, `Upgrade`, `Rollback`, `Revert`, `Uninstall` in this order,
/// or `Install`, then `Retarget` or `Canary`, then `Uninstall`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Installs the first release.
    Install,
    /// Upgrades to the next minor version.
    Upgrade,
    /// Upgrades to a patch release whose istiod never starts, so that the operator rolls back.
    Rollback,
    /// Upgrades to a patch release; the previous version is restored in the spec during the upgrade.
    Revert,
    /// Upgrades to the next minor version; the spec changes to a patch release of it during the upgrade.
    Retarget,
    /// Upgrades to the next minor version as a canary, until the previous control plane is removed.
    Canary,
    /// Uninstalls the mesh.
    Uninstall,
}

/// What happens at the write limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interruption {
    /// The operator is killed and restarted.
    OperatorKilled,
    /// The spec changes.
    SpecChanged,
}

/// Deadline of a step that fails.
const SHORT_DEADLINE: &str = "5s";
/// Deadline of a step that succeeds.
const LONG_DEADLINE: &str = "90s";

impl Stage {
    /// Name in the result table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Upgrade => "upgrade to the next minor version",
            Self::Rollback => "rollback of a patch release",
            Self::Revert => "upgrade to a patch release, reverted during the upgrade",
            Self::Retarget => "upgrade to the next minor version, changed to its patch release during the upgrade",
            Self::Canary => "canary upgrade to the next minor version",
            Self::Uninstall => "uninstall",
        }
    }

    /// How the stage is interrupted.
    #[must_use]
    pub const fn interruption(self) -> Interruption {
        match self {
            Self::Revert | Self::Retarget => Interruption::SpecChanged,
            _ => Interruption::OperatorKilled,
        }
    }

    /// Spec at the start of the stage; `None` deletes the installation.
    pub(super) fn initial_spec(self) -> Option<Value> {
        match self {
            Self::Install => Some(spec(LAB_1_31, LONG_DEADLINE)),
            Self::Upgrade | Self::Retarget => Some(spec(LAB_1_32, LONG_DEADLINE)),
            Self::Rollback => Some(spec(LAB_1_32_PATCH, SHORT_DEADLINE)),
            Self::Revert => Some(spec(LAB_1_32_PATCH, LONG_DEADLINE)),
            Self::Canary => Some(canary_spec()),
            Self::Uninstall => None,
        }
    }

    /// Spec after the interruption, if it changes.
    pub(super) fn changed_spec(self) -> Option<Value> {
        match self {
            Self::Revert => Some(spec(LAB_1_32, LONG_DEADLINE)),
            Self::Retarget => Some(spec(LAB_1_32_PATCH, LONG_DEADLINE)),
            _ => None,
        }
    }

    /// Write limit for an interruption after `writes` of `total` writes. Odd numbers of writes lose the last response.
    pub(super) const fn limit(self, writes: usize, total: usize) -> WriteLimit {
        let killed = matches!(self.interruption(), Interruption::OperatorKilled);
        let lost = killed && writes > 0 && (writes >= total || writes % 2 == 1);
        WriteLimit { writes, mode: if lost { StopMode::ResponseLost } else { StopMode::BeforeNextWrite } }
    }
}

/// A mesh with a gateway and this deadline for each upgrade step.
pub(super) fn spec(version: &str, deadline: &str) -> Value {
    let gateway = json!({"name": "edge", "namespace": "edge", "service": {"type": "ClusterIP"}});
    json!({
        "version": version, "profile": "demo", "gateways": [gateway], "upgrade": {"progressDeadline": deadline},
        // Every lifecycle starts without Istio's CRDs.
        "deletion": {"crds": "Delete"},
    })
}

fn canary_spec() -> Value {
    let mut spec = spec(LAB_1_32, LONG_DEADLINE);
    if let Some(upgrade) = spec.get_mut("upgrade").and_then(Value::as_object_mut) {
        upgrade.extend([("strategy".to_owned(), "Canary".into()), ("retireAfter".to_owned(), "0s".into())]);
    }
    spec
}

/// Spec that restores the mesh after a failed stage.
pub(super) fn settled_spec() -> Value {
    spec(LAB_1_32, LONG_DEADLINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternates_between_both_stop_modes() {
        let modes: Vec<_> = (0..=4).map(|writes| Stage::Install.limit(writes, 4).mode).collect();
        let (unsent, lost) = (StopMode::BeforeNextWrite, StopMode::ResponseLost);
        assert_eq!(modes, [unsent, lost, unsent, lost, lost], "no write follows the last one");
        assert_eq!(Stage::Revert.limit(3, 4).mode, unsent, "a running operator needs every response");
    }
}
