//! Health of cni and ztunnel: their pods on every node, and what keeps these from being made.

use std::sync::Arc;

use meshwright_api::ComponentStatus;
use meshwright_api::conditions::Reason;

use super::{Blocker, component, release_of, waiting_for, workload};
use crate::mesh::kind::Kind;
use crate::mesh::live::{Facts, LiveObjects, Workload};
use crate::mesh::node_agents::PRIVILEGED;
use crate::mesh::object::{Desired, ENFORCE_LABEL, ObjectKey};
use crate::mesh::validated::Validated;

/// Nothing is wrong with a cluster that has no nodes yet, so this hinders nothing.
const NO_NODE: &str =
    "runs on no node: there is none, or none that its node selector, affinity and tolerations let it onto";

/// Measures cni and ztunnel, as far as the installation has them.
pub(super) fn measure(
    validated: &Validated,
    desired: &[Arc<Desired>],
    live: &LiveObjects,
    version: &str,
    blockers: &mut Vec<Blocker>,
) -> Vec<ComponentStatus> {
    let agents = validated.node_agents().map(|(agent, namespace)| {
        let name = agent.to_string();
        let pods = desired.iter().find(|d| d.key.kind == Kind::DaemonSet && d.component == *agent);
        let workload = pods.and_then(|pods| workload(live, &pods.key));
        if !workload.as_ref().is_some_and(Workload::complete) {
            let refused = pod_security(live, &name, namespace);
            blockers.push(refused.unwrap_or_else(|| waiting_for(&name, workload.as_ref())));
        }
        let version = pods.map_or_else(|| version.to_owned(), |pods| release_of(live, &pods.key, version));
        let mut component = component(&name, namespace, &version, workload.as_ref());
        if workload.is_some_and(|workload| workload.complete() && workload.desired == 0) {
            component.message.get_or_insert_with(|| NO_NODE.to_owned());
        }
        component
    });
    agents.collect()
}

/// Whether the namespace is what keeps a node agent's pods, which are privileged, from being made.
fn pod_security(live: &LiveObjects, agent: &str, namespace: &str) -> Option<Blocker> {
    let key = ObjectKey { kind: Kind::Namespace, namespace: None, name: namespace.to_owned() };
    let Facts::Namespace { enforces: Some(level), .. } = &live.get(&key)?.facts else { return None };
    (level != PRIVILEGED).then(|| Blocker {
        reason: Reason::PodSecurityTooStrict,
        message: format!(
            "{agent}: its pods are privileged, and namespace {namespace} refuses such pods by its label \
             {ENFORCE_LABEL}={level}: label it {PRIVILEGED}, or choose another in spec.{agent}.namespace"
        ),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::catalog::ChartName;
    use crate::mesh::live::Live;
    use crate::mesh::object::{Component, Owner};
    use crate::mesh::validated::ChartRelease;

    fn owner() -> Owner {
        Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 31, 2) }
    }

    /// What is measured of cni in namespace `nodes`: status of its DaemonSet, and the namespace's label.
    fn measured(status: impl Into<Option<Value>>, level: Option<&str>) -> (ComponentStatus, Vec<Blocker>) {
        let release = ChartRelease {
            chart: ChartName::Cni,
            name: "istio-cni".into(),
            namespace: "nodes".into(),
            component: Component::Cni,
            values: Value::Null,
        };
        let validated = Validated { releases: vec![release], ..Validated::bare(owner()) };
        let admit = |object| Arc::new(Desired::admit(object, &Component::Cni, &owner(), "nodes").unwrap());
        let pods = admit(json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "istio-cni-node"}}));
        let labels = level.map_or(json!({}), |level| json!({ENFORCE_LABEL: level}));
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "nodes", "labels": labels}});
        let place = admit(namespace.clone());
        let mut live: LiveObjects = [(place.key.clone(), Live::of(Kind::Namespace, &namespace, None, None))].into();
        if let Some(status) = status.into() {
            let object = json!({"metadata": {"generation": 2}, "status": status});
            live.insert(pods.key.clone(), Live::of(Kind::DaemonSet, &object, None, None));
        }
        let mut blockers = Vec::new();
        let found = measure(&validated, &[pods, place], &live, "1.31.2", &mut blockers);
        (found[0].clone(), blockers)
    }

    fn status(observed: i64, desired: i32, updated: i32, available: i32) -> Value {
        json!({
            "observedGeneration": observed, "desiredNumberScheduled": desired, "currentNumberScheduled": desired,
            "updatedNumberScheduled": updated, "numberReady": available, "numberAvailable": available,
        })
    }

    #[test]
    fn pods_of_the_newest_generation_that_serve_on_every_node_are_ready() {
        let (component, blockers) = measured(status(2, 3, 3, 3), None);
        assert_eq!((component.ready, component.desired, blockers), (3, 3, vec![]));
        assert_eq!((component.name.as_str(), component.namespace.as_deref()), ("cni", Some("nodes")));
    }

    #[test]
    fn an_older_generation_or_template_or_a_pod_that_does_not_serve_is_not() {
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
    fn a_cluster_without_nodes_has_nothing_to_wait_for() {
        let (component, blockers) = measured(status(2, 0, 0, 0), None);
        assert_eq!((component.ready, component.desired, blockers), (0, 0, vec![]));
        assert_eq!(component.message.as_deref(), Some(NO_NODE), "it may be a selector that fits no node");
        assert_eq!(measured(status(2, 3, 3, 3), None).0.message, None);
    }

    #[test]
    fn pod_security_is_named_only_while_pods_are_missing() {
        for level in ["baseline", "restricted"] {
            let (_, blockers) = measured(status(2, 3, 0, 0), Some(level));
            assert_eq!(blockers[0].reason, Reason::PodSecurityTooStrict);
            let label = format!("namespace nodes refuses such pods by its label {ENFORCE_LABEL}={level}");
            assert!(blockers[0].message.contains(&label), "{}", blockers[0].message);
        }
        assert_eq!(measured(status(2, 3, 3, 3), Some("baseline")).1, []);
    }
}
