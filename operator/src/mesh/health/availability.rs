//! Whether the mesh is available: new pods get proxies, and a control plane answers them.

use std::sync::Arc;

use super::{Injection, control_plane};
use crate::mesh::injection_check::InjectionOutcome;
use crate::mesh::kind::Kind;
use crate::mesh::object::{Component, DesiredObject, ObjectKey};
use crate::mesh::observed::{ObjectState, ObservedObject, ObservedObjects};

/// Whether new pods get proxies and a control plane answers. A pending injection check does not make the mesh
/// unavailable: after a pod of istiod was replaced, nothing is known to be broken.
#[must_use]
pub fn is_available(desired: &[Arc<DesiredObject>], live: &ObservedObjects, injection: &Injection) -> bool {
    let injects = !matches!(
        injection,
        Injection::Checked(
            InjectionOutcome::WebhookFailed(_)
                | InjectionOutcome::InjectorDenied { .. }
                | InjectionOutcome::NotInjected
        )
    );
    other_control_plane_is_available(desired, live)
        || (control_plane_is_available(desired, live) && injects && injector_is_callable(desired, live))
}

/// Whether the control plane that a canary replaces is available: it serves the mesh until the canary does.
fn other_control_plane_is_available(desired: &[Arc<DesiredObject>], live: &ObservedObjects) -> bool {
    let is_desired = |key: &ObjectKey| desired.iter().any(|desired| desired.key == *key);
    let others: Vec<(&ObjectKey, &ObservedObject)> = live
        .iter()
        .filter(|(key, live)| live.ownership.component == Some(Component::Istiod) && !is_desired(key))
        .collect();
    let mut injectors = others.iter().filter(|(key, _)| key.kind == Kind::MutatingWebhookConfiguration);
    injectors.all(|(_, injector)| has_ca(&injector.state))
        && others.iter().any(|(_, other)| matches!(&other.state, ObjectState::Workload(istiod) if istiod.available > 0))
}

/// Whether the API server can call the control plane's injection webhooks: they exist, and istiod has set their CA. An
/// istiod without a CA, or one that can't read its certificates, sets none.
fn injector_is_callable(desired: &[Arc<DesiredObject>], live: &ObservedObjects) -> bool {
    let is_injector = |desired: &&Arc<DesiredObject>| {
        desired.component == Component::Istiod && desired.key.kind == Kind::MutatingWebhookConfiguration
    };
    let mut injectors = desired.iter().filter(is_injector);
    injectors.all(|injector| live.get(&injector.key).is_some_and(|live| has_ca(&live.state)))
}

fn has_ca(state: &ObjectState) -> bool {
    matches!(state, ObjectState::Webhooks { without_ca, .. } if without_ca.is_empty())
}

/// Whether the control plane has an available pod.
#[must_use]
pub fn control_plane_is_available(desired: &[Arc<DesiredObject>], live: &ObservedObjects) -> bool {
    control_plane(desired, live).is_some_and(|istiod| istiod.available > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::mesh::object::Owner;

    fn istiod(name: &str, available: i32) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": "istio-system", "labels": {"meshwright.dev/component": "istiod"}},
            "spec": {"replicas": 1}, "status": {"availableReplicas": available}})
    }

    fn injector(name: &str, ca_bundle: &str) -> Value {
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": name, "labels": {"meshwright.dev/component": "istiod"}},
            "webhooks": [{"name": "rev.namespace.sidecar-injector.istio.io", "clientConfig": {"caBundle": ca_bundle}}]})
    }

    fn desired(object: &Value) -> Arc<DesiredObject> {
        let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 32, 0) };
        let desired = DesiredObject::from_rendered(object.clone(), &Component::Istiod, &owner, "istio-system");
        Arc::new(desired.unwrap())
    }

    fn live(objects: &[Value]) -> ObservedObjects {
        let observed = |object: &Value| {
            let key = desired(object).key.clone();
            let found = ObservedObject::of(key.kind, object, None, None);
            (key, found)
        };
        objects.iter().map(observed).collect()
    }

    fn available(objects: &[Value], injection: &Injection) -> bool {
        let wanted = [desired(&istiod("istiod", 1)), desired(&injector("injector", "ca"))];
        is_available(&wanted, &live(objects), injection)
    }

    #[test]
    fn requires_callable_webhook() {
        let pending = Injection::Pending;
        assert!(available(&[istiod("istiod", 1), injector("injector", "ca")], &pending));
        assert!(!available(&[istiod("istiod", 1)], &pending), "the webhook is missing");
        assert!(!available(&[istiod("istiod", 1), injector("injector", "")], &pending), "istiod has no CA");
        assert!(!available(&[istiod("istiod", 0), injector("injector", "ca")], &pending), "no pod answers");
    }

    #[test]
    fn requires_passed_injection_check() {
        let running = [istiod("istiod", 1), injector("injector", "ca")];
        let checked = |outcome: InjectionOutcome| available(&running, &Injection::Checked(outcome));
        assert!(checked(InjectionOutcome::Injected("image".into())));
        assert!(checked(InjectionOutcome::DeniedByOther { by: "a quota".into(), message: String::new() }));
        assert!(!checked(InjectionOutcome::WebhookFailed("connection refused".into())));
        assert!(!checked(InjectionOutcome::NotInjected));
        assert!(!checked(InjectionOutcome::InjectorDenied { why: String::new(), lasting: false }));
    }

    #[test]
    fn other_control_plane_needs_callable_webhook() {
        let with_other = |ca_bundle: &str| {
            let other = [istiod("istiod-1-31-2", 1), injector("injector-1-31-2", ca_bundle)];
            available(&[&[istiod("istiod", 0), injector("injector", "")][..], &other].concat(), &Injection::Pending)
        };
        assert!(with_other("ca"));
        assert!(!with_other(""));
    }
}
