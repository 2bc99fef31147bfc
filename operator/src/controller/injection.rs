//! What is known of injection, of the mesh as it is.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::accepted::Accepted;
use super::backoff::RESYNC;
use super::context::Context;
use crate::mesh::health::{Injection, minimum};
use crate::mesh::live::{Facts, LiveObjects};
use crate::mesh::object::{Component, Desired, short_hash};
use crate::mesh::probe::{Outcome, asks};
use crate::mesh::proxy_inputs::is_expected_image;

/// An injector that has not read its new configuration yet is looked at again after this long.
const STILL_OLD: Duration = Duration::from_millis(500);

/// Where the control plane is rolled out, injection is looked at; the second value says when to look again.
pub fn injection(
    context: &Context,
    installation: &str,
    accepted: &Accepted,
    desired: &[Arc<Desired>],
    live: &LiveObjects,
) -> (Injection, Duration) {
    // Whoever writes the webhooks, injection goes by them.
    let desired = [desired, &accepted.preinstalled].concat();
    let Some(inputs) = probe_inputs(&desired, live) else { return (Injection::Pending, RESYNC) };
    let injector = injector(&desired);
    let is_expected = |image: &str| injector.as_ref().is_none_or(|injector| is_expected_image(injector, image));
    let (proof, again) =
        context.prober.consult(installation, asks(&accepted.validated, &desired, live), &inputs, is_expected);
    match proof {
        // What an older state showed tells nothing of this one.
        Some(proof) if proof.inputs == inputs => match &proof.outcome {
            Outcome::Proved(image) if !is_expected(image) => (Injection::Pending, again.min(STILL_OLD)),
            _ => (Injection::Seen(proof.outcome), again),
        },
        _ => (Injection::Pending, again),
    }
}

/// The data of the injector's ConfigMap.
fn injector(desired: &[Arc<Desired>]) -> Option<Value> {
    let is_it = |d: &&Arc<Desired>| d.component == Component::Istiod && d.key.is_injector_configuration();
    desired.iter().find(is_it).and_then(|map| map.value().get("data").cloned())
}

/// What injection depends on: webhooks with their CA, the control plane's pods, its configuration. `None` while the
/// control plane can't answer anyway, or is not to be there yet: a canary's account comes some steps before its pods.
fn probe_inputs(all: &[Arc<Desired>], live: &LiveObjects) -> Option<String> {
    let mut parts = Vec::new();
    let mut answers = false;
    for desired in all.iter().filter(|d| matches!(d.component, Component::Tag(_))) {
        if let Some(Facts::Webhooks { identity, .. }) = live.get(&desired.key).map(|live| &live.facts) {
            parts.push(identity.clone());
        }
    }
    for desired in all.iter().filter(|d| d.component == Component::Istiod) {
        match live.get(&desired.key).map(|live| &live.facts) {
            Some(Facts::Workload(workload)) => {
                if !workload.is_up(minimum(all, &desired.key)) {
                    return None;
                }
                answers = true;
                parts.push(format!("{workload:?}"));
            }
            Some(Facts::Webhooks { without_ca, identity, .. }) => {
                if !without_ca.is_empty() {
                    return None;
                }
                parts.push(identity.clone());
            }
            Some(Facts::Content(hash)) => parts.push(hash.clone()),
            Some(_) => {}
            None => return None,
        }
    }
    answers.then(|| short_hash(parts.join("/").as_bytes()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mesh::live::Live;
    use crate::mesh::object::Owner;

    fn object(value: Value) -> Arc<Desired> {
        let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 32, 0) };
        Arc::new(Desired::admit(value, &Component::Istiod, &owner, "istio-system").unwrap())
    }

    #[test]
    fn nothing_is_probed_before_a_control_plane_is_up() {
        let deployment = |ready: i32| {
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "istiod-canary"},
                "spec": {"replicas": 1},
                "status": {"observedGeneration": 0, "replicas": 1, "updatedReplicas": 1, "availableReplicas": ready}})
        };
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio-canary"}, "data": {}});
        let (map, istiod) = (object(map), object(deployment(0)));
        let live = |ready: i32| {
            let of = |desired: &Arc<Desired>, value: &Value| {
                (desired.key.clone(), Live::of(desired.key.kind, value, None, None))
            };
            LiveObjects::from([of(&map, &map.value()), of(&istiod, &deployment(ready))])
        };
        assert_eq!(probe_inputs(&[], &live(1)), None);
        assert_eq!(probe_inputs(std::slice::from_ref(&map), &live(1)), None, "the canary's first objects");
        let all = [map.clone(), istiod.clone()];
        assert_eq!(probe_inputs(&all, &live(0)), None);
        assert!(probe_inputs(&all, &live(1)).is_some());
    }
}
