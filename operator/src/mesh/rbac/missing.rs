//! The permissions that writing a mesh takes, and which of them are missing; checked before the first write.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::authorization::v1::SubjectRulesReviewStatus;
use k8s_openapi::api::rbac::v1::PolicyRule;

use super::rule::{RuleSet, RuleTarget};
use super::{InstallNamespaces, NON_RESOURCE, Permission, expand, read_rules};
use crate::mesh::kind::Kind;
use crate::mesh::object::DesiredObject;
use crate::mesh::text::abbreviate;

/// The permissions that writing a mesh takes.
#[derive(Clone, Debug, Default)]
pub struct RequiredPermissions {
    /// For the objects themselves, the revision history and the injection check.
    written: BTreeSet<Permission>,
    /// Permissions in the mesh's roles: Kubernetes prevents granting what one doesn't have.
    granted_by_roles: BTreeSet<Permission>,
}

impl RequiredPermissions {
    /// These permissions and no others.
    #[must_use]
    pub fn of(permissions: BTreeSet<Permission>) -> Self {
        Self { written: permissions, granted_by_roles: BTreeSet::new() }
    }

    /// The permissions for writing those of a mesh's objects that `changes` selects. Unreadable rules are left to the
    /// API server.
    pub fn to_write<'a>(
        namespaces: &InstallNamespaces,
        all: impl IntoIterator<Item = &'a DesiredObject>,
        changes: impl Fn(&DesiredObject) -> bool,
    ) -> Self {
        let mut required = Self::default();
        let (mut roles, mut grants) = (Vec::new(), false);
        for object in all {
            let kind = object.key.kind;
            let is_role = matches!(kind, Kind::ClusterRole | Kind::Role);
            if is_role {
                roles.push(object);
            }
            if !changes(object) {
                continue;
            }
            grants |= is_role || matches!(kind, Kind::ClusterRoleBinding | Kind::RoleBinding);
            for verb in ["create", "patch"] {
                required.written.insert(Permission {
                    namespace: object.key.namespace.clone(),
                    group: kind.group().to_owned(),
                    resource: kind.plural().to_owned(),
                    name: Some(object.key.name.clone()),
                    verb: verb.to_owned(),
                });
            }
        }
        required.written.extend(operator_permissions(namespaces));
        // Binding a role grants its permissions as well.
        for role in roles.into_iter().filter(|_| grants) {
            let mut allowed = RuleSet::default();
            if read_rules(role, &mut allowed).is_ok() {
                let permissions =
                    allowed.iter().flat_map(|(target, verb)| expand(target, role.key.namespace.as_ref(), verb));
                required.granted_by_roles.extend(permissions);
            }
        }
        required
    }

    /// The required permissions that are not granted.
    #[must_use]
    pub fn missing(&self, granted: &GrantedPermissions) -> Vec<Permission> {
        let by_roles = self.granted_by_roles.iter().filter(|_| !granted.may_escalate());
        self.written.iter().chain(by_roles).filter(|permission| !granted.allows(permission)).cloned().collect()
    }
}

/// The permissions that every new spec needs.
fn operator_permissions(namespaces: &InstallNamespaces) -> impl Iterator<Item = Permission> {
    let InstallNamespaces { operator, mesh } = namespaces;
    let own = [
        (None, "meshwright.dev", "meshinstallations", "patch"),
        (Some(operator), "apps", "controllerrevisions", "create"),
        (Some(operator), "apps", "controllerrevisions", "patch"),
        (Some(mesh), "", "pods", "create"),
    ];
    own.map(|(namespace, group, resource, verb)| Permission {
        namespace: namespace.cloned(),
        group: group.to_owned(),
        resource: resource.to_owned(),
        name: None,
        verb: verb.to_owned(),
    })
    .into_iter()
}

/// Granted permissions, from SelfSubjectRulesReviews.
#[derive(Clone, Debug, Default)]
pub struct GrantedPermissions {
    in_cluster: RuleSet,
    in_namespaces: BTreeMap<String, RuleSet>,
}

