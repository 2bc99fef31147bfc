//! The effect of namespaces' labels on readiness.

use meshwright_api::conditions::Reason;

use super::{Blocker, Health, UnreadyWorkload};
use crate::mesh::namespace_rules::NamespaceObstacle;
use crate::mesh::object::Component;

/// The blockers for components that the labels of their namespace keep from working.
pub(super) fn blockers<'a>(
    obstacles: &'a [NamespaceObstacle],
    unready: &'a [UnreadyWorkload],
) -> impl Iterator<Item = Blocker> + 'a {
    let blocks = move |obstacle: &&NamespaceObstacle| {
        let is_unready = unready.iter().any(|workload| workload.desired.component == obstacle.component);
        obstacle.component != Component::Istiod && is_unready
    };
    let blocking = obstacles.iter().filter(blocks);
    blocking.map(|obstacle| Blocker { reason: Reason::NamespaceExcluded, message: obstacle.message() })
}

impl Health {
    /// The obstacles that don't block Ready, since the present pods of their components work.
    pub fn obstacle_warnings(&self) -> impl Iterator<Item = String> {
        let is_blocker = move |message: &String| self.blockers.iter().any(|blocker| blocker.message == *message);
        self.obstacles.iter().map(NamespaceObstacle::message).filter(move |message| !is_blocker(message))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::{Injection, measure};
    use super::*;
    use crate::catalog::ChartName;
    use crate::mesh::injection_check::InjectionOutcome;
    use crate::mesh::kind::Kind;
    use crate::mesh::object::{DesiredObject, ObjectKey, Owner};
    use crate::mesh::observed::{ObservedObject, ObservedObjects};
    use crate::mesh::validated::{ChartRelease, ValidatedSpec};

    /// Health of a mesh with gateway `edge` in a namespace with one label.
    fn health_with(available: i32, (key, value): (&str, &str), mesh_config: &str) -> Health {
        let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 31, 2) };
        let component = Component::Gateway("edge".into());
        let gateway = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "edge", "namespace": "ingress"},
            "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "istio-proxy", "image": "auto"}]}}},
            "status": {"observedGeneration": 0, "replicas": 1, "updatedReplicas": 1, "availableReplicas": available},
        });
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio"},
            "data": {"mesh": mesh_config}});
        let admit = |object, component: &Component| {
            Arc::new(DesiredObject::from_rendered(object, component, &owner, "istio-system").unwrap())
        };
        let desired = [admit(gateway.clone(), &component), admit(map, &Component::Istiod)];
        let release = ChartRelease {
            chart: ChartName::Gateway,
            name: "edge".into(),
            namespace: "ingress".into(),
            component,
            values: serde_json::Value::Null,
        };
        let validated = ValidatedSpec { releases: vec![release], ..ValidatedSpec::empty(owner.clone()) };
        let namespace = json!({"metadata": {"name": "ingress", "labels": {key: value}}});
        let namespace_key = ObjectKey { kind: Kind::Namespace, namespace: None, name: "ingress".into() };
        let live = ObservedObjects::from([
            (desired[0].key.clone(), ObservedObject::of(Kind::Deployment, &gateway, None, None)),
            (namespace_key, ObservedObject::of(Kind::Namespace, &namespace, None, None)),
        ]);
        measure(&validated, &desired, &live, &Injection::Checked(InjectionOutcome::Injected("image".into())))
    }

    fn excluded(health: &Health) -> Vec<&str> {
        let excluded = health.blockers.iter().filter(|blocker| blocker.reason == Reason::NamespaceExcluded);
        excluded.map(|blocker| blocker.message.as_str()).collect()
    }

    #[test]
    fn label_against_injection_blocks_until_pods_are_ready() {
        let disabled = ("istio-injection", "disabled");
        let starting = health_with(0, disabled, "");
        assert!(excluded(&starting)[0].contains("Namespace ingress is labelled istio-injection=disabled"));
        assert_eq!(starting.obstacle_warnings().count(), 0);
        let ready = health_with(1, disabled, "");
        assert_eq!(excluded(&ready), [""; 0]);
        assert!(ready.obstacle_warnings().next().unwrap().contains("istio-injection=disabled"));
    }

    #[test]
    fn undiscovered_namespace_blocks_until_pods_are_ready() {
        let mesh_config = "discoverySelectors: [{matchLabels: {mesh: joined}}]";
        let starting = health_with(0, ("team", "a"), mesh_config);
        let fix = "kubectl label namespace ingress mesh=joined";
        assert!(excluded(&starting)[0].contains(fix), "{:?}", excluded(&starting));
        let ready = health_with(1, ("team", "a"), mesh_config);
        assert_eq!(excluded(&ready), [""; 0]);
        assert!(ready.obstacle_warnings().any(|warning| warning.contains(fix)));
        let labelled = health_with(1, ("mesh", "joined"), mesh_config);
        assert_eq!(excluded(&labelled), [""; 0]);
    }
}
