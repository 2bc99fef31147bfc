//! Whether the mesh that runs may be moved to the next minor.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use meshwright_api::MeshInstallationStatus;
use meshwright_api::conditions::{ConditionStatus, ConditionType, Reason, get, is_true, remove, set};
use semver::Version;

use crate::mesh::upgrade::skew::{minor, oldest};

/// Tells it, by all else that the status says.
pub(super) fn tell(status: &mut MeshInstallationStatus, generation: i64, now: &Time) {
    let running = status.version.running.as_deref().and_then(|running| running.parse::<Version>().ok());
    let Some(running) = running else {
        remove(&mut status.conditions, ConditionType::Upgradeable);
        return;
    };
    let next = format!("{}.{}", running.major, running.minor + 1);
    let (value, reason, message) = match in_the_way(status, &running) {
        Some((reason, message)) => (ConditionStatus::False, reason, message),
        None => {
            (ConditionStatus::True, Reason::NothingInTheWay, format!("{running} may be moved to a release of {next}"))
        }
    };
    set(&mut status.conditions, ConditionType::Upgradeable, value, reason, message, generation, now);
}

fn in_the_way(status: &MeshInstallationStatus, running: &Version) -> Option<(Reason, String)> {
    if status.upgrade.as_ref().is_some_and(|upgrade| upgrade.outcome.is_none()) {
        return Some((Reason::Upgrading, "the mesh is on its way to a changed spec".into()));
    }
    if !is_true(&status.conditions, ConditionType::Ready) {
        let why = get(&status.conditions, ConditionType::Ready).map(|ready| ready.reason.clone()).unwrap_or_default();
        return Some((Reason::NotReady, format!("the mesh is not Ready ({why})")));
    }
    if let Some(revision) = &status.version.retiring {
        let message = format!("revision {revision}, which ran before, is still there");
        return Some((Reason::ProxiesPresent, message));
    }
    let oldest = oldest(&status.proxies.as_ref()?.versions)?;
    (minor(&oldest) < minor(running)).then(|| {
        let message = format!(
            "pods have proxies of {oldest}, which a control plane of the next minor is not meant for: restart them; \
             meshwright status --proxies names them"
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

    fn told(mut status: MeshInstallationStatus) -> Option<String> {
        tell(&mut status, 1, &Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH));
        let condition = get(&status.conditions, ConditionType::Upgradeable)?;
        Some(format!("{} {}", condition.status, condition.reason))
    }

    #[test]
    fn a_ready_mesh_with_its_own_proxies_may_be_upgraded_and_none_without_a_mesh() {
        assert_eq!(
            told(status(ConditionStatus::True, &["1.31.2", "Unknown"])).as_deref(),
            Some("True NothingInTheWay")
        );
        assert_eq!(told(status(ConditionStatus::True, &["1.31.0"])).as_deref(), Some("True NothingInTheWay"));
        assert_eq!(told(MeshInstallationStatus::default()), None);
    }

    #[test]
    fn proxies_of_an_older_minor_come_first() {
        assert_eq!(told(status(ConditionStatus::True, &["1.30.9", "1.31.2"])).as_deref(), Some("False ProxiesTooOld"));
    }

    #[test]
    fn a_mesh_that_isnt_ready_or_on_its_way_or_has_two_control_planes_is_left_alone() {
        assert_eq!(told(status(ConditionStatus::Unknown, &[])).as_deref(), Some("False NotReady"));
        let mut retiring = status(ConditionStatus::True, &[]);
        retiring.version.retiring = Some("1-30-9".into());
        assert_eq!(told(retiring).as_deref(), Some("False ProxiesPresent"));
        let mut moving = status(ConditionStatus::Unknown, &[]);
        let way = json!({"from": "1.31.2", "to": "1.32.0", "direction": "Forward", "record": "r", "step": "Rights",
            "startedAt": "1970-01-01T00:00:00Z", "stepStartedAt": "1970-01-01T00:00:00Z"});
        moving.upgrade = Some(serde_json::from_value::<UpgradeStatus>(way).unwrap());
        assert_eq!(told(moving).as_deref(), Some("False Upgrading"));
    }
}
