//! Live objects, reduced to what decisions need: identity, marks, drift from the desired state, and the few facts that
//! readiness and gates read. The object itself is dropped: hundreds of them cost a few KiB.

use serde_json::Value;

use super::adoption;
use super::definition;
use super::drift::{self, Difference, DifferenceKind};
use super::effective::effective;
use super::fields::FieldChange;
use super::kind::Kind;
use super::marks::Marks;
use super::object::{Desired, ENFORCE_LABEL, ObjectKey, short_hash};
use super::revisions::REVISION_LABEL;
use super::sufficient;

/// A live object as far as decisions need it.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    /// UID of the object.
    pub uid: String,
    /// Its resource version; newer ones compare greater.
    pub resource_version: u64,
    /// Its deletion has begun.
    pub deleting: bool,
    /// Whose it is.
    pub marks: Marks,
    /// How it compares with what is desired.
    pub drift: Drift,
    /// Where it carries no mark of ours: what would change in it if it became ours.
    pub differences: Vec<FieldChange>,
    /// A definition that says of no release that it is its, and knows more than what is desired.
    pub is_ahead: bool,
    /// What readiness and gates read.
    pub facts: Facts,
}

/// How a live object compares with what is desired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drift {
    /// Seen before it was known what is desired.
    Unchecked,
    /// As desired.
    None,
    /// Fields that we want are missing or different: apply again.
    Fields(Vec<String>),
    /// Only additions that must not stay (containers, webhook entries, keys): take them out.
    Extras(Vec<String>),
}

/// What readiness and gates read from an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Facts {
    /// Nothing.
    Plain,
    /// A namespace.
    Namespace {
        /// It is being deleted: nothing can be created in it.
        terminating: bool,
        /// The level of Pod Security that its label enforces, if it has that label.
        enforces: Option<String>,
    },
    /// A CRD.
    Definition {
        /// The API server serves it.
        established: bool,
    },
    /// A Deployment or DaemonSet.
    Workload(Workload),
    /// A webhook configuration.
    Webhooks {
        /// Names of entries without a CA bundle.
        without_ca: Vec<String>,
        /// Changes when an entry, its service or its CA bundle does.
        identity: String,
        /// The names (revision or tag) for which it injects, as the label `istio.io/rev` has them.
        answers: Vec<String>,
    },
    /// A Service.
    Service(ServiceFacts),
    /// A ConfigMap; its content's hash.
    Content(String),
}

/// The rollout of a Deployment or DaemonSet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// The controller has seen the newest generation.
    pub observed: bool,
    /// Generation of the spec.
    pub generation: i64,
    /// Pods wanted; of a DaemonSet, nodes that shall have one.
    pub desired: i32,
    /// Pods of the newest template.
    pub updated: i32,
    /// Pods that serve, of any template.
    pub available: i32,
    /// Pods in all.
    pub total: i32,
    /// Why it doesn't progress, as its conditions say.
    pub complaint: Option<String>,
}

impl Workload {
    /// The rollout is complete for the newest generation: every pod is of the newest template and serves. A cluster
    /// without nodes has nothing to roll out.
    #[must_use]
    pub const fn complete(&self) -> bool {
        self.observed && self.updated >= self.desired && self.available >= self.desired && self.total <= self.updated
    }

    /// Pods of older templates.
    #[must_use]
    pub fn old(&self) -> i32 {
        (self.total - self.updated).max(0)
    }

    /// Pods of the newest template that serve, as far as that is certain: nothing tells of which template those are that
    /// don't.
    #[must_use]
    pub fn ready(&self) -> i32 {
        (self.available - self.old()).clamp(0, self.updated.max(0))
    }

    /// The rollout is complete, and there is a pod that serves.
    #[must_use]
    pub const fn rolled_out(&self) -> bool {
        self.complete() && self.desired > 0
    }

    /// As [`Self::rolled_out`], but where an autoscaler chooses the number of pods, its minimum is enough: more pods on
    /// their way are no trouble.
    #[must_use]
    pub fn is_up(&self, minimum: Option<i32>) -> bool {
        let Some(minimum) = minimum else { return self.rolled_out() };
        let enough = minimum.max(1).min(self.desired);
        self.observed
            && self.updated >= enough
            && self.available >= enough
            && self.total <= self.updated
            && self.desired > 0
    }
}

/// A Service's ports and addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceFacts {
    /// Type, as in its spec.
    pub service_type: String,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// The node port by which load balancers check a node's health, if it has one.
    pub health_check_node_port: Option<i32>,
    /// Load balancer addresses, IP or host name.
    pub addresses: Vec<String>,
}

