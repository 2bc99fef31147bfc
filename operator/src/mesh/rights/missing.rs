//! Which rights a mesh's writes take, and which of them are not held: told before the first of them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::authorization::v1::SubjectRulesReviewStatus;
use k8s_openapi::api::rbac::v1::PolicyRule;

use super::rule::{Rules, Target};
use super::{NO_RESOURCE, Placement, Right, each, read_rules};
use crate::mesh::kind::Kind;
use crate::mesh::object::Desired;
use crate::mesh::words::few;

/// The rights that a mesh's writes take.
#[derive(Clone, Debug, Default)]
pub struct Required {
    /// To write the objects themselves, and what the operator remembers and proves them by.
    written: BTreeSet<Right>,
    /// That the mesh's roles grant in turn: nobody may grant what he doesn't hold.
    granted: BTreeSet<Right>,
}

impl Required {
    /// To write the objects that `changes` picks from all that a mesh consists of. Rules that can't be read are left to the
    /// API server.
    pub fn to_write<'a>(
        placement: &Placement,
        all: impl IntoIterator<Item = &'a Desired>,
        changes: impl Fn(&Desired) -> bool,
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
                required.written.insert(Right {
                    namespace: object.key.namespace.clone(),
                    group: kind.group().to_owned(),
                    resource: kind.plural().to_owned(),
                    name: Some(object.key.name.clone()),
                    verb: verb.to_owned(),
                });
            }
        }
        required.written.extend(of_the_operator(placement));
        // Who binds a role grants what it allows as well.
        for role in roles.into_iter().filter(|_| grants) {
            let mut allowed = Rules::default();
            if read_rules(role, &mut allowed).is_ok() {
                let rights = allowed.iter().flat_map(|(target, verb)| each(target, role.key.namespace.as_ref(), verb));
                required.granted.extend(rights);
            }
        }
        required
    }

    /// What of it is not held, as far as that is known.
    #[must_use]
    pub fn missing(&self, held: &Held) -> Vec<Right> {
        let granted = self.granted.iter().filter(|_| !held.grants_anything());
        self.written.iter().chain(granted).filter(|right| !held.covers(right)).cloned().collect()
    }
}

/// What goes with every new spec.
fn of_the_operator(placement: &Placement) -> impl Iterator<Item = Right> {
    let Placement { operator, mesh } = placement;
    let uses = [
        (None, "meshwright.dev", "meshinstallations", "patch"),
        (Some(operator), "apps", "controllerrevisions", "create"),
        (Some(operator), "apps", "controllerrevisions", "patch"),
        (Some(mesh), "", "pods", "create"),
    ];
    uses.map(|(namespace, group, resource, verb)| Right {
        namespace: namespace.cloned(),
        group: group.to_owned(),
        resource: resource.to_owned(),
        name: None,
        verb: verb.to_owned(),
    })
    .into_iter()
}

/// Rights that are held, as the API server tells them.
#[derive(Clone, Debug, Default)]
pub struct Held {
    in_cluster: Rules,
    in_namespaces: BTreeMap<String, Rules>,
}

impl Held {
    /// Takes in what is held in a namespace; `None`: in all of them.
    pub fn learn(&mut self, namespace: Option<&str>, told: SubjectRulesReviewStatus) {
        let rules = match namespace {
            Some(namespace) => self.in_namespaces.entry(namespace.to_owned()).or_default(),
            None => &mut self.in_cluster,
        };
        for rule in told.resource_rules {
            rules.add_policy(&PolicyRule {
                api_groups: rule.api_groups,
                resources: rule.resources,
                resource_names: rule.resource_names,
                verbs: rule.verbs,
                ..PolicyRule::default()
            });
        }
        for rule in told.non_resource_rules {
            let (non_resource_urls, verbs) = (rule.non_resource_urls, rule.verbs);
            rules.add_policy(&PolicyRule { non_resource_urls, verbs, ..PolicyRule::default() });
        }
    }

    fn covers(&self, right: &Right) -> bool {
        let target = match right.group.as_str() {
            NO_RESOURCE => Target::Path(right.resource.clone()),
            group => Target::Resource {
                group: group.to_owned(),
                resource: right.resource.clone(),
                names: right.name.iter().cloned().collect(),
            },
        };
        let of_namespace = right.namespace.as_ref().and_then(|namespace| self.in_namespaces.get(namespace));
        std::iter::once(&self.in_cluster).chain(of_namespace).any(|rules| rules.allow(&target, &right.verb))
    }

    /// Whether RBAC lets roles of any content be made and bound.
    fn grants_anything(&self) -> bool {
        let may = |resource: &str, verb: &str| {
            let (group, resource) = (super::RBAC_API.to_owned(), resource.to_owned());
            self.in_cluster.allow(&Target::Resource { group, resource, names: BTreeSet::new() }, verb)
        };
        ["clusterroles", "roles"].into_iter().all(|roles| may(roles, "escalate") && may(roles, "bind"))
    }
}