impl GrantedPermissions {
    /// Adds the review of a namespace; `None` for cluster-wide permissions.
    pub fn add(&mut self, namespace: Option<&str>, review: SubjectRulesReviewStatus) {
        let rules = match namespace {
            Some(namespace) => self.in_namespaces.entry(namespace.to_owned()).or_default(),
            None => &mut self.in_cluster,
        };
        for rule in review.resource_rules {
            rules.add_policy(&PolicyRule {
                api_groups: rule.api_groups,
                resources: rule.resources,
                resource_names: rule.resource_names,
                verbs: rule.verbs,
                ..PolicyRule::default()
            });
        }
        for rule in review.non_resource_rules {
            let (non_resource_urls, verbs) = (rule.non_resource_urls, rule.verbs);
            rules.add_policy(&PolicyRule { non_resource_urls, verbs, ..PolicyRule::default() });
        }
    }

    fn allows(&self, permission: &Permission) -> bool {
        let target = match permission.group.as_str() {
            NON_RESOURCE => RuleTarget::Path(permission.resource.clone()),
            group => RuleTarget::Resource {
                group: group.to_owned(),
                resource: permission.resource.clone(),
                names: permission.name.iter().cloned().collect(),
            },
        };
        let of_namespace = permission.namespace.as_ref().and_then(|namespace| self.in_namespaces.get(namespace));
        std::iter::once(&self.in_cluster).chain(of_namespace).any(|rules| rules.allow(&target, &permission.verb))
    }

    /// Whether roles with any permissions may be created and bound.
    fn may_escalate(&self) -> bool {
        let allows_verb = |resource: &str, verb: &str| {
            let (group, resource) = (super::RBAC_API.to_owned(), resource.to_owned());
            self.in_cluster.allow(&RuleTarget::Resource { group, resource, names: BTreeSet::new() }, verb)
        };
        ["clusterroles", "roles"].into_iter().all(|roles| allows_verb(roles, "escalate") && allows_verb(roles, "bind"))
    }
}

/// Groups missing permissions by scope and verbs, since most resources lack the same verbs.
#[must_use]
pub fn group_by_scope(missing: &[Permission]) -> BTreeMap<(String, Vec<&str>), Vec<String>> {
    let mut verbs: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    for permission in missing {
        let scope = match &permission.namespace {
            Some(namespace) => format!("in namespace {namespace}"),
            None => "in the whole cluster".to_owned(),
        };
        verbs.entry((scope, permission.target())).or_default().push(&permission.verb);
    }
    let mut targets: BTreeMap<(String, Vec<&str>), Vec<String>> = BTreeMap::new();
    for ((scope, target), verbs) in verbs {
        targets.entry((scope, verbs)).or_default().push(target);
    }
    targets
}

