//! Whether istiod's configuration is updated before or after istiod.
//!
//! The order protects one thing: an injection template must not be newer than an istiod that may serve injection. Within one
//! release there is nothing to protect, and the configuration goes first, so that a corrected value reaches an istiod
//! that can't start with the old one. The same holds for any release once no istiod has answered for a while.

use std::sync::Arc;
use std::time::Duration;

use meshwright_api::UpgradeDirection;

use super::plan::is_control_plane;
use crate::mesh::object::{Component, DesiredObject};
use crate::mesh::observed::{ObjectState, ObservedObjects, WorkloadStatus};

/// How long no istiod pod must have been ready before its configuration is no longer protected. A pod that is replaced or
/// moved to another node is away for less.
const UNREADY_FOR: Duration = Duration::from_mins(1);

/// Whether istiod's configuration is updated before or after istiod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigurationOrder {
    /// The configuration first.
    BeforeControlPlane,
    /// istiod first, since an older one could not use the new injection template.
    AfterControlPlane,
}

impl ConfigurationOrder {
    /// The order of an upgrade. `same_release`: all revisions that live objects may belong to have the target's release.
    /// `is_down`: see [`is_down`].
    #[must_use]
    pub const fn new(direction: UpgradeDirection, same_release: bool, is_down: bool) -> Self {
        match direction {
            UpgradeDirection::Forward if !same_release && !is_down => Self::AfterControlPlane,
            UpgradeDirection::Forward | UpgradeDirection::Rollback => Self::BeforeControlPlane,
        }
    }
}

/// Whether the target changes a control plane of these revisions within its release. A canary changes none: its
/// configuration is its own.
#[must_use]
pub fn is_same_release(target: &[Arc<DesiredObject>], sources: &[&[Arc<DesiredObject>]]) -> bool {
    let release = target.iter().find_map(|desired| desired.release.as_ref());
    let control_plane = target.iter().find(|desired| is_control_plane(desired)).map(|desired| &desired.key);
    let sources = || sources.iter().copied().flatten();
    sources().filter_map(|desired| desired.release.as_ref()).all(|source| Some(source) == release)
        && sources().filter(|desired| is_control_plane(desired)).any(|desired| Some(&desired.key) == control_plane)
}

/// Whether an istiod pod of the mesh is ready, and may answer.
#[must_use]
pub fn has_ready_istiod(live: &ObservedObjects) -> bool {
    istiods(live).any(|istiod| istiod.available > 0 || istiod.ready_replicas > 0)
}

/// Whether the mesh has an istiod whose pods can't be expected to answer. `away_for`: how long no pod has been ready. The
/// Deployment's condition `Available` does not show that: it is False if one of two pods is unavailable.
#[must_use]
pub fn is_down(live: &ObservedObjects, away_for: Duration) -> bool {
    away_for >= UNREADY_FOR && !has_ready_istiod(live) && istiods(live).next().is_some()
}

fn istiods(live: &ObservedObjects) -> impl Iterator<Item = &WorkloadStatus> {
    live.values().filter_map(|live| match &live.state {
        ObjectState::Workload(workload) if live.ownership.component == Some(Component::Istiod) => Some(workload),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mesh::kind::Kind;
    use crate::mesh::object::ObjectKey;
    use crate::mesh::observed::ObservedObject;

    const MINUTE: Duration = Duration::from_mins(1);

    /// istiod with two replicas.
    fn istiod(ready: i32, available: i32) -> ObservedObjects {
        let object = json!({
            "metadata": {
                "name": "istiod", "namespace": "istio-system", "uid": "u", "resourceVersion": "1", "generation": 1,
                "labels": {"meshwright.dev/installation": "mesh", "meshwright.dev/component": "istiod"},
            },
            "spec": {"replicas": 2},
            "status": {
                "observedGeneration": 1, "replicas": 2, "updatedReplicas": 2,
                "readyReplicas": ready, "availableReplicas": available,
                // One of the two has been crashing for long.
                "conditions": [{"type": "Available", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            },
        });
        let key = ObjectKey { kind: Kind::Deployment, namespace: Some("istio-system".into()), name: "istiod".into() };
        ObservedObjects::from([(key, ObservedObject::of(Kind::Deployment, &object, None, None))])
    }

    #[test]
    fn istiod_is_down_after_a_minute() {
        assert!(is_down(&istiod(0, 0), MINUTE));
        assert!(!is_down(&istiod(0, 0), Duration::from_secs(5)), "its pod was replaced");
        assert!(!is_down(&ObservedObjects::new(), MINUTE), "nothing is known");
    }

    #[test]
    fn one_ready_replica_is_enough() {
        assert!(!is_down(&istiod(1, 1), MINUTE));
        assert!(!is_down(&istiod(1, 0), MINUTE), "ready, but not for minReadySeconds yet");
        assert!(!is_down(&istiod(0, 0), Duration::from_secs(59)), "the other one has become unready, too");
    }

    #[test]
    fn only_another_release_updates_istiod_first() {
        use UpgradeDirection::{Forward, Rollback};
        let orders = [(Forward, true, false), (Forward, false, true), (Rollback, false, false)];
        for (direction, same_release, is_down) in orders {
            let order = ConfigurationOrder::new(direction, same_release, is_down);
            assert_eq!(order, ConfigurationOrder::BeforeControlPlane);
        }
        assert_eq!(ConfigurationOrder::new(Forward, false, false), ConfigurationOrder::AfterControlPlane);
    }
}