/// What is missing, by place and verbs: most resources lack the same.
#[must_use]
pub fn together(missing: &[Right]) -> BTreeMap<(String, Vec<&str>), Vec<String>> {
    let mut verbs: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    for right in missing {
        let place = match &right.namespace {
            Some(namespace) => format!("in namespace {namespace}"),
            None => "in the whole cluster".to_owned(),
        };
        verbs.entry((place, right.target())).or_default().push(&right.verb);
    }
    let mut targets: BTreeMap<(String, Vec<&str>), Vec<String>> = BTreeMap::new();
    for ((place, target), verbs) in verbs {
        targets.entry((place, verbs)).or_default().push(target);
    }
    targets
}

/// What is missing, in a sentence: by resource, whichever objects it would be used on, and by the widest place.
#[must_use]
pub fn sentence(missing: &[Right]) -> String {
    let without_names: BTreeSet<Right> = missing.iter().map(|right| Right { name: None, ..right.clone() }).collect();
    let in_cluster = |right: &Right| without_names.contains(&Right { namespace: None, ..right.clone() });
    let widest = without_names.iter().filter(|right| right.namespace.is_none() || !in_cluster(right));
    let widest: Vec<Right> = widest.cloned().collect();
    let lacks = together(&widest).into_iter();
    let lacks: Vec<String> = lacks
        .map(|((place, verbs), targets)| format!("may not {} {} {place}", verbs.join(", "), few(&targets)))
        .collect();
    format!("the operator {}", lacks.join("; "))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::authorization::v1::ResourceRule;
    use serde_json::json;

    use super::super::tests::{object, placement, role, rule};
    use super::*;
    use crate::mesh::object::Component;

    fn told(rules: &[(&str, &str, &[&str], &[&str])]) -> SubjectRulesReviewStatus {
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

    /// What of the rights for a Service, a role and its binding is missing for somebody who holds these in the cluster and
    /// these in the mesh's namespace.
    fn missing(
        changed: &[&str],
        in_cluster: &[(&str, &str, &[&str], &[&str])],
        in_mesh: &[(&str, &str, &[&str], &[&str])],
    ) -> Vec<Right> {
        let service =
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "istiod", "namespace": "istio-system"}});
        let all = [
            object(service, &Component::Istiod),
            role("ClusterRole", "istiod", None, &json!([rule("", "nodes", &["list"])])),
            role("Role", "istiod", Some("istio-system"), &json!([rule("", "secrets", &["get"])])),
        ];
        let required = Required::to_write(&placement(), &all, |object| changed.contains(&object.key.kind.name()));
        let mut held = Held::default();
        held.learn(None, told(&[in_cluster, &OWN].concat()));
        held.learn(Some("istio-system"), told(in_mesh));
        required.missing(&held)
    }

    const ROLES: &str = "rbac.authorization.k8s.io";

    #[test]
    fn a_write_takes_the_rights_to_make_and_to_change_the_object_where_it_is() {
        assert_eq!(missing(&["Service"], &[("", "services", &[], &["*"])], &[]), []);
        assert_eq!(missing(&["Service"], &[], &[("", "services", &["istiod"], &["create", "patch"])]), []);
        let lacks =
            missing(&["Service"], &[("", "services", &["other"], &["*"])], &[("", "services", &[], &["create"])]);
        assert_eq!(sentence(&lacks), "the operator may not patch services in namespace istio-system");
    }

    #[test]
    fn a_role_takes_the_rights_that_it_grants_unless_roles_of_any_content_may_be_made() {
        let roles =
            [(ROLES, "clusterroles", &[][..], &["create", "patch"][..]), (ROLES, "roles", &[], &["create", "patch"])];
        let both = ["ClusterRole", "Role"];
        assert_eq!(
            sentence(&missing(&both, &roles, &[])),
            "the operator may not get secrets in namespace istio-system; may not list nodes in the whole cluster"
        );
        let held = [roles.as_slice(), &[("", "nodes", &[], &["list"])]].concat();
        assert_eq!(missing(&both, &held, &[("", "secrets", &[], &["get"])]), []);
        let way_round = [(ROLES, "*", &[][..], &["*"][..])];
        assert_eq!(missing(&both, &way_round, &[]), []);
        assert_eq!(missing(&["Service"], &[("", "*", &[], &["create", "patch"])], &[]), [], "no role is written");
    }

    #[test]
    fn what_is_missing_everywhere_is_not_said_of_a_namespace_as_well() {
        let right = |namespace: Option<&str>, name: Option<&str>| Right {
            namespace: namespace.map(str::to_owned),
            group: String::new(),
            resource: "services".into(),
            name: name.map(str::to_owned),
            verb: "patch".into(),
        };
        let missing = [right(Some("edge"), Some("a")), right(Some("edge"), Some("b")), right(None, None)];
        assert_eq!(sentence(&missing), "the operator may not patch services in the whole cluster");
        assert_eq!(sentence(&missing[..2]), "the operator may not patch services in namespace edge");
    }

    #[test]
    fn what_the_operator_keeps_for_itself_is_looked_for_in_its_own_namespace() {
        let required = Required::to_write(&placement(), [], |_| true);
        let mut held = Held::default();
        held.learn(Some("istio-system"), told(&OWN));
        let said = sentence(&required.missing(&held));
        assert!(
            said.contains("may not create, patch controllerrevisions.apps in namespace meshwright-system"),
            "{said}"
        );
        assert!(said.contains("may not patch meshinstallations.meshwright.dev in the whole cluster"), "{said}");
    }
}
