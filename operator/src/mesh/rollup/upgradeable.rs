//! The condition Upgradeable: whether the mesh can be upgraded to the next minor.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use meshwright_api::MeshInstallationStatus;
use meshwright_api::conditions::{ConditionStatus, ConditionType, Reason, get, is_true, remove, set};
use semver::Version;

use crate::mesh::upgrade::skew::{minor, oldest};

/// Sets the condition, from the rest of the status.
pub(super) fn set_upgradeable(status: &mut MeshInstallationStatus, generation: i64, now: &Time) {
    let running = status.version.running.as_deref().and_then(|running| running.parse::<Version>().ok());
    let Some(running) = running else {
        remove(&mut status.conditions, ConditionType::Upgradeable);
        return;
    };
    let next = format!("{}.{}", running.major, running.minor + 1);
    let (value, reason, message) = match blocker(status, &running) {
        Some((reason, message)) => (ConditionStatus::False, reason, message),
        None => (ConditionStatus::True, Reason::NoKnownIssues, format!("{running} can be upgraded to {next}")),
    };
    set(&mut status.conditions, ConditionType::Upgradeable, value, reason, message, generation, now);
}

fn blocker(status: &MeshInstallationStatus, running: &Version) -> Option<(Reason, String)> {
    if status.upgrade.as_ref().is_some_and(|upgrade| upgrade.outcome.is_none()) {
        return Some((Reason::Upgrading, "a rollout is in progress".into()));
    }
    if !is_true(&status.conditions, ConditionType::Ready) {
        let why = get(&status.conditions, ConditionType::Ready).map(|ready| ready.reason.clone()).unwrap_or_default();
        return Some((Reason::NotReady, format!("the mesh is not Ready ({why})")));
    }
    if let Some(revision) = &status.version.retiring {
        let message = format!("previous revision {revision} still exists");
        return Some((Reason::ProxiesPresent, message));
    }
    let oldest = oldest(&status.proxies.as_ref()?.versions)?;
    (minor(&oldest) < minor(running)).then(|| {
        let message = format!(
            "pods have proxies of {oldest}, which the next minor's control plane does not support. Restart these pods; \
             meshwright status --proxies lists them"
        );
        (Reason::ProxiesTooOld, message)
    })
}

#[cfg(test)]
mod tests {
    use meshwright_api::{ProxiesStatus, UpgradeStatus};
    use serde_json::json;

    use super::*;

    fn status(ready: ConditionStatus, proxies: &[&str]) -> MeshInstallationStatus {
        let mut status = MeshInstallationStatus::default();
        status.version.running = Some("1.31.2".into());
        let versions = proxies.iter().map(|version| (*version).to_owned()).collect();
        status.proxies = Some(ProxiesStatus { versions, ..ProxiesStatus::default() });
        let now = Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        set(&mut status.conditions, ConditionType::Ready, ready, Reason::Healthy, "", 1, &now);
        status
    }

    fn upgradeable(mut status: MeshInstallationStatus) -> Option<String> {
        set_upgradeable(&mut status, 1, &Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH));
        let condition = get(&status.conditions, ConditionType::Upgradeable)?;
        Some(format!("{} {}", condition.status, condition.reason))
    }

    #[test]
    fn ready_mesh_with_current_proxies_is_upgradeable() {
        assert_eq!(
            upgradeable(status(ConditionStatus::True, &["1.31.2", "Unknown"])).as_deref(),
            Some("True NoKnownIssues")
        );
        assert_eq!(upgradeable(status(ConditionStatus::True, &["1.31.0"])).as_deref(), Some("True NoKnownIssues"));
        assert_eq!(upgradeable(MeshInstallationStatus::default()), None);
    }

    #[test]
    fn older_proxies_block_upgrade() {
        assert_eq!(
            upgradeable(status(ConditionStatus::True, &["1.30.9", "1.31.2"])).as_deref(),
            Some("False ProxiesTooOld")
        );
    }

    #[test]
    fn unready_or_upgrading_mesh_is_not_upgradeable() {
        assert_eq!(upgradeable(status(ConditionStatus::Unknown, &[])).as_deref(), Some("False NotReady"));
        let mut retiring = status(ConditionStatus::True, &[]);
        retiring.version.retiring = Some("1-30-9".into());
        assert_eq!(upgradeable(retiring).as_deref(), Some("False ProxiesPresent"));
        let mut upgrading = status(ConditionStatus::Unknown, &[]);
        let upgrade = json!({"from": "1.31.2", "to": "1.32.0", "direction": "Forward", "controllerRevision": "r", "step": "RBAC",
            "startedAt": "1970-01-01T00:00:00Z", "stepStartedAt": "1970-01-01T00:00:00Z"});
        upgrading.upgrade = Some(serde_json::from_value::<UpgradeStatus>(upgrade).unwrap());
        assert_eq!(upgradeable(upgrading).as_deref(), Some("False Upgrading"));
    }
}
