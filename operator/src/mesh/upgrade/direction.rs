//! Whether control planes or their configuration go first.
//!
//! A new injection template can name what an older istiod doesn't know, which then refuses every pod; an older template is
//! understood by all. So the configuration goes first only to where every istiod that may serve can read it: back.

use meshwright_api::UpgradeDirection;
use semver::Version;

use crate::mesh::live::{Facts, LiveObjects};
use crate::mesh::object::Component;

/// The direction to `to`. `proved`: the release that was Ready last, whose pods may serve while a rollout isn't complete.
/// `given_up`: a newer release was begun with, so that something of it may be there.
#[must_use]
pub fn direction(to: &Version, live: &LiveObjects, proved: Option<&Version>, given_up: bool) -> UpgradeDirection {
    let istiod = || live.iter().filter(|(_, live)| live.marks.component == Some(Component::Istiod));
    let newer_configuration = istiod()
        .any(|(key, live)| key.is_injector_configuration() && live.marks.release.as_ref().is_some_and(|is| is > to));
    let control_planes = || {
        istiod().filter_map(|(_, live)| match &live.facts {
            Facts::Workload(workload) => Some((live.marks.release.as_ref()?, workload)),
            _ => None,
        })
    };
    let newer = given_up || control_planes().any(|(release, workload)| workload.available > 0 && release > to);
    // One that doesn't serve yet may do so at any moment.
    let older = control_planes().any(|(release, workload)| {
        let oldest = if workload.complete() { release } else { proved.map_or(release, |proved| proved.min(release)) };
        oldest < to
    });
    if newer_configuration || (newer && !older) { UpgradeDirection::Back } else { UpgradeDirection::Forward }
}

#[cfg(test)]
mod tests {
    use UpgradeDirection::{Back, Forward};
    use serde_json::{Value, json};

    use super::*;
    use crate::mesh::kind::Kind;
    use crate::mesh::live::Live;
    use crate::mesh::object::ObjectKey;

    /// istiod's Deployment and its injector's configuration, each of a release.
    fn mesh(istiod: &str, pods: &Value, configuration: &str) -> LiveObjects {
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
            (key, Live::of(kind, &object, None, None))
        };
        LiveObjects::from([
            object(Kind::Deployment, "istiod", istiod, pods),
            object(Kind::ConfigMap, "istio-sidecar-injector", configuration, &json!({})),
        ])
    }

    fn rolled_out() -> Value {
        json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1})
    }

    /// The new pod isn't there yet, and the old one serves.
    fn rolling() -> Value {
        json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1})
    }

    fn to(to: &str, live: &LiveObjects, given_up: bool) -> UpgradeDirection {
        direction(&to.parse().unwrap(), live, Some(&Version::new(1, 31, 0)), given_up)
    }

    #[test]
    fn to_a_newer_release_istiod_goes_first_and_to_an_older_one_its_configuration() {
        let mesh = mesh("1.32.1", &rolled_out(), "1.32.1");
        assert_eq!(to("1.32.2", &mesh, false), Forward);
        assert_eq!(to("1.32.0", &mesh, false), Back);
    }

    #[test]
    fn a_release_that_was_merely_begun_doesnt_turn_what_is_newer_than_all_that_serves() {
        // Nothing of 1.32.2 is there yet, or only a pod that doesn't serve: 1.31.0 does, and couldn't read 1.32.1.
        assert_eq!(to("1.32.1", &mesh("1.31.0", &rolled_out(), "1.31.0"), true), Forward);
        assert_eq!(to("1.32.1", &mesh("1.32.2", &rolling(), "1.31.0"), true), Forward);
        // Where all of it serves, 1.32.1 is a step back.
        assert_eq!(to("1.32.1", &mesh("1.32.2", &rolled_out(), "1.31.0"), true), Back);
    }

    #[test]
    fn a_given_up_release_is_gone_back_from_with_its_configuration_first() {
        assert_eq!(to("1.31.0", &mesh("1.32.2", &rolling(), "1.31.0"), true), Back);
        assert_eq!(to("1.31.0", &mesh("1.31.0", &rolling(), "1.31.0"), true), Back);
        // A pod of 1.32.2 has crashed, and its configuration is in force.
        assert_eq!(to("1.32.1", &mesh("1.32.2", &rolling(), "1.32.2"), false), Back);
    }
}
