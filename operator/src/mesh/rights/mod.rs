//! PURE: which rights the operator must have, as manifests and as a document for those who have to grant them.
//!
//! They come from two places: what the operator does itself ([`needs`]), and the roles that a release's charts make,
//! since Kubernetes lets nobody make a role that allows more than he may do himself. With exactly the union of the two
//! the operator needs neither `escalate` nor `bind`.

mod document;
mod granted;
mod in_namespaces;
mod missing;
mod needs;
mod rule;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::{Value, json};

pub use self::missing::{Held, Required, sentence, together};
use self::needs::{Reach, needs};
use self::rule::{Rules, Target};
use super::kind::Kind;
use super::object::{Component, Desired, ObjectKey};

/// The operator's ServiceAccount, and the name of its roles.
pub const ACCOUNT: &str = "meshwright";
/// The Role in the control plane's namespace.
pub const MESH_ROLE: &str = "meshwright-mesh";
const RBAC_API: &str = "rbac.authorization.k8s.io";

/// Where the operator and the mesh are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Namespace of the operator.
    pub operator: String,
    /// Namespace of the control plane.
    pub mesh: String,
}

/// The rights of a release's roles can't be worked out.
#[derive(Debug, thiserror::Error)]
pub enum RightsError {
    /// A role's rules are none.
    #[error("the rules of {key} can't be read")]
    Rules {
        /// The role.
        key: ObjectKey,
        /// Cause.
        #[source]
        source: serde_json::Error,
    },
    /// Kubernetes grants aggregated roles to nobody but a cluster's administrator.
    #[error("{key} aggregates other roles: only an administrator may make such a role")]
    Aggregated {
        /// The role.
        key: ObjectKey,
    },
    /// Whose rights aren't known can't be held.
    #[error("{key} binds {role}, which no chart makes: its rights are not known, and without them it can't be bound")]
    UnknownRole {
        /// The binding.
        key: ObjectKey,
        /// Kind and name of the role.
        role: String,
    },
}

/// The operator's rights for the releases of a catalog.
#[derive(Clone, Debug)]
pub struct Rights {
    placement: Placement,
    /// By the role that they are granted to in turn.
    granted: BTreeMap<String, Granted>,
}

/// One right, as a review of access asks for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// In this namespace; `None`: in all of them, and on what is in none.
    pub namespace: Option<String>,
    /// API group; empty for the core group. A path that is no resource has the group `-`.
    pub group: String,
    /// Resource, `resource/subresource`, or the path.
    pub resource: String,
    /// Only the object of this name.
    pub name: Option<String>,
    /// The verb.
    pub verb: String,
}

/// Stands for the group of what is no resource.
pub const NO_RESOURCE: &str = "-";

impl Right {
    /// What the right is on. Example: `deployments.apps/scale`.
    #[must_use]
    pub fn target(&self) -> String {
        let name = self.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        match (self.group.as_str(), self.resource.split_once('/')) {
            ("" | NO_RESOURCE, _) => format!("{}{name}", self.resource),
            (group, Some((resource, part))) => format!("{resource}.{group}/{part}{name}"),
            (group, None) => format!("{}.{group}{name}", self.resource),
        }
    }
}

/// What one role of the mesh allows.
#[derive(Clone, Debug, Default)]
struct Granted {
    in_cluster: Rules,
    in_mesh: Rules,
    /// In the namespace of a gateway, which may be any.
    elsewhere: Rules,
}

impl Granted {
    /// What has to be held in all namespaces, so that it is held wherever gateways are.
    fn everywhere(&self) -> Rules {
        let mut rules = self.in_cluster.clone();
        rules.extend(&self.elsewhere);
        rules
    }
}

