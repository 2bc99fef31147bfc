//! Permissions of an operator that writes only in namespaces: cluster-scoped resources are externally managed.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::own_permissions::{PermissionScope, namespaced_own_permissions};
use super::rule::RuleSet;
use super::{ACCOUNT, InstallNamespaces, MESH_ROLE, OperatorPermissions, Permission, expand};

/// The namespace of Events about cluster-scoped objects.
pub(super) const EVENTS_NAMESPACE: &str = "default";
/// The Role in that namespace.
pub(super) const EVENTS_ROLE: &str = "meshwright-events";

impl OperatorPermissions {
    /// The manifests that such an operator needs, without its own namespace and ServiceAccount. `namespaces` are those
    /// of gateways, istio-cni and ztunnel, besides the control plane's.
    #[must_use]
    pub fn namespaced_manifests(&self, namespaces: &[String]) -> Vec<Value> {
        let InstallNamespaces { operator, mesh } = &self.namespaces;
        let created =
            std::iter::once(mesh).chain(self.outside_mesh(namespaces)).filter(|namespace| *namespace != operator);
        let mut manifests: Vec<Value> =
            created.map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).collect();
        let roles = self.roles(namespaces);
        manifests.extend(roles.iter().flat_map(|(name, namespace, rules)| self.role(name, *namespace, rules)));
        manifests
    }

    /// Every single permission of such an operator, for access reviews.
    #[must_use]
    pub fn namespaced_list(&self, namespaces: &[String]) -> Vec<Permission> {
        let roles = self.roles(namespaces);
        let permissions = roles.iter().flat_map(|(_, namespace, rules)| {
            let namespace = namespace.map(str::to_owned);
            rules.iter().flat_map(move |(target, verb)| expand(target, namespace.as_ref(), verb))
        });
        permissions.collect()
    }

    fn outside_mesh<'a>(&self, namespaces: &'a [String]) -> BTreeSet<&'a String> {
        namespaces.iter().filter(|namespace| **namespace != self.namespaces.mesh).collect()
    }

    /// Its roles: name, namespace, and the rules that the ClusterRole lacks.
    fn roles<'a>(&'a self, namespaces: &'a [String]) -> Vec<(&'static str, Option<&'a str>, RuleSet)> {
        let InstallNamespaces { operator, mesh } = &self.namespaces;
        let cluster_wide = own_rules(PermissionScope::Cluster).reduced();
        let without_cluster_wide = |rules: &RuleSet| rules.without(&cluster_wide).reduced();
        let mut writes = own_rules(PermissionScope::Named);
        self.granted.values().for_each(|granted| writes.extend(&granted.gateways));
        let mut in_mesh = own_rules(PermissionScope::Mesh);
        in_mesh.extend(&writes);
        self.granted.values().for_each(|granted| in_mesh.extend(&granted.mesh));
        let mut roles = vec![
            (ACCOUNT, None, cluster_wide.clone()),
            (EVENTS_ROLE, Some(EVENTS_NAMESPACE), own_rules(PermissionScope::Events)),
            (ACCOUNT, Some(operator.as_str()), without_cluster_wide(&own_rules(PermissionScope::Operator))),
            (MESH_ROLE, Some(mesh.as_str()), without_cluster_wide(&in_mesh)),
        ];
        roles.extend(
            self.outside_mesh(namespaces)
                .into_iter()
                .map(|namespace| (MESH_ROLE, Some(namespace.as_str()), without_cluster_wide(&writes))),
        );
        roles
    }
}

fn own_rules(scope: PermissionScope) -> RuleSet {
    let mut rules = RuleSet::default();
    namespaced_own_permissions()
        .filter(|permission| permission.scope == scope)
        .for_each(|permission| permission.add_to(&mut rules));
    rules
}

#[cfg(test)]
mod tests {
    use super::super::tests::{allows, install_namespaces, istiod, role_named};
    use super::*;

    fn manifests(namespaces: &[&str]) -> Vec<Value> {
        let namespaces: Vec<String> = namespaces.iter().map(|name| (*name).to_owned()).collect();
        OperatorPermissions::of(install_namespaces(), &istiod()).unwrap().namespaced_manifests(&namespaces)
    }

    #[test]
    fn writes_only_own_resource_cluster_wide() {
        let manifests = manifests(&["edge"]);
        let cluster = role_named(&manifests, "ClusterRole", ACCOUNT);
        for rule in cluster["rules"].as_array().unwrap() {
            let is_own = rule["apiGroups"] == json!(["meshwright.dev"]);
            let verbs = rule["verbs"].as_array().unwrap();
            assert!(
                is_own || verbs.iter().all(|verb| ["get", "list", "watch"].iter().any(|read| verb == read)),
                "{rule}"
            );
        }
        assert!(!allows(cluster, "", "secrets", "list"), "the operator does not bind this ClusterRole");
        assert!(allows(cluster, "rbac.authorization.k8s.io", "clusterroles", "watch"));
        assert!(manifests.iter().filter(|m| m["kind"] == "ClusterRole").count() == 1);
    }

    #[test]
    fn gateway_namespaces_get_gateway_permissions() {
        let manifests = manifests(&["edge", "istio-system"]);
        let of = |namespace: &str| {
            let is = |m: &&Value| m["kind"] == "Role" && m["metadata"]["namespace"] == namespace;
            manifests.iter().find(is).unwrap()
        };
        for namespace in ["edge", "istio-system"] {
            assert!(allows(of(namespace), "apps", "deployments", "patch"), "{namespace}");
            assert!(allows(of(namespace), "", "secrets", "list"), "granted to gateways in {namespace}");
        }
        assert!(allows(of("istio-system"), "", "secrets", "create") && !allows(of("edge"), "", "secrets", "create"));
        assert!(allows(of("istio-system"), "", "pods", "create") && !allows(of("edge"), "", "pods", "create"));
        assert!(allows(of("default"), "events.k8s.io", "events", "create"));
        let namespaces: Vec<&Value> =
            manifests.iter().filter(|m| m["kind"] == "Namespace").map(|m| &m["metadata"]["name"]).collect();
        assert_eq!(namespaces, ["istio-system", "edge"]);
    }
}
