//! The condition Upgradeable: whether the mesh can be upgraded to the next minor.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use meshwright_api::MeshInstallationStatus;
use meshwright_api::conditions::{ConditionStatus, ConditionType, Reason, get, is_true, remove, set};
use semver::Version;

use crate::mesh::upgrade::skew::{minor, oldest};
use crate::proxies::ReportedProxies;

/// Sets the condition, from the rest of the status and the running proxies. While these are unknown, a condition that
/// they caused stays.
pub(super) fn set_upgradeable(
    status: &mut MeshInstallationStatus,
    proxies: Option<&ReportedProxies>,
    generation: i64,
    now: &Time,
) {
    let running = status.version.running.as_deref().and_then(|running| running.parse::<Version>().ok());
    let Some(running) = running else {
        remove(&mut status.conditions, ConditionType::Upgradeable);
        return;
    };
    let next = format!("{}.{}", running.major, running.minor + 1);
    let (value, reason, message) = match blocker(status, proxies, &running) {
        Some((reason, message)) => (ConditionStatus::False, reason, message),
        None => (ConditionStatus::True, Reason::NoKnownIssues, format!("{running} can be upgraded to {next}")),
    };
    set(&mut status.conditions, ConditionType::Upgradeable, value, reason, message, generation, now);
}

fn blocker(
    status: &MeshInstallationStatus,
    proxies: Option<&ReportedProxies>,
    running: &Version,
) -> Option<(Reason, String)> {
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
    let Some(proxies) = proxies else {
        let previous = get(&status.conditions, ConditionType::Upgradeable);
        let too_old = previous.filter(|condition| condition.reason == Reason::ProxiesTooOld.as_str())?;
        return Some((Reason::ProxiesTooOld, too_old.message.clone()));
    };
    let oldest = oldest(&proxies.serving)?;
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
    use meshwright_api::UpgradeStatus;
    use serde_json::json;

    use super::*;

    fn status(ready: ConditionStatus) -> MeshInstallationStatus {
        let mut status = MeshInstallationStatus::default();
        status.version.running = Some("1.31.2".into());
        let now = Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        set(&mut status.conditions, ConditionType::Ready, ready, Reason::Healthy, "", 1, &now);
        status
    }

    fn seen(versions: &[&str], serving: &[&str]) -> ReportedProxies {
        let owned = |all: &[&str]| all.iter().map(|version| (*version).to_owned()).collect();
        ReportedProxies { versions: owned(versions), serving: owned(serving), ..ReportedProxies::default() }
    }

    fn upgradeable(status: &mut MeshInstallationStatus, proxies: Option<&ReportedProxies>) -> Option<String> {
        set_upgradeable(status, proxies, 1, &Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH));
        let condition = get(&status.conditions, ConditionType::Upgradeable)?;
        Some(format!("{} {}", condition.status, condition.reason))
    }

    fn with_proxies(serving: &[&str]) -> Option<String> {
        upgradeable(&mut status(ConditionStatus::True), Some(&seen(serving, serving)))
    }

    #[test]
    fn ready_mesh_with_current_proxies_is_upgradeable() {
        assert_eq!(with_proxies(&["1.31.2", "Unknown"]).as_deref(), Some("True NoKnownIssues"));
        assert_eq!(with_proxies(&["1.31.0"]).as_deref(), Some("True NoKnownIssues"));
        assert_eq!(upgradeable(&mut MeshInstallationStatus::default(), Some(&seen(&[], &[]))), None);
    }

    #[test]
    fn older_proxies_block_upgrade_while_they_serve() {
        assert_eq!(with_proxies(&["1.30.9", "1.31.2"]).as_deref(), Some("False ProxiesTooOld"));
        let mut status = status(ConditionStatus::True);
        let (old, broken) = (seen(&["1.30.9"], &["1.30.9"]), seen(&["1.30.9"], &[]));
        assert_eq!(upgradeable(&mut status, Some(&old)).as_deref(), Some("False ProxiesTooOld"));
        assert_eq!(upgradeable(&mut status, None).as_deref(), Some("False ProxiesTooOld"), "no pods listed yet");
        assert_eq!(upgradeable(&mut status, Some(&broken)).as_deref(), Some("True NoKnownIssues"));
        assert_eq!(upgradeable(&mut status, None).as_deref(), Some("True NoKnownIssues"));
    }

    #[test]
    fn unready_or_upgrading_mesh_is_not_upgradeable() {
        let none = seen(&[], &[]);
        let mut unready = status(ConditionStatus::Unknown);
        assert_eq!(upgradeable(&mut unready, Some(&none)).as_deref(), Some("False NotReady"));
        let mut retiring = status(ConditionStatus::True);
        retiring.version.retiring = Some("1-30-9".into());
        assert_eq!(upgradeable(&mut retiring, Some(&none)).as_deref(), Some("False ProxiesPresent"));
        let mut upgrading = status(ConditionStatus::Unknown);
        let upgrade = json!({"from": "1.31.2", "to": "1.32.0", "direction": "Forward", "controllerRevision": "r", "step": "RBAC",
            "startedAt": "1970-01-01T00:00:00Z", "stepStartedAt": "1970-01-01T00:00:00Z"});
        upgrading.upgrade = Some(serde_json::from_value::<UpgradeStatus>(upgrade).unwrap());
        assert_eq!(upgradeable(&mut upgrading, Some(&none)).as_deref(), Some("False Upgrading"));
    }
}
