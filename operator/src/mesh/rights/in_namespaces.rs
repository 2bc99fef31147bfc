//! The rights of an operator that writes in namespaces alone, since somebody else applies what is in none.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::needs::{Reach, needs_in_namespaces};
use super::rule::Rules;
use super::{ACCOUNT, MESH_ROLE, Placement, Right, Rights, each};

/// Where Kubernetes wants Events about what is in no namespace.
pub(super) const EVENTS_NAMESPACE: &str = "default";
/// The Role there.
pub(super) const EVENTS_ROLE: &str = "meshwright-events";

impl Rights {
    /// Everything that has to be applied before such an operator can work, its own namespace and ServiceAccount aside. Beside
    /// that of the control plane, `others` are the namespaces that gateways and node agents may be in.
    #[must_use]
    pub fn manifests_in_namespaces(&self, others: &[String]) -> Vec<Value> {
        let Placement { operator, mesh } = &self.placement;
        let made = std::iter::once(mesh).chain(self.beside_mesh(others)).filter(|namespace| *namespace != operator);
        let mut manifests: Vec<Value> =
            made.map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).collect();
        let roles = self.roles(others);
        manifests.extend(roles.iter().flat_map(|(name, namespace, rules)| self.role(name, *namespace, rules)));
        manifests
    }

    /// Every single right of such an operator, to be asked for one by one.
    #[must_use]
    pub fn list_in_namespaces(&self, others: &[String]) -> Vec<Right> {
        let roles = self.roles(others);
        let rights = roles.iter().flat_map(|(_, namespace, rules)| {
            let namespace = namespace.map(str::to_owned);
            rules.iter().flat_map(move |(target, verb)| each(target, namespace.as_ref(), verb))
        });
        rights.collect()
    }

    fn beside_mesh<'a>(&self, others: &'a [String]) -> BTreeSet<&'a String> {
        others.iter().filter(|namespace| **namespace != self.placement.mesh).collect()
    }

    /// Its roles: name, namespace, and what each allows beside what is allowed everywhere.
    fn roles<'a>(&'a self, others: &'a [String]) -> Vec<(&'static str, Option<&'a str>, Rules)> {
        let Placement { operator, mesh } = &self.placement;
        let everywhere = own(Reach::Cluster).reduced();
        let beside = |rules: &Rules| rules.without(&everywhere).reduced();
        let mut written = own(Reach::Named);
        self.granted.values().for_each(|granted| written.extend(&granted.elsewhere));
        let mut in_mesh = own(Reach::Mesh);
        in_mesh.extend(&written);
        self.granted.values().for_each(|granted| in_mesh.extend(&granted.in_mesh));
        let mut roles = vec![
            (ACCOUNT, None, everywhere.clone()),
            (EVENTS_ROLE, Some(EVENTS_NAMESPACE), own(Reach::Events)),
            (ACCOUNT, Some(operator.as_str()), beside(&own(Reach::Operator))),
            (MESH_ROLE, Some(mesh.as_str()), beside(&in_mesh)),
        ];
        roles.extend(
            self.beside_mesh(others).into_iter().map(|other| (MESH_ROLE, Some(other.as_str()), beside(&written))),
        );
        roles
    }
}

fn own(reach: Reach) -> Rules {
    let mut rules = Rules::default();
    needs_in_namespaces().filter(|need| need.reach == reach).for_each(|need| need.add_to(&mut rules));
    rules
}

#[cfg(test)]
mod tests {
    use super::super::tests::{allows, istiod, placement, role_named};
    use super::*;

    fn manifests(others: &[&str]) -> Vec<Value> {
        let others: Vec<String> = others.iter().map(|name| (*name).to_owned()).collect();
        Rights::of(placement(), &istiod()).unwrap().manifests_in_namespaces(&others)
    }

    #[test]
    fn outside_of_namespaces_nothing_is_written_but_the_operators_own_resource() {
        let manifests = manifests(&["edge"]);
        let cluster = role_named(&manifests, "ClusterRole", ACCOUNT);
        for rule in cluster["rules"].as_array().unwrap() {
            let ours = rule["apiGroups"] == json!(["meshwright.dev"]);
            let verbs = rule["verbs"].as_array().unwrap();
            assert!(
                ours || verbs.iter().all(|verb| ["get", "list", "watch"].iter().any(|read| verb == read)),
                "{rule}"
            );
        }
        assert!(!allows(cluster, "", "secrets", "list"), "a ClusterRole that others bind needs not be held");
        assert!(allows(cluster, "rbac.authorization.k8s.io", "clusterroles", "watch"));
        assert!(manifests.iter().filter(|m| m["kind"] == "ClusterRole").count() == 1);
    }

    #[test]
    fn each_namespace_that_is_named_has_what_a_gateway_takes_and_the_meshs_has_all() {
        let manifests = manifests(&["edge", "istio-system"]);
        let of = |namespace: &str| {
            let is = |m: &&Value| m["kind"] == "Role" && m["metadata"]["namespace"] == namespace;
            manifests.iter().find(is).unwrap()
        };
        for namespace in ["edge", "istio-system"] {
            assert!(allows(of(namespace), "apps", "deployments", "patch"), "{namespace}");
            assert!(allows(of(namespace), "", "secrets", "list"), "held to be granted to gateways in {namespace}");
        }
        assert!(allows(of("istio-system"), "", "secrets", "create") && !allows(of("edge"), "", "secrets", "create"));
        assert!(allows(of("istio-system"), "", "pods", "create") && !allows(of("edge"), "", "pods", "create"));
        assert!(allows(of("default"), "events.k8s.io", "events", "create"));
        let namespaces: Vec<&Value> =
            manifests.iter().filter(|m| m["kind"] == "Namespace").map(|m| &m["metadata"]["name"]).collect();
        assert_eq!(namespaces, ["istio-system", "edge"]);
    }
}