impl ServiceFacts {
    /// Every node port that the Service holds.
    pub fn node_ports(&self) -> impl Iterator<Item = i32> {
        self.ports.iter().filter_map(|port| port.node_port).chain(self.health_check_node_port)
    }

    /// Nothing has given the Service's load balancer an address.
    #[must_use]
    pub fn awaits_address(&self) -> bool {
        self.service_type == "LoadBalancer" && self.addresses.is_empty()
    }
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Name.
    pub name: String,
    /// Port.
    pub port: i32,
    /// Node port, if it has one.
    pub node_port: Option<i32>,
    /// Protocol.
    pub protocol: String,
}

impl Live {
    /// Whether the watches tell of its changes: they see what carries our mark.
    #[must_use]
    pub const fn is_watched(&self) -> bool {
        self.marks.installation.is_some()
    }

    /// Whether this is a later state of the same object.
    #[must_use]
    pub fn is_later_than(&self, other: &Self) -> bool {
        self.uid == other.uid && self.resource_version > other.resource_version
    }

    /// Whether this is that state of an object, or a later one.
    pub(crate) fn is_at_least(&self, object: &Value) -> bool {
        matches!(identity(object), (uid, version) if self.uid == uid && self.resource_version >= version)
    }

    /// Reduces a live object. `accepted` is the fingerprint that the server answered to our last apply, if any: what
    /// the server itself made of our words is no drift.
    #[must_use]
    pub fn of(kind: Kind, object: &Value, desired: Option<&Desired>, accepted: Option<&str>) -> Self {
        let (uid, resource_version) = identity(object);
        let marks = Marks::of(object);
        let unmarked = desired.filter(|_| marks.are_missing() && !kind.shared());
        let undated = desired.filter(|_| kind == Kind::CustomResourceDefinition && marks.release.is_none());
        Self {
            uid: uid.to_owned(),
            resource_version,
            deleting: object.pointer("/metadata/deletionTimestamp").is_some_and(Value::is_string),
            marks,
            differences: unmarked.map(|desired| adoption::differences(desired, object)).unwrap_or_default(),
            drift: desired.map_or(Drift::Unchecked, |desired| judge(desired, object, accepted)),
            is_ahead: undated.is_some_and(|desired| definition::is_ahead(&desired.value(), object)),
            facts: Facts::of(kind, object),
        }
    }
}

/// UID and resource version of an object.
fn identity(object: &Value) -> (&str, u64) {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    (text("/metadata/uid"), text("/metadata/resourceVersion").parse().unwrap_or_default())
}

fn judge(desired: &Desired, live: &Value, accepted: Option<&str>) -> Drift {
    if desired.preinstalled
        && let Some(lacks) = sufficient::lacks(desired, live)
    {
        return if lacks.is_empty() { Drift::None } else { Drift::Fields(lacks) };
    }
    let wanted = effective(desired.value(), live);
    let differences = drift::drift(&wanted, live);
    let (extras, fields): (Vec<Difference>, Vec<Difference>) =
        differences.into_iter().partition(|d| d.kind == DifferenceKind::Extra);
    let paths = |list: Vec<Difference>| list.into_iter().map(|d| d.path).collect();
    if !fields.is_empty() && accepted != Some(drift::fingerprint(&wanted, live).as_str()) {
        return Drift::Fields(paths(fields));
    }
    if extras.is_empty() { Drift::None } else { Drift::Extras(paths(extras)) }
}

impl Facts {
    /// Reads the facts of an object of this kind.
    #[must_use]
    pub fn of(kind: Kind, object: &Value) -> Self {
        match kind {
            Kind::Namespace => Self::Namespace {
                terminating: object.pointer("/status/phase").and_then(Value::as_str) == Some("Terminating"),
                enforces: object
                    .pointer("/metadata/labels")
                    .and_then(|labels| labels.get(ENFORCE_LABEL))
                    .and_then(Value::as_str)
                    .map(str::to_owned),
            },
            Kind::CustomResourceDefinition => {
                Self::Definition { established: condition(object, "Established").is_some_and(|(status, _)| status) }
            }
            Kind::Deployment => Self::Workload(workload(object)),
            Kind::DaemonSet => Self::Workload(node_workload(object)),
            Kind::Service => Self::Service(service(object)),
            Kind::ConfigMap => {
                Self::Content(short_hash(object.get("data").map(Value::to_string).unwrap_or_default().as_bytes()))
            }
            Kind::MutatingWebhookConfiguration | Kind::ValidatingWebhookConfiguration => webhooks(object),
            _ => Self::Plain,
        }
    }
}

