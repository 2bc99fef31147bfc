//! Workloads that are not ready, so that the cause can be added to what health says about them.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Health, is_workload_ready, waiting_for};
use crate::mesh::kind::Kind;
use crate::mesh::object::{Component, DesiredObject, ObjectKey};
use crate::mesh::observed::{ObjectState, ObservedObjects};

/// A workload that is not ready.
#[derive(Clone, Debug, PartialEq)]
pub struct UnreadyWorkload {
    /// The desired workload.
    pub desired: Arc<DesiredObject>,
    /// Name of its component in status.
    pub component: String,
    /// What health says about it without the cause.
    pub message: String,
    /// Since when it has been unavailable, from its condition `Available`, which `DaemonSet`s don't have.
    pub unavailable_since: Option<Timestamp>,
}

impl UnreadyWorkload {
    /// The workload's key.
    #[must_use]
    pub fn key(&self) -> &ObjectKey {
        &self.desired.key
    }
}

/// The workloads among `desired` that exist and are not ready.
#[must_use]
pub fn unready_workloads(desired: &[Arc<DesiredObject>], live: &ObservedObjects) -> Vec<UnreadyWorkload> {
    let unready = |object: &Arc<DesiredObject>| {
        let ObjectState::Workload(workload) = &live.get(&object.key)?.state else { return None };
        if is_workload_ready(desired, &object.key, workload) {
            return None;
        }
        let component = match &object.component {
            Component::Gateway(name) | Component::AddOn(name) => name.clone(),
            Component::Istiod => object.key.name.clone(),
            other => other.to_string(),
        };
        let message = waiting_for(&component, Some(workload)).message;
        let unavailable_since = workload.unavailable_since;
        Some(UnreadyWorkload { desired: Arc::clone(object), component, message, unavailable_since })
    };
    let workloads = desired.iter().filter(|object| matches!(object.key.kind, Kind::Deployment | Kind::DaemonSet));
    workloads.filter_map(unready).collect()
}

impl Health {
    /// Adds why the pods of a workload don't start. A blocker with another cause stays as it is.
    pub fn add_cause(&mut self, workload: &UnreadyWorkload, cause: &str) {
        let UnreadyWorkload { component, message, .. } = workload;
        let explained = format!("{message}; {cause}");
        for blocker in self.blockers.iter_mut().filter(|blocker| blocker.message == *message) {
            blocker.message.clone_from(&explained);
        }
        if let Some(unready) = self.unready_add_ons.get_mut(component).filter(|unready| *unready == message) {
            unready.clone_from(&explained);
        }
        if let Some(status) = self.components.iter_mut().find(|status| status.name == *component)
            && status.message.as_ref().is_none_or(|status| status == message)
        {
            status.message = Some(status.message.as_ref().map_or_else(|| cause.to_owned(), |_| explained.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{Injection, measure};
    use super::*;
    use crate::catalog::ChartName;
    use crate::mesh::object::Owner;
    use crate::mesh::observed::ObservedObject;
    use crate::mesh::validated::{ChartRelease, ValidatedSpec};

    fn owner() -> Owner {
        Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 31, 2) }
    }

    fn observed(kind: &str, name: &str, component: &Component, status: &Value) -> (Arc<DesiredObject>, ObservedObject) {
        let object = json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "status": status});
        let desired = DesiredObject::from_rendered(object.clone(), component, &owner(), "istio-system").unwrap();
        let live = ObservedObject::of(desired.key.kind, &object, None, None);
        (Arc::new(desired), live)
    }

    fn cni() -> ValidatedSpec {
        let release = ChartRelease {
            chart: ChartName::Cni,
            name: "istio-cni".into(),
            namespace: "istio-system".into(),
            component: Component::Cni,
            values: Value::Null,
        };
        ValidatedSpec { releases: vec![release], ..ValidatedSpec::empty(owner()) }
    }

    #[test]
    fn adds_cause_to_blockers_of_workload_only() {
        let rolling = json!({"observedGeneration": 0, "desiredNumberScheduled": 4, "updatedNumberScheduled": 4,
            "numberAvailable": 3});
        let (daemon_set, live) = observed("DaemonSet", "istio-cni-node", &Component::Cni, &rolling);
        let unready = json!({"observedGeneration": 0, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 0});
        let (istiod, control_plane) = observed("Deployment", "istiod", &Component::Istiod, &unready);
        let desired = [daemon_set.clone(), istiod.clone()];
        let live = ObservedObjects::from([(daemon_set.key.clone(), live), (istiod.key.clone(), control_plane)]);
        let mut health = measure(&cni(), &desired, &live, &Injection::Pending);
        let found = unready_workloads(&desired, &live);
        let names: Vec<&str> = found.iter().map(|unready| unready.component.as_str()).collect();
        assert_eq!(names, ["cni", "istiod"]);
        health.add_cause(&found[0], "Pod istio-cni-node-x is unschedulable");
        let messages: Vec<&str> = health.blockers.iter().map(|blocker| blocker.message.as_str()).collect();
        assert!(
            messages.contains(&"cni: 3 of 4 pods are ready; Pod istio-cni-node-x is unschedulable"),
            "{messages:?}"
        );
        assert!(messages.contains(&"istiod: its pod is not ready"), "{messages:?}");
        let status = health.components.iter().find(|component| component.name == "cni").unwrap();
        assert_eq!(status.message.as_deref(), Some("Pod istio-cni-node-x is unschedulable"));
    }

    #[test]
    fn ready_workloads_need_no_cause() {
        let ready = json!({"observedGeneration": 0, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
        let (istiod, live) = observed("Deployment", "istiod", &Component::Istiod, &ready);
        let live = ObservedObjects::from([(istiod.key.clone(), live)]);
        assert_eq!(unready_workloads(std::slice::from_ref(&istiod), &live), []);
        assert_eq!(unready_workloads(&[istiod], &ObservedObjects::new()), []);
    }
}
