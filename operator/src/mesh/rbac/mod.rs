//! The permissions that the operator needs, as manifests and as a document. Pure.
//!
//! There are two sources: what the operator does itself ([`own_permissions`](mod@own_permissions)), and the roles in
//! the charts of a release, since Kubernetes lets no client create a role with more permissions than it has. With the
//! union of both the operator needs neither `escalate` nor `bind`.

mod chart_roles;
mod document;
mod missing;
mod namespaced;
mod own_permissions;
mod rule;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::{Value, json};

pub use self::missing::{GrantedPermissions, RequiredPermissions, group_by_scope, sentence};
use self::own_permissions::{CRD_VERBS, CRDS, PermissionScope, own_permissions};
use self::rule::{NameSet, RuleSet, RuleTarget};
use super::kind::Kind;
use super::object::{Component, DesiredObject, ObjectKey};

/// The operator's ServiceAccount, and the name of its roles.
pub const ACCOUNT: &str = "meshwright";
/// The Role in the control plane's namespace.
pub const MESH_ROLE: &str = "meshwright-mesh";
const RBAC_API: &str = "rbac.authorization.k8s.io";

/// Namespaces of the operator and of the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallNamespaces {
    /// Namespace of the operator.
    pub operator: String,
    /// Namespace of the control plane.
    pub mesh: String,
}

/// The permissions of a release's roles can't be determined.
#[derive(Debug, thiserror::Error)]
pub enum PermissionsError {
    /// The rules of a role can't be parsed.
    #[error("the rules of {key} can't be read")]
    Rules {
        /// Key of the role.
        key: ObjectKey,
        /// The parse error.
        #[source]
        source: serde_json::Error,
    },
    /// Only a cluster administrator may create an aggregated ClusterRole.
    #[error("{key} aggregates other ClusterRoles; only a cluster administrator may create such a role")]
    Aggregated {
        /// Key of the role.
        key: ObjectKey,
    },
    /// The permissions of a role outside of the charts are unknown.
    #[error("{key} binds {role}, which no chart creates, so that its permissions are unknown")]
    UnknownRole {
        /// Key of the binding.
        key: ObjectKey,
        /// Kind and name of the role.
        role: String,
    },
}

/// The operator's permissions for the releases of a catalog.
#[derive(Clone, Debug)]
pub struct OperatorPermissions {
    namespaces: InstallNamespaces,
    /// Rules of the charts' roles, by the title of the role.
    granted: BTreeMap<String, ChartRoleRules>,
    /// CRDs of the charts that are not in [`CRDS`].
    further_crds: NameSet,
}

/// One permission, in the form of a SelfSubjectAccessReview.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    /// The namespace; `None` for all namespaces and cluster-scoped objects.
    pub namespace: Option<String>,
    /// API group, empty for the core group; [`NON_RESOURCE`] for a non-resource URL.
    pub group: String,
    /// `resource`, `resource/subresource`, or the non-resource URL.
    pub resource: String,
    /// Name of the object; `None` for all objects.
    pub name: Option<String>,
    /// For example `get`.
    pub verb: String,
}

/// The group of a [`Permission`] for a non-resource URL.
pub const NON_RESOURCE: &str = "-";

impl Permission {
    /// The target of the permission. Example: `deployments.apps/scale`.
    #[must_use]
    pub fn target(&self) -> String {
        let name = self.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        match (self.group.as_str(), self.resource.split_once('/')) {
            ("" | NON_RESOURCE, _) => format!("{}{name}", self.resource),
            (group, Some((resource, part))) => format!("{resource}.{group}/{part}{name}"),
            (group, None) => format!("{}.{group}{name}", self.resource),
        }
    }
}

/// The rules of a chart's role.
#[derive(Clone, Debug, Default)]
struct ChartRoleRules {
    cluster: RuleSet,
    mesh: RuleSet,
    /// Rules in the namespace of a gateway, which may be any.
    gateways: RuleSet,
}

impl ChartRoleRules {
    /// Rules that the operator needs in all namespaces, since gateways may be in any.
    fn cluster_wide(&self) -> RuleSet {
        let mut rules = self.cluster.clone();
        rules.extend(&self.gateways);
        rules
    }
}

