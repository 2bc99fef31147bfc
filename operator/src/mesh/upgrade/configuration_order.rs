//! Whether istiod's configuration is updated before or after istiod.
//!
//! The order protects one thing: an injection template must not be newer than an istiod that may serve injection. Within one
//! release there is nothing to protect, and the configuration goes first, so that a corrected value reaches an istiod
//! that can't start with the old one. The same holds for any release once no istiod has answered for a while.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use meshwright_api::UpgradeDirection;

use super::plan::is_control_plane;
use crate::mesh::object::{Component, DesiredObject};
use crate::mesh::observed::{ObjectState, ObservedObjects};

/// How long no istiod pod must have been available before its configuration is no longer protected.
const UNAVAILABLE_FOR: SignedDuration = SignedDuration::from_secs(60);

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

/// Whether the mesh has an istiod, and none of its pods has been available for a minute.
#[must_use]
pub fn is_down(live: &ObservedObjects, now: Timestamp) -> bool {
    let control_planes = live.values().filter_map(|live| match &live.state {
        ObjectState::Workload(workload) if live.ownership.component == Some(Component::Istiod) => Some(workload),
        _ => None,
    });
    let mut control_planes = control_planes.peekable();
    let is_down = |since: Option<Timestamp>| since.is_some_and(|since| now.duration_since(since) >= UNAVAILABLE_FOR);
    control_planes.peek().is_some()
        && control_planes.all(|workload| workload.available == 0 && is_down(workload.unavailable_since))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mesh::kind::Kind;
    use crate::mesh::object::ObjectKey;
    use crate::mesh::observed::ObservedObject;

    fn istiod(available: i32, condition: &str, since: &str) -> ObservedObjects {
        let object = json!({
            "metadata": {
                "name": "istiod", "namespace": "istio-system", "uid": "u", "resourceVersion": "1", "generation": 1,
                "labels": {"meshwright.dev/installation": "mesh", "meshwright.dev/component": "istiod"},
            },
            "spec": {"replicas": 1},
            "status": {
                "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": available,
                "conditions": [{"type": "Available", "status": condition, "lastTransitionTime": since}],
            },
        });
        let key = ObjectKey { kind: Kind::Deployment, namespace: Some("istio-system".into()), name: "istiod".into() };
        ObservedObjects::from([(key, ObservedObject::of(Kind::Deployment, &object, None, None))])
    }

    #[test]
    fn istiod_is_down_after_a_minute() {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        assert!(is_down(&istiod(0, "False", "2026-01-01T00:00:00Z"), now));
        assert!(!is_down(&istiod(0, "False", "2026-01-01T00:00:01Z"), now), "not long enough");
        assert!(!is_down(&istiod(1, "True", "2026-01-01T00:00:00Z"), now), "available");
        assert!(!is_down(&ObservedObjects::new(), now), "nothing is known");
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