/// A sentence about the missing permissions: by resource, without object names, and by the broadest scope.
#[must_use]
pub fn sentence(missing: &[Permission]) -> String {
    let without_names: BTreeSet<Permission> =
        missing.iter().map(|permission| Permission { name: None, ..permission.clone() }).collect();
    let in_cluster =
        |permission: &Permission| without_names.contains(&Permission { namespace: None, ..permission.clone() });
    let broadest = without_names.iter().filter(|permission| permission.namespace.is_none() || !in_cluster(permission));
    let broadest: Vec<Permission> = broadest.cloned().collect();
    let missing_permissions = group_by_scope(&broadest).into_iter();
    let missing_permissions: Vec<String> = missing_permissions
        .map(|((scope, verbs), targets)| format!("may not {} {} {scope}", verbs.join(", "), abbreviate(&targets)))
        .collect();
    format!("the operator {}", missing_permissions.join("; "))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::authorization::v1::ResourceRule;
    use serde_json::json;

    use super::super::tests::{install_namespaces, object, role, rule};
    use super::*;
    use crate::mesh::object::Component;

    fn review(rules: &[(&str, &str, &[&str], &[&str])]) -> SubjectRulesReviewStatus {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let rules = rules.iter().map(|(group, resource, names, verbs)| ResourceRule {
            api_groups: Some(words(&[group])),
            resources: Some(words(&[resource])),
            resource_names: Some(words(names)).filter(|names| !names.is_empty()),
            verbs: words(verbs),
        });
        SubjectRulesReviewStatus { resource_rules: rules.collect(), ..SubjectRulesReviewStatus::default() }
    }

    const OWN: [(&str, &str, &[&str], &[&str]); 3] = [
        ("meshwright.dev", "meshinstallations", &[], &["patch"]),
        ("apps", "controllerrevisions", &[], &["create", "patch"]),
        ("", "pods", &[], &["create"]),
    ];

    /// The missing permissions for writing a Service, a ClusterRole and a Role, given those granted cluster-wide and in
    /// the mesh's namespace.
    fn missing(
        changed: &[&str],
        in_cluster: &[(&str, &str, &[&str], &[&str])],
        in_mesh: &[(&str, &str, &[&str], &[&str])],
    ) -> Vec<Permission> {
        let service =
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "istiod", "namespace": "istio-system"}});
        let all = [
            object(service, &Component::Istiod),
            role("ClusterRole", "istiod", None, &json!([rule("", "nodes", &["list"])])),
            role("Role", "istiod", Some("istio-system"), &json!([rule("", "secrets", &["get"])])),
        ];
        let required = RequiredPermissions::to_write(&install_namespaces(), &all, |object| {
            changed.contains(&object.key.kind.name())
        });
        let mut granted = GrantedPermissions::default();
        granted.add(None, review(&[in_cluster, &OWN].concat()));
        granted.add(Some("istio-system"), review(in_mesh));
        required.missing(&granted)
    }

    const ROLES: &str = "rbac.authorization.k8s.io";

    #[test]
    fn write_needs_create_and_patch() {
        assert_eq!(missing(&["Service"], &[("", "services", &[], &["*"])], &[]), []);
        assert_eq!(missing(&["Service"], &[], &[("", "services", &["istiod"], &["create", "patch"])]), []);
        let missing_permissions =
            missing(&["Service"], &[("", "services", &["other"], &["*"])], &[("", "services", &[], &["create"])]);
        assert_eq!(sentence(&missing_permissions), "the operator may not patch services in namespace istio-system");
    }

    #[test]
    fn role_needs_its_permissions_unless_escalation_is_allowed() {
        let roles =
            [(ROLES, "clusterroles", &[][..], &["create", "patch"][..]), (ROLES, "roles", &[], &["create", "patch"])];
        let both = ["ClusterRole", "Role"];
        assert_eq!(
            sentence(&missing(&both, &roles, &[])),
            "the operator may not get secrets in namespace istio-system; may not list nodes in the whole cluster"
        );
        let granted = [roles.as_slice(), &[("", "nodes", &[], &["list"])]].concat();
        assert_eq!(missing(&both, &granted, &[("", "secrets", &[], &["get"])]), []);
        let escalation = [(ROLES, "*", &[][..], &["*"][..])];
        assert_eq!(missing(&both, &escalation, &[]), []);
        assert_eq!(missing(&["Service"], &[("", "*", &[], &["create", "patch"])], &[]), [], "no role is written");
    }

    #[test]
    fn cluster_wide_lack_is_reported_once() {
        let permission = |namespace: Option<&str>, name: Option<&str>| Permission {
            namespace: namespace.map(str::to_owned),
            group: String::new(),
            resource: "services".into(),
            name: name.map(str::to_owned),
            verb: "patch".into(),
        };
        let missing =
            [permission(Some("edge"), Some("a")), permission(Some("edge"), Some("b")), permission(None, None)];
        assert_eq!(sentence(&missing), "the operator may not patch services in the whole cluster");
        assert_eq!(sentence(&missing[..2]), "the operator may not patch services in namespace edge");
    }

    #[test]
    fn checks_revision_history_in_operator_namespace() {
        let required = RequiredPermissions::to_write(&install_namespaces(), [], |_| true);
        let mut granted = GrantedPermissions::default();
        granted.add(Some("istio-system"), review(&OWN));
        let message = sentence(&required.missing(&granted));
        assert!(
            message.contains("may not create, patch controllerrevisions.apps in namespace meshwright-system"),
            "{message}"
        );
        assert!(message.contains("may not patch meshinstallations.meshwright.dev in the whole cluster"), "{message}");
    }
}