impl OperatorPermissions {
    /// The permissions for installing these objects, in addition to the operator's own. `objects` are the rendered
    /// charts of all releases and profiles to be covered.
    pub fn of<'a>(
        namespaces: InstallNamespaces,
        objects: impl IntoIterator<Item = &'a DesiredObject>,
    ) -> Result<Self, PermissionsError> {
        let mut granted: BTreeMap<String, ChartRoleRules> = BTreeMap::new();
        let mut created = BTreeSet::new();
        let mut bindings = Vec::new();
        let mut further_crds = NameSet::new();
        for object in objects {
            match object.key.kind {
                Kind::ClusterRole | Kind::Role => {
                    created.insert(format!("{} {}", object.key.kind, object.key.name));
                    let granted = granted.entry(title(object)).or_default();
                    let rules = match &object.key.namespace {
                        None => &mut granted.cluster,
                        Some(namespace) if *namespace == namespaces.mesh => &mut granted.mesh,
                        Some(_) => &mut granted.gateways,
                    };
                    read_rules(object, rules)?;
                }
                Kind::ClusterRoleBinding | Kind::RoleBinding => bindings.push(object),
                Kind::CustomResourceDefinition if !CRDS.contains(&object.key.name.as_str()) => {
                    further_crds.insert(object.key.name.clone());
                }
                _ => {}
            }
        }
        for binding in bindings {
            let role = bound_role(binding);
            if !created.contains(&role) {
                return Err(PermissionsError::UnknownRole { key: binding.key.clone(), role });
            }
        }
        Ok(Self { namespaces, granted, further_crds })
    }

    /// The manifests that the operator needs, without its own namespace and ServiceAccount.
    #[must_use]
    pub fn manifests(&self) -> Vec<Value> {
        let InstallNamespaces { operator, mesh } = &self.namespaces;
        let mut manifests = Vec::new();
        if mesh != operator {
            manifests.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": mesh}}));
        }
        manifests.extend(self.role(ACCOUNT, None, &self.in_cluster()));
        manifests.extend(self.role(ACCOUNT, Some(operator), &self.in_operators_namespace()));
        manifests.extend(self.role(MESH_ROLE, Some(mesh), &self.in_mesh()));
        manifests
    }

    /// Every single permission, for access reviews.
    #[must_use]
    pub fn list(&self) -> Vec<Permission> {
        let InstallNamespaces { operator, mesh } = &self.namespaces;
        let scopes =
            [(None, self.in_cluster()), (Some(mesh), self.in_mesh()), (Some(operator), self.in_operators_namespace())];
        let mut permissions = Vec::new();
        for (namespace, rules) in &scopes {
            for (target, verb) in rules.iter() {
                permissions.extend(expand(target, *namespace, verb));
            }
        }
        permissions
    }

    fn own_rules(scope: PermissionScope) -> RuleSet {
        let mut rules = RuleSet::default();
        own_permissions()
            .filter(|permission| permission.scope == scope)
            .for_each(|permission| permission.add_to(&mut rules));
        rules
    }

    fn in_cluster(&self) -> RuleSet {
        let mut rules = Self::own_rules(PermissionScope::Cluster);
        self.granted.values().for_each(|granted| rules.extend(&granted.cluster_wide()));
        if !self.further_crds.is_empty() {
            let (group, resource) = (Kind::CustomResourceDefinition.group(), Kind::CustomResourceDefinition.plural());
            let names = self.further_crds.clone();
            let target = RuleTarget::Resource { group: group.to_owned(), resource: resource.to_owned(), names };
            rules.add(target, CRD_VERBS.map(str::to_owned));
        }
        rules.reduced()
    }

    fn in_mesh(&self) -> RuleSet {
        let mut rules = Self::own_rules(PermissionScope::Mesh);
        self.granted.values().for_each(|granted| rules.extend(&granted.mesh));
        rules.without(&self.in_cluster()).reduced()
    }

    fn in_operators_namespace(&self) -> RuleSet {
        Self::own_rules(PermissionScope::Operator).without(&self.in_cluster()).reduced()
    }

    /// A role and its binding to the operator's ServiceAccount.
    fn role(&self, name: &str, namespace: Option<&str>, rules: &RuleSet) -> [Value; 2] {
        let kind = if namespace.is_some() { "Role" } else { "ClusterRole" };
        let mut metadata = json!({"name": name, "labels": {"app.kubernetes.io/name": ACCOUNT}});
        if let (Some(namespace), Some(metadata)) = (namespace, metadata.as_object_mut()) {
            metadata.insert("namespace".into(), namespace.into());
        }
        let rules: Vec<Value> = rules.policies().into_iter().map(plain).collect();
        let api_version = format!("{RBAC_API}/v1");
        [
            json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "rules": rules}),
            json!({
                "apiVersion": api_version,
                "kind": format!("{kind}Binding"),
                "metadata": metadata,
                "roleRef": {"apiGroup": RBAC_API, "kind": kind, "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": self.namespaces.operator}],
            }),
        ]
    }
}

