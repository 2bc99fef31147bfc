//! Whether a change is an upgrade or a rollback.
//!
//! A newer injection template can use fields that an older istiod doesn't know, which then denies every pod; an older
//! template is understood by all. [`super::configuration_order`] decides whether istiod or its configuration goes first.

use meshwright_api::UpgradeDirection;
use semver::Version;

use crate::mesh::object::Component;
use crate::mesh::observed::{ObjectState, ObservedObjects};

/// The direction of the change to `to`. `last_known_good` is the release that was Ready last, whose pods may still run
/// during a rollout. `newer_abandoned`: the rollout of a newer release was started and given up.
#[must_use]
pub fn direction(
    to: &Version,
    live: &ObservedObjects,
    last_known_good: Option<&Version>,
    newer_abandoned: bool,
) -> UpgradeDirection {
    let istiod = || live.iter().filter(|(_, live)| live.ownership.component == Some(Component::Istiod));
    let newer_configuration = istiod().any(|(key, live)| {
        key.is_injector_configuration() && live.ownership.release.as_ref().is_some_and(|is| is > to)
    });
    let control_planes = || {
        istiod().filter_map(|(_, live)| match &live.state {
            ObjectState::Workload(workload) => Some((live.ownership.release.as_ref()?, workload)),
            _ => None,
        })
    };
    let newer = newer_abandoned || control_planes().any(|(release, workload)| workload.available > 0 && release > to);
    // An unavailable one may become available at any time.
    let older = control_planes().any(|(release, workload)| {
        let oldest = if workload.complete() {
            release
        } else {
            last_known_good.map_or(release, |last_known_good| last_known_good.min(release))
        };
        oldest < to
    });
    if newer_configuration || (newer && !older) { UpgradeDirection::Rollback } else { UpgradeDirection::Forward }
}

#[cfg(test)]
mod tests {
    use UpgradeDirection::{Forward, Rollback};
    use serde_json::{Value, json};

    use super::*;
    use crate::mesh::kind::Kind;
    use crate::mesh::object::ObjectKey;
    use crate::mesh::observed::ObservedObject;

    /// istiod's Deployment and the injector's ConfigMap, each of the given release.
    fn mesh(istiod: &str, pods: &Value, configuration: &str) -> ObservedObjects {
        let object = |kind: Kind, name: &str, release: &str, status: &Value| {
            let object = json!({
                "metadata": {
                    "name": name, "namespace": "istio-system", "uid": name, "resourceVersion": "1", "generation": 1,
                    "labels": {"meshwright.dev/installation": "mesh", "meshwright.dev/component": "istiod"},
                    "annotations": {"meshwright.dev/release": release},
                },
                "spec": {"replicas": 1}, "status": status,
            });
            let key = ObjectKey { kind, namespace: Some("istio-system".into()), name: name.into() };
            (key, ObservedObject::of(kind, &object, None, None))
        };
        ObservedObjects::from([
            object(Kind::Deployment, "istiod", istiod, pods),
            object(Kind::ConfigMap, "istio-sidecar-injector", configuration, &json!({})),
        ])
    }

    fn rolled_out() -> Value {
        json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1})
    }

    /// The new pod is not available yet, and the old one is.
    fn rollout_in_progress() -> Value {
        json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1})
    }

    fn to(to: &str, live: &ObservedObjects, newer_abandoned: bool) -> UpgradeDirection {
        direction(&to.parse().unwrap(), live, Some(&Version::new(1, 31, 0)), newer_abandoned)
    }

    #[test]
    fn newer_release_is_forward_older_is_rollback() {
        let mesh = mesh("1.32.1", &rolled_out(), "1.32.1");
        assert_eq!(to("1.32.2", &mesh, false), Forward);
        assert_eq!(to("1.32.0", &mesh, false), Rollback);
    }

    #[test]
    fn abandoned_rollout_does_not_reverse_direction() {
        // 1.32.2 has no available pod; 1.31.0 has, and can't read the template of 1.32.1.
        assert_eq!(to("1.32.1", &mesh("1.31.0", &rolled_out(), "1.31.0"), true), Forward);
        assert_eq!(to("1.32.1", &mesh("1.32.2", &rollout_in_progress(), "1.31.0"), true), Forward);
        // Once 1.32.2 is rolled out, 1.32.1 is a rollback.
        assert_eq!(to("1.32.1", &mesh("1.32.2", &rolled_out(), "1.31.0"), true), Rollback);
    }

    #[test]
    fn abandoned_release_is_rolled_back() {
        assert_eq!(to("1.31.0", &mesh("1.32.2", &rollout_in_progress(), "1.31.0"), true), Rollback);
        assert_eq!(to("1.31.0", &mesh("1.31.0", &rollout_in_progress(), "1.31.0"), true), Rollback);
        // A pod of 1.32.2 has crashed, and its configuration is applied.
        assert_eq!(to("1.32.1", &mesh("1.32.2", &rollout_in_progress(), "1.32.2"), false), Rollback);
    }
}
