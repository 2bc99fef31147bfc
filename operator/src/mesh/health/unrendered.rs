//! Health of a mesh whose revision can't be rendered, for example because its release is no longer in the catalog: the
//! last status, with what the live objects report now.

use std::collections::BTreeMap;

use meshwright_api::{ComponentStatus, GatewayStatus, MeshInstallationStatus};

use super::{Health, RetiringRevision, component};
use crate::mesh::kind::Kind;
use crate::mesh::object::{Component, ObjectKey};
use crate::mesh::observed::{ObjectState, ObservedObject, ObservedObjects, WorkloadStatus};

impl Health {
    /// Measures health without desired objects. With `manages_webhooks`, a control plane without webhooks is not
    /// available.
    #[must_use]
    pub fn of_live(status: &MeshInstallationStatus, live: &ObservedObjects, manages_webhooks: bool) -> Self {
        let retiring = status.version.retiring.clone();
        Self {
            components: status.components.iter().map(|known| measure_component(known, live)).collect(),
            gateways: status.gateways.iter().map(|known| measure_gateway(known, live)).collect(),
            node_ports: status.node_ports.clone(),
            blockers: Vec::new(),
            unready_add_ons: BTreeMap::new(),
            available: has_istiod(live) && injector_is_callable(live, manages_webhooks),
            platform: status.platform.clone(),
            retiring: retiring.map(|revision| RetiringRevision { revision, pods: None }),
            warnings: None,
            unknown_keys: Vec::new(),
            obstacles: Vec::new(),
        }
    }
}

fn measure_component(known: &ComponentStatus, live: &ObservedObjects) -> ComponentStatus {
    // These have no pods.
    if matches!(Component::from_label(&known.name), Some(Component::Base | Component::Tag(_))) {
        return known.clone();
    }
    let is_it = |key: &ObjectKey, live: &ObservedObject| {
        // The DaemonSets of istio-cni and ztunnel have names of their own.
        let component = live.ownership.component.as_ref().filter(|_| key.kind == Kind::DaemonSet);
        key.namespace == known.namespace
            && (key.name == known.name || component.is_some_and(|component| component.to_string() == known.name))
    };
    let workload = workload(live, is_it);
    let (namespace, version) = (known.namespace.as_deref(), known.version.as_deref());
    component(&known.name, namespace.unwrap_or_default(), version.unwrap_or_default(), workload)
}

fn measure_gateway(known: &GatewayStatus, live: &ObservedObjects) -> GatewayStatus {
    let is_it = |key: &ObjectKey, _: &ObservedObject| {
        key.name == known.name && key.namespace.as_ref() == Some(&known.namespace)
    };
    GatewayStatus { ready: workload(live, is_it).is_some_and(WorkloadStatus::rolled_out), ..known.clone() }
}

fn workload(live: &ObservedObjects, is_it: impl Fn(&ObjectKey, &ObservedObject) -> bool) -> Option<&WorkloadStatus> {
    live.iter().find_map(|(key, object)| match &object.state {
        ObjectState::Workload(workload) if is_it(key, object) => Some(workload),
        _ => None,
    })
}

/// The live objects of a kind that belong to the control plane.
fn of_istiod(live: &ObservedObjects, kind: Kind) -> impl Iterator<Item = &ObjectState> {
    let objects = live.iter().filter(move |(key, _)| key.kind == kind);
    objects.filter(|(_, live)| live.ownership.component == Some(Component::Istiod)).map(|(_, live)| &live.state)
}

fn has_istiod(live: &ObservedObjects) -> bool {
    let is_available = |state: &ObjectState| matches!(state, ObjectState::Workload(istiod) if istiod.available > 0);
    of_istiod(live, Kind::Deployment).any(is_available)
}

/// Whether the injection webhooks exist, and istiod has set their CA.
fn injector_is_callable(live: &ObservedObjects, manages_webhooks: bool) -> bool {
    let has_ca =
        |state: &ObjectState| matches!(state, ObjectState::Webhooks { without_ca, .. } if without_ca.is_empty());
    let mut injectors = of_istiod(live, Kind::MutatingWebhookConfiguration);
    injectors.next().map_or(!manages_webhooks, |first| has_ca(first) && injectors.all(has_ca))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn live(kind: Kind, component: &str, name: &str, rest: Value) -> (ObjectKey, ObservedObject) {
        let namespace = kind.namespaced().then(|| "istio-system".to_owned());
        let mut object = rest;
        object["metadata"] = json!({"name": name, "labels": {"meshwright.dev/component": component}});
        let observed = ObservedObject::of(kind, &object, None, None);
        (ObjectKey { kind, namespace, name: name.to_owned() }, observed)
    }

    fn istiod(available: i32) -> (ObjectKey, ObservedObject) {
        let status = json!({"replicas": 1, "updatedReplicas": 1, "availableReplicas": available});
        live(Kind::Deployment, "istiod", "istiod", json!({"spec": {"replicas": 1}, "status": status}))
    }

    fn cni(available: i32) -> (ObjectKey, ObservedObject) {
        let status = json!({"desiredNumberScheduled": 2, "currentNumberScheduled": 2, "updatedNumberScheduled": 2,
            "numberAvailable": available});
        live(Kind::DaemonSet, "cni", "istio-cni-node", json!({"status": status}))
    }

    fn injector(ca: &str) -> (ObjectKey, ObservedObject) {
        let webhooks = json!([{"name": "a", "clientConfig": {"caBundle": ca}}]);
        let kind = Kind::MutatingWebhookConfiguration;
        live(kind, "istiod", "istio-sidecar-injector", json!({"webhooks": webhooks}))
    }

    fn status() -> MeshInstallationStatus {
        let component = |name: &str, ready: i32| ComponentStatus {
            name: name.into(),
            namespace: Some("istio-system".into()),
            version: Some("1.31.2".into()),
            ready,
            desired: ready,
            message: None,
        };
        let components = vec![component("base", 14), component("istiod", 1), component("cni", 2)];
        MeshInstallationStatus { components, ..MeshInstallationStatus::default() }
    }

    #[test]
    fn updates_ready_pods_from_live_workloads() {
        let ready = |objects: Vec<(ObjectKey, ObservedObject)>| {
            let health = Health::of_live(&status(), &objects.into_iter().collect(), true);
            health.components.iter().map(|component| (component.ready, component.desired)).collect::<Vec<_>>()
        };
        assert_eq!(ready(vec![istiod(1), cni(2)]), [(14, 14), (1, 1), (2, 2)]);
        assert_eq!(ready(vec![istiod(0), cni(1)]), [(14, 14), (0, 1), (1, 2)]);
        assert_eq!(ready(vec![cni(2)]), [(14, 14), (0, 1), (2, 2)], "the Deployment was deleted");
    }

    #[test]
    fn available_with_istiod_and_callable_webhooks() {
        let available = |objects: Vec<(ObjectKey, ObservedObject)>, manages_webhooks: bool| {
            Health::of_live(&status(), &objects.into_iter().collect(), manages_webhooks).available
        };
        assert!(available(vec![istiod(1), injector("Y2E=")], true));
        assert!(!available(vec![istiod(0), injector("Y2E=")], true));
        assert!(!available(vec![istiod(1), injector("")], true));
        assert!(!available(vec![istiod(1)], true), "the webhooks were deleted");
        assert!(available(vec![istiod(1)], false));
    }
}