/// Status and message of a condition.
fn condition(object: &Value, name: &str) -> Option<(bool, String)> {
    let list = object.pointer("/status/conditions")?.as_array()?;
    let found = list.iter().find(|c| c.get("type").and_then(Value::as_str) == Some(name))?;
    let message = found.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
    Some((found.get("status").and_then(Value::as_str) == Some("True"), message))
}

fn int(object: &Value, path: &str) -> Option<i64> {
    object.pointer(path).and_then(Value::as_i64)
}

fn int32(object: &Value, path: &str) -> Option<i32> {
    int(object, path).and_then(|n| i32::try_from(n).ok())
}

fn workload(object: &Value) -> Workload {
    let generation = int(object, "/metadata/generation").unwrap_or_default();
    let complaint = condition(object, "ReplicaFailure")
        .filter(|(failing, _)| *failing)
        .or_else(|| condition(object, "Progressing").filter(|(progressing, _)| !progressing))
        .map(|(_, message)| message);
    Workload {
        observed: int(object, "/status/observedGeneration").unwrap_or(-1) >= generation,
        generation,
        desired: int32(object, "/spec/replicas").unwrap_or(1),
        updated: int32(object, "/status/updatedReplicas").unwrap_or_default(),
        available: int32(object, "/status/availableReplicas").unwrap_or_default(),
        total: int32(object, "/status/replicas").unwrap_or_default(),
        complaint,
    }
}

fn node_workload(object: &Value) -> Workload {
    let generation = int(object, "/metadata/generation").unwrap_or_default();
    let count = |name: &str| int32(object, &format!("/status/{name}")).unwrap_or_default();
    Workload {
        observed: int(object, "/status/observedGeneration").unwrap_or(-1) >= generation,
        generation,
        desired: count("desiredNumberScheduled"),
        updated: count("updatedNumberScheduled"),
        available: count("numberAvailable"),
        // Pods on nodes that shall have none, or that are more than one on a node, are not told apart by template.
        total: count("updatedNumberScheduled"),
        complaint: None,
    }
}

fn service(object: &Value) -> ServiceFacts {
    let list = |path: &str| object.pointer(path).and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let ports = list("/spec/ports")
        .iter()
        .map(|port| ServicePort {
            name: text(port, "name").unwrap_or_default(),
            port: int32(port, "/port").unwrap_or_default(),
            node_port: int32(port, "/nodePort").filter(|p| *p > 0),
            protocol: text(port, "protocol").unwrap_or_else(|| "TCP".into()),
        })
        .collect();
    let addresses = list("/status/loadBalancer/ingress")
        .iter()
        .filter_map(|entry| text(entry, "ip").or_else(|| text(entry, "hostname")))
        .collect();
    let service_type = object.pointer("/spec/type").and_then(Value::as_str).unwrap_or("ClusterIP").to_owned();
    let health_check_node_port = int32(object, "/spec/healthCheckNodePort").filter(|p| *p > 0);
    ServiceFacts { service_type, ports, health_check_node_port, addresses }
}

fn webhooks(object: &Value) -> Facts {
    let entries = object.get("webhooks").and_then(Value::as_array).cloned().unwrap_or_default();
    let without_ca = entries
        .iter()
        .filter(|hook| hook.pointer("/clientConfig/caBundle").and_then(Value::as_str).is_none_or(str::is_empty))
        .filter_map(|hook| hook.get("name").and_then(Value::as_str).map(str::to_owned))
        .collect();
    // The entry that takes namespaces with the label `istio.io/rev`; each has one.
    let by_namespace = |hook: &&Value| hook.get("name").is_some_and(|n| n == "rev.namespace.sidecar-injector.istio.io");
    let answers = entries.iter().filter(by_namespace).flat_map(names_asked_for).collect();
    let identity = short_hash(Value::Array(entries).to_string().as_bytes());
    Facts::Webhooks { without_ca, identity, answers }
}

fn names_asked_for(hook: &Value) -> Vec<String> {
    let expressions = hook.pointer("/namespaceSelector/matchExpressions").and_then(Value::as_array);
    let by_name = |expression: &&Value| {
        let is = |key: &str, value: &str| expression.get(key).and_then(Value::as_str) == Some(value);
        is("key", REVISION_LABEL) && is("operator", "In")
    };
    let values = |expression: &Value| expression.get("values").and_then(Value::as_array).cloned().unwrap_or_default();
    let found = expressions.into_iter().flatten().filter(by_name).flat_map(values);
    found.filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

/// Live objects by key.
pub type LiveObjects = std::collections::BTreeMap<ObjectKey, Live>;
