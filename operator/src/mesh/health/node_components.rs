//! Health of istio-cni and ztunnel: rollout of their DaemonSets, and Pod Security that prevents their pods.

use std::sync::Arc;

use meshwright_api::ComponentStatus;
use meshwright_api::conditions::Reason;

use super::{Blocker, component, release_of, waiting_for, workload};
use crate::mesh::kind::Kind;
use crate::mesh::node_components::PRIVILEGED;
use crate::mesh::object::{DesiredObject, ENFORCE_LABEL, ObjectKey};
use crate::mesh::observed::{ObjectState, ObservedObjects, WorkloadStatus};
use crate::mesh::validated::ValidatedSpec;

/// Not a blocker: a cluster may have no nodes yet.
const NO_NODES: &str =
    "runs on no node: the cluster has none, or none matches its node selector, affinity and tolerations";

/// Status of istio-cni and ztunnel, if the installation has them.
pub(super) fn measure(
    validated: &ValidatedSpec,
    desired: &[Arc<DesiredObject>],
    live: &ObservedObjects,
    version: &str,
    blockers: &mut Vec<Blocker>,
) -> Vec<ComponentStatus> {
    let components = validated.node_components().map(|(node_component, namespace)| {
        let name = node_component.to_string();
        let daemon_set = desired.iter().find(|d| d.key.kind == Kind::DaemonSet && d.component == *node_component);
        let workload = daemon_set.and_then(|daemon_set| workload(live, &daemon_set.key));
        if !workload.as_ref().is_some_and(WorkloadStatus::complete) {
            let denied = pod_security(live, &name, namespace);
            blockers.push(denied.unwrap_or_else(|| waiting_for(&name, workload.as_ref())));
        }
        let version =
            daemon_set.map_or_else(|| version.to_owned(), |daemon_set| release_of(live, &daemon_set.key, version));
        let mut component = component(&name, namespace, &version, workload.as_ref());
        if workload.is_some_and(|workload| workload.complete() && workload.desired == 0) {
            component.message.get_or_insert_with(|| NO_NODES.to_owned());
        }
        component
    });
    components.collect()
}

/// A blocker when the namespace's Pod Security level forbids the privileged pods of a node component.
fn pod_security(live: &ObservedObjects, node_component: &str, namespace: &str) -> Option<Blocker> {
    let key = ObjectKey { kind: Kind::Namespace, namespace: None, name: namespace.to_owned() };
    let ObjectState::Namespace { enforces: Some(level), .. } = &live.get(&key)?.state else { return None };
    (level != PRIVILEGED).then(|| Blocker {
        reason: Reason::PodSecurityViolation,
        message: format!(
            "{node_component}: Namespace {namespace} forbids its privileged pods. Its label is {ENFORCE_LABEL}={level}; \
             set the label to {PRIVILEGED}, or choose another namespace in spec.{node_component}.namespace"
        ),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::catalog::ChartName;
    use crate::mesh::object::{Component, Owner};
    use crate::mesh::observed::ObservedObject;
    use crate::mesh::validated::ChartRelease;

    fn owner() -> Owner {
        Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 31, 2) }
    }

    /// Measures istio-cni in namespace `nodes`, from the DaemonSet's status and the namespace's label.
    fn measured(status: impl Into<Option<Value>>, level: Option<&str>) -> (ComponentStatus, Vec<Blocker>) {
        let release = ChartRelease {
            chart: ChartName::Cni,
            name: "istio-cni".into(),
            namespace: "nodes".into(),
            component: Component::Cni,
            values: Value::Null,
        };
        let validated = ValidatedSpec { releases: vec![release], ..ValidatedSpec::empty(owner()) };
        let admit =
            |object| Arc::new(DesiredObject::from_rendered(object, &Component::Cni, &owner(), "nodes").unwrap());
        let daemon_set =
            admit(json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "istio-cni-node"}}));
        let labels = level.map_or(json!({}), |level| json!({ENFORCE_LABEL: level}));
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "nodes", "labels": labels}});
        let namespace_object = admit(namespace.clone());
        let mut live: ObservedObjects =
            [(namespace_object.key.clone(), ObservedObject::of(Kind::Namespace, &namespace, None, None))].into();
        if let Some(status) = status.into() {
            let object = json!({"metadata": {"generation": 2}, "status": status});
            live.insert(daemon_set.key.clone(), ObservedObject::of(Kind::DaemonSet, &object, None, None));
        }
        let mut blockers = Vec::new();
        let found = measure(&validated, &[daemon_set, namespace_object], &live, "1.31.2", &mut blockers);
        (found[0].clone(), blockers)
    }

    fn status(observed: i64, desired: i32, updated: i32, available: i32) -> Value {
        json!({
            "observedGeneration": observed, "desiredNumberScheduled": desired, "currentNumberScheduled": desired,
            "updatedNumberScheduled": updated, "numberReady": available, "numberAvailable": available,
        })
    }

    #[test]
    fn ready_when_every_node_is_up_to_date() {
        let (component, blockers) = measured(status(2, 3, 3, 3), None);
        assert_eq!((component.ready, component.desired, blockers), (3, 3, vec![]));
        assert_eq!((component.name.as_str(), component.namespace.as_deref()), ("cni", Some("nodes")));
    }

    #[test]
    fn not_ready_during_rollout() {
        for unready in [Some(status(1, 3, 3, 3)), Some(status(2, 3, 2, 3)), Some(status(2, 3, 3, 2)), None] {
            let (_, blockers) = measured(unready.clone(), Some("privileged"));
            assert_eq!(
                blockers.iter().map(|b| b.reason).collect::<Vec<_>>(),
                [Reason::WaitingForRollout],
                "{unready:?}"
            );
        }
    }

    #[test]
    fn cluster_without_nodes_is_not_blocked() {
        let (component, blockers) = measured(status(2, 0, 0, 0), None);
        assert_eq!((component.ready, component.desired, blockers), (0, 0, vec![]));
        assert_eq!(component.message.as_deref(), Some(NO_NODES), "its node selector may match no node");
        assert_eq!(measured(status(2, 3, 3, 3), None).0.message, None);
    }

    #[test]
    fn reports_pod_security_only_while_pods_are_missing() {
        for level in ["baseline", "restricted"] {
            let (_, blockers) = measured(status(2, 3, 0, 0), Some(level));
            assert_eq!(blockers[0].reason, Reason::PodSecurityViolation);
            let label = format!("Namespace nodes forbids its privileged pods. Its label is {ENFORCE_LABEL}={level}");
            assert!(blockers[0].message.contains(&label), "{}", blockers[0].message);
        }
        assert_eq!(measured(status(2, 3, 3, 3), Some("baseline")).1, []);
    }
}
