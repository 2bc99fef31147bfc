//! The state of injection in the current mesh, from the newest injection check.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::backoff::RESYNC;
use super::context::Context;
use super::resolved_revision::ResolvedRevision;
use crate::mesh::health::{Injection, min_replicas};
use crate::mesh::injection_check::{InjectionOutcome, injection_check_pods};
use crate::mesh::kind::Kind;
use crate::mesh::loaded_configuration::{ExpectedConfiguration, is_written};
use crate::mesh::object::{Component, DesiredObject, short_hash};
use crate::mesh::observed::{ObjectState, ObservedObjects};
use crate::mesh::proxy_inputs::is_expected_image;

/// Interval for checking an injector that has not read its new configuration yet.
const OUTDATED_INJECTOR_RECHECK: Duration = Duration::from_millis(500);

/// The state of injection, if the control plane is rolled out, and when to check it again.
pub fn injection(
    context: &Context,
    installation: &str,
    accepted: &ResolvedRevision,
    desired: &[Arc<DesiredObject>],
    live: &ObservedObjects,
) -> (Injection, Duration) {
    // Injection depends on the webhooks even if the operator does not manage them.
    let desired = [desired, &accepted.external].concat();
    let Some(mut inputs) = injection_inputs(&desired, live) else { return (Injection::Pending, RESYNC) };
    let is_written = is_written(&accepted.validated, &desired, live) && !is_deactivated(&desired, live);
    if is_written {
        // A check from before says nothing about what istiod has loaded.
        inputs.push_str("-written");
    }
    let injector = injector(&desired);
    let is_expected = |image: &str| injector.as_ref().is_none_or(|injector| is_expected_image(injector, image));
    let (check, again) = context.injection_checker.consult(
        installation,
        injection_check_pods(&accepted.validated, &desired, live),
        &inputs,
        is_expected,
        || is_written.then(|| ExpectedConfiguration::new(&accepted.validated, &desired)).flatten(),
    );
    match check {
        // A check of older webhooks or configuration says nothing about the current ones.
        Some(check) if check.inputs == inputs => match &check.outcome {
            InjectionOutcome::Injected(image) if !is_expected(image) => {
                (Injection::Pending, again.min(OUTDATED_INJECTOR_RECHECK))
            }
            _ => (Injection::Checked(check.outcome), again),
        },
        _ => (Injection::Pending, again),
    }
}

/// Whether the injector answers no pod, since another installation has its tags: then that one's istiod answers the
/// check.
fn is_deactivated(desired: &[Arc<DesiredObject>], live: &ObservedObjects) -> bool {
    let answers_no_pod = |d: &Arc<DesiredObject>| match live.get(&d.key).map(|live| &live.state) {
        Some(ObjectState::Webhooks { answers, .. }) => answers.is_empty(),
        _ => false,
    };
    let is_injector =
        |d: &&Arc<DesiredObject>| d.component == Component::Istiod && d.key.kind == Kind::MutatingWebhookConfiguration;
    desired.iter().filter(is_injector).any(answers_no_pod)
}

/// The data of the injector's ConfigMap.
fn injector(desired: &[Arc<DesiredObject>]) -> Option<Value> {
    let is_it = |d: &&Arc<DesiredObject>| d.component == Component::Istiod && d.key.is_injector_configuration();
    desired.iter().find(is_it).and_then(|map| map.value().get("data").cloned())
}

/// A hash over all that injection depends on: webhooks with CA bundles, the control plane's pods and configuration.
/// `None` while the control plane is unavailable or not part of the current step: a canary's ServiceAccount is created
/// some steps before its pods.
fn injection_inputs(all: &[Arc<DesiredObject>], live: &ObservedObjects) -> Option<String> {
    let mut parts = Vec::new();
    let mut available = false;
    for desired in all.iter().filter(|d| matches!(d.component, Component::Tag(_))) {
        if let Some(ObjectState::Webhooks { identity, .. }) = live.get(&desired.key).map(|live| &live.state) {
            parts.push(identity.clone());
        }
    }
    for desired in all.iter().filter(|d| d.component == Component::Istiod) {
        match live.get(&desired.key).map(|live| &live.state) {
            Some(ObjectState::Workload(workload)) => {
                if !workload.is_up(min_replicas(all, &desired.key)) {
                    return None;
                }
                available = true;
                parts.push(format!("{workload:?}"));
            }
            Some(ObjectState::Webhooks { without_ca, identity, .. }) => {
                if !without_ca.is_empty() {
                    return None;
                }
                parts.push(identity.clone());
            }
            Some(ObjectState::Content(hash)) => parts.push(hash.clone()),
            Some(_) => {}
            None => return None,
        }
    }
    available.then(|| short_hash(parts.join("/").as_bytes()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mesh::object::Owner;
    use crate::mesh::observed::ObservedObject;

    fn object(value: Value) -> Arc<DesiredObject> {
        let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 32, 0) };
        Arc::new(DesiredObject::from_rendered(value, &Component::Istiod, &owner, "istio-system").unwrap())
    }

    #[test]
    fn replaced_istiod_is_checked_again() {
        let deployment = |since: &str| {
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "istiod"},
                "spec": {"replicas": 1},
                "status": {"observedGeneration": 0, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1,
                    "conditions": [{"type": "Available", "status": "True", "lastTransitionTime": since}]}})
        };
        let istiod = object(deployment("2026-11-21T04:00:00Z"));
        let inputs = |since: &str| {
            let observed = ObservedObject::of(istiod.key.kind, &deployment(since), None, None);
            injection_inputs(std::slice::from_ref(&istiod), &ObservedObjects::from([(istiod.key.clone(), observed)]))
        };
        let first = inputs("2026-11-21T04:00:00Z");
        assert!(first.is_some());
        assert_eq!(inputs("2026-11-21T04:00:00Z"), first);
        assert_ne!(
            inputs("2026-11-21T05:00:00Z"),
            first,
            "a failed check of the former pod says nothing about this one"
        );
    }

    #[test]
    fn no_check_before_control_plane_is_available() {
        let deployment = |ready: i32| {
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "istiod-canary"},
                "spec": {"replicas": 1},
                "status": {"observedGeneration": 0, "replicas": 1, "updatedReplicas": 1, "availableReplicas": ready}})
        };
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio-canary"}, "data": {}});
        let (map, istiod) = (object(map), object(deployment(0)));
        let live = |ready: i32| {
            let of = |desired: &Arc<DesiredObject>, value: &Value| {
                (desired.key.clone(), ObservedObject::of(desired.key.kind, value, None, None))
            };
            ObservedObjects::from([of(&map, &map.value()), of(&istiod, &deployment(ready))])
        };
        assert_eq!(injection_inputs(&[], &live(1)), None);
        assert_eq!(injection_inputs(std::slice::from_ref(&map), &live(1)), None, "the canary's first objects");
        let all = [map.clone(), istiod.clone()];
        assert_eq!(injection_inputs(&all, &live(0)), None);
        assert!(injection_inputs(&all, &live(1)).is_some());
    }
}