impl Rights {
    /// The rights that installing these objects takes, beside those that the operator needs anyway. `objects` are what
    /// the charts render to, of as many releases and profiles as shall be allowed.
    pub fn of<'a>(placement: Placement, objects: impl IntoIterator<Item = &'a Desired>) -> Result<Self, RightsError> {
        let mut granted: BTreeMap<String, Granted> = BTreeMap::new();
        let mut made = BTreeSet::new();
        let mut bindings = Vec::new();
        for object in objects {
            match object.key.kind {
                Kind::ClusterRole | Kind::Role => {
                    made.insert(format!("{} {}", object.key.kind, object.key.name));
                    let granted = granted.entry(title(object)).or_default();
                    let rules = match &object.key.namespace {
                        None => &mut granted.in_cluster,
                        Some(namespace) if *namespace == placement.mesh => &mut granted.in_mesh,
                        Some(_) => &mut granted.elsewhere,
                    };
                    read_rules(object, rules)?;
                }
                Kind::ClusterRoleBinding | Kind::RoleBinding => bindings.push(object),
                _ => {}
            }
        }
        for binding in bindings {
            let role = bound_role(binding);
            if !made.contains(&role) {
                return Err(RightsError::UnknownRole { key: binding.key.clone(), role });
            }
        }
        Ok(Self { placement, granted })
    }

    /// Everything that has to be applied before the operator can work, its own namespace and ServiceAccount aside.
    #[must_use]
    pub fn manifests(&self) -> Vec<Value> {
        let Placement { operator, mesh } = &self.placement;
        let mut manifests = Vec::new();
        if mesh != operator {
            manifests.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": mesh}}));
        }
        manifests.extend(self.role(ACCOUNT, None, &self.in_cluster()));
        manifests.extend(self.role(ACCOUNT, Some(operator), &self.in_operators_namespace()));
        manifests.extend(self.role(MESH_ROLE, Some(mesh), &self.in_mesh()));
        manifests
    }

    /// Every single right, to be asked for one by one.
    #[must_use]
    pub fn list(&self) -> Vec<Right> {
        let Placement { operator, mesh } = &self.placement;
        let places =
            [(None, self.in_cluster()), (Some(mesh), self.in_mesh()), (Some(operator), self.in_operators_namespace())];
        let mut rights = Vec::new();
        for (namespace, rules) in &places {
            for (target, verb) in rules.iter() {
                rights.extend(each(target, *namespace, verb));
            }
        }
        rights
    }

    fn own(reach: Reach) -> Rules {
        let mut rules = Rules::default();
        needs().filter(|need| need.reach == reach).for_each(|need| need.add_to(&mut rules));
        rules
    }

    fn in_cluster(&self) -> Rules {
        let mut rules = Self::own(Reach::Cluster);
        self.granted.values().for_each(|granted| rules.extend(&granted.everywhere()));
        rules.reduced()
    }

    fn in_mesh(&self) -> Rules {
        let mut rules = Self::own(Reach::Mesh);
        self.granted.values().for_each(|granted| rules.extend(&granted.in_mesh));
        rules.without(&self.in_cluster()).reduced()
    }

    fn in_operators_namespace(&self) -> Rules {
        Self::own(Reach::Operator).without(&self.in_cluster()).reduced()
    }

    /// A role and its binding to the operator.
    fn role(&self, name: &str, namespace: Option<&str>, rules: &Rules) -> [Value; 2] {
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
                "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": self.placement.operator}],
            }),
        ]
    }
}

/// A target with several names is one right for each.
fn each(target: &Target, namespace: Option<&String>, verb: &str) -> Vec<Right> {
    let right = |group: &str, resource: &str, name: Option<&String>| Right {
        namespace: namespace.cloned(),
        group: group.to_owned(),
        resource: resource.to_owned(),
        name: name.cloned(),
        verb: verb.to_owned(),
    };
    match target {
        Target::Resource { group, resource, names } if names.is_empty() => vec![right(group, resource, None)],
        Target::Resource { group, resource, names } => {
            names.iter().map(|name| right(group, resource, Some(name))).collect()
        }
        Target::Path(path) => vec![right(NO_RESOURCE, path, None)],
    }
}

/// A rule as plain data. Its own serialization could fail by its type, though never in fact.
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

/// What a role is called in the document. All gateways' are alike but for their names.
fn title(role: &Desired) -> String {
    match role.component {
        Component::Gateway(_) => format!("{} of each gateway", role.key.kind),
        Component::AddOn(ref name) => format!("{} `{}` of the add-on {name}", role.key.kind, role.key.name),
        _ => format!("{} `{}`", role.key.kind, role.key.name),
    }
}

/// What a live role doesn't allow of what the desired one does.
pub fn lacking(desired: &Desired, live: &Value) -> Result<Vec<Right>, RightsError> {
    let (mut wanted, mut found) = (Rules::default(), Rules::default());
    read_rules(desired, &mut wanted)?;
    add_rules(&desired.key, live, &mut found)?;
    let lacks = wanted.without(&found).reduced();
    Ok(lacks.iter().flat_map(|(target, verb)| each(target, desired.key.namespace.as_ref(), verb)).collect())
}

fn read_rules(role: &Desired, rules: &mut Rules) -> Result<(), RightsError> {
    let value = role.value();
    if value.get("aggregationRule").is_some_and(|rule| !rule.is_null()) {
        return Err(RightsError::Aggregated { key: role.key.clone() });
    }
    add_rules(&role.key, &value, rules)
}

fn add_rules(key: &ObjectKey, role: &Value, rules: &mut Rules) -> Result<(), RightsError> {
    let listed = role.get("rules").filter(|rules| !rules.is_null()).cloned().unwrap_or_else(|| json!([]));
    let listed: Vec<PolicyRule> =
        serde_json::from_value(listed).map_err(|source| RightsError::Rules { key: key.clone(), source })?;
    for rule in &listed {
        rules.add_policy(rule);
    }
    Ok(())
}

/// Kind and name of the role that a binding is about.
fn bound_role(binding: &Desired) -> String {
    let binding = binding.value();
    let of = |path: &str| binding.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    format!("{} {}", of("/roleRef/kind"), of("/roleRef/name"))
}