/// One permission for each name of a target.
fn expand(target: &RuleTarget, namespace: Option<&String>, verb: &str) -> Vec<Permission> {
    let permission = |group: &str, resource: &str, name: Option<&String>| Permission {
        namespace: namespace.cloned(),
        group: group.to_owned(),
        resource: resource.to_owned(),
        name: name.cloned(),
        verb: verb.to_owned(),
    };
    match target {
        RuleTarget::Resource { group, resource, names } if names.is_empty() => vec![permission(group, resource, None)],
        RuleTarget::Resource { group, resource, names } => {
            names.iter().map(|name| permission(group, resource, Some(name))).collect()
        }
        RuleTarget::Path(path) => vec![permission(NON_RESOURCE, path, None)],
    }
}

/// A rule as JSON, built without the fallible serialization of its type.
fn plain(rule: PolicyRule) -> Value {
    let lists = [
        ("apiGroups", rule.api_groups),
        ("nonResourceURLs", rule.non_resource_urls),
        ("resourceNames", rule.resource_names),
        ("resources", rule.resources),
        ("verbs", Some(rule.verbs)),
    ];
    lists.into_iter().filter_map(|(name, words)| Some((name.to_owned(), json!(words?)))).collect()
}

/// Title of a role in the document. The roles of all gateways differ only by name, so they share one.
fn title(role: &DesiredObject) -> String {
    match role.component {
        Component::Gateway(_) => format!("{} of each gateway", role.key.kind),
        Component::AddOn(ref name) => format!("{} `{}` of the add-on {name}", role.key.kind, role.key.name),
        _ => format!("{} `{}`", role.key.kind, role.key.name),
    }
}

/// The permissions in the desired role that the live role lacks.
pub fn missing_rules(desired: &DesiredObject, live: &Value) -> Result<Vec<Permission>, PermissionsError> {
    let (mut wanted, mut found) = (RuleSet::default(), RuleSet::default());
    read_rules(desired, &mut wanted)?;
    add_rules(&desired.key, live, &mut found)?;
    let missing = wanted.without(&found).reduced();
    Ok(missing.iter().flat_map(|(target, verb)| expand(target, desired.key.namespace.as_ref(), verb)).collect())
}

fn read_rules(role: &DesiredObject, rules: &mut RuleSet) -> Result<(), PermissionsError> {
    let value = role.value();
    if value.get("aggregationRule").is_some_and(|rule| !rule.is_null()) {
        return Err(PermissionsError::Aggregated { key: role.key.clone() });
    }
    add_rules(&role.key, &value, rules)
}

fn add_rules(key: &ObjectKey, role: &Value, rules: &mut RuleSet) -> Result<(), PermissionsError> {
    let listed = role.get("rules").filter(|rules| !rules.is_null()).cloned().unwrap_or_else(|| json!([]));
    let listed: Vec<PolicyRule> =
        serde_json::from_value(listed).map_err(|source| PermissionsError::Rules { key: key.clone(), source })?;
    for rule in &listed {
        rules.add_policy(rule);
    }
    Ok(())
}

/// Kind and name of a binding's role.
fn bound_role(binding: &DesiredObject) -> String {
    let binding = binding.value();
    let of = |path: &str| binding.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    format!("{} {}", of("/roleRef/kind"), of("/roleRef/name"))
}
