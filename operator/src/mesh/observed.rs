//! Live objects, reduced on arrival to what decisions read: identity, ownership metadata, drift from the desired
//! object, and the state that readiness and upgrade gates need. The object itself is dropped, so hundreds cost a few
//! KiB.

use jiff::Timestamp;
use serde_json::Value;

use super::adoption;
use super::crd;
use super::drift::{self, Difference, DifferenceKind};
use super::effective::effective;
use super::external_objects;
use super::fields::FieldChange;
use super::kind::Kind;
use super::namespace_rules::Labels;
use super::object::{DesiredObject, ENFORCE_LABEL, ObjectKey, REPLACED_ANNOTATION, short_hash};
use super::ownership::OwnershipMeta;
use super::revisions::REVISION_LABEL;
use super::text::shortened;

/// The most bytes of a rollout error, which quotes pod templates and quotas.
const MAX_ROLLOUT_ERROR: usize = 1024;

/// A live object, reduced to the fields that decisions use.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedObject {
    /// The object's `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion` as a number; a later one compares greater, and 0 is unknown.
    pub resource_version: u64,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// The operator's labels and annotations on it.
    pub ownership: OwnershipMeta,
    /// How it differs from the desired object.
    pub drift: Drift,
    /// For an unmanaged object: the fields that adopting it would change.
    pub differences: Vec<FieldChange>,
    /// A CRD without a release annotation whose schema has more than the desired one.
    pub is_newer_crd: bool,
    /// The state that readiness and upgrade gates need.
    pub state: ObjectState,
}

/// How a live object differs from the desired one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drift {
    /// Not compared yet: it was read before the desired object was known.
    Unchecked,
    /// The live object has every desired field.
    None,
    /// Desired fields are missing or have another value: apply again.
    Fields(Vec<String>),
    /// Only additions that the operator removes: containers, webhook entries, ConfigMap keys.
    Extras(Vec<String>),
}

/// The part of an object's state that readiness and upgrade gates read, by kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectState {
    /// Of a kind whose state nothing reads.
    Plain,
    /// Of a Namespace.
    Namespace {
        /// Its phase is Terminating, so nothing can be created in it.
        terminating: bool,
        /// The Pod Security level that its label enforces.
        enforces: Option<String>,
        /// Its labels, which decide about injection and discovery.
        labels: Labels,
    },
    /// Of a CustomResourceDefinition.
    Crd {
        /// Its condition Established is True.
        established: bool,
    },
    /// Of a Deployment or DaemonSet.
    Workload(WorkloadStatus),
    /// Of a webhook configuration.
    Webhooks {
        /// Names of the webhooks without a CA bundle.
        without_ca: Vec<String>,
        /// A hash of all entries, so that any change of them shows.
        identity: String,
        /// Revisions and tags that it injects for, as the label `istio.io/rev` has them.
        answers: Vec<String>,
    },
    /// Of a Service.
    Service(ServiceState),
    /// Of a ConfigMap: the hash of its data.
    Content(String),
}

/// Rollout status of a Deployment or DaemonSet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadStatus {
    /// `status.observedGeneration` has reached the generation.
    pub observed: bool,
    /// The workload's `metadata.generation`.
    pub generation: i64,
    /// Desired pods; for a DaemonSet, the nodes that need one.
    pub desired: i32,
    /// Pods of the current template.
    pub updated: i32,
    /// Available pods of any template.
    pub available: i32,
    /// Pods of any template that are ready, even if not for `minReadySeconds` yet.
    pub ready_replicas: i32,
    /// Pods of any template and state.
    pub total: i32,
    /// Why the rollout does not progress, from the workload's conditions.
    pub rollout_error: Option<String>,
    /// Since when the Deployment has been unavailable, from its condition `Available`.
    pub unavailable_since: Option<Timestamp>,
    /// Since when the Deployment has been available. It changes when the only pod was replaced.
    pub available_since: Option<Timestamp>,
}

impl WorkloadStatus {
    /// Every desired pod has the current template and is available. True for a DaemonSet in a cluster without nodes.
    #[must_use]
    pub const fn complete(&self) -> bool {
        self.observed && self.updated >= self.desired && self.available >= self.desired && self.total <= self.updated
    }

    /// How many pods have an older template.
    #[must_use]
    pub fn old(&self) -> i32 {
        (self.total - self.updated).max(0)
    }

    /// A lower bound of the available pods of the current template: status doesn't say which template the unavailable
    /// pods have.
    #[must_use]
    pub fn ready(&self) -> i32 {
        (self.available - self.old()).clamp(0, self.updated.max(0))
    }

    /// The rollout is complete and at least one pod is available.
    #[must_use]
    pub const fn rolled_out(&self) -> bool {
        self.complete() && self.desired > 0
    }

    /// Like [`Self::rolled_out`]; for a workload with an autoscaler its minimum of replicas is enough, so that scaling
    /// up doesn't make the workload unready.
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

/// Ports and addresses of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceState {
    /// The Service's `spec.type`.
    pub service_type: String,
    /// The Service's `spec.ports`.
    pub ports: Vec<ServicePort>,
    /// `spec.healthCheckNodePort`, if set.
    pub health_check_node_port: Option<i32>,
    /// IP addresses or host names of the load balancer.
    pub addresses: Vec<String>,
}

impl ServiceState {
    /// Every node port that the Service uses.
    pub fn node_ports(&self) -> impl Iterator<Item = i32> {
        self.ports.iter().filter_map(|port| port.node_port).chain(self.health_check_node_port)
    }

    /// The Service's load balancer has no address yet.
    #[must_use]
    pub fn awaits_address(&self) -> bool {
        self.service_type == "LoadBalancer" && self.addresses.is_empty()
    }
}

/// One entry of a Service's `spec.ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Empty when the port has no name.
    pub name: String,
    /// `port` of the entry.
    pub port: i32,
    /// `nodePort` of the entry; `None` when it has none.
    pub node_port: Option<i32>,
    /// `TCP` when the entry names none.
    pub protocol: String,
}

impl ObservedObject {
    /// Whether the watches report its changes: they select objects by the installation label.
    #[must_use]
    pub const fn is_watched(&self) -> bool {
        self.ownership.installation.is_some()
    }

    /// Whether this state was written after another one, of the same object or of one that it has replaced: the resource
    /// versions of a kind form one sequence. False if a version is unknown.
    #[must_use]
    pub fn is_later_than(&self, other: &Self) -> bool {
        other.resource_version != 0 && self.resource_version > other.resource_version
    }

    /// Whether this is the given state of an object or one that was written later. False if a version is unknown.
    pub(crate) fn is_at_least(&self, object: &Value) -> bool {
        let version = resource_version(object);
        version != 0 && self.resource_version >= version
    }

    /// Whether this state was written after the deletion of an object, whose last state is given.
    pub(crate) fn outlives(&self, deleted: &Value) -> bool {
        let (uid, version) = identity(deleted);
        if version == 0 || self.resource_version == 0 { self.uid != uid } else { self.resource_version > version }
    }

    /// Reduces a live object. `accepted` is the fingerprint of the API server's response to the last apply, if any:
    /// what the server itself defaulted or normalized is no drift.
    #[must_use]
    pub fn of(kind: Kind, object: &Value, desired: Option<&DesiredObject>, accepted: Option<&str>) -> Self {
        let (uid, resource_version) = identity(object);
        let ownership = OwnershipMeta::of(object);
        let unowned = desired.filter(|_| ownership.is_absent() && !kind.shared());
        let crd_without_release =
            desired.filter(|_| kind == Kind::CustomResourceDefinition && ownership.release.is_none());
        Self {
            uid: uid.to_owned(),
            resource_version,
            deleting: object.pointer("/metadata/deletionTimestamp").is_some_and(Value::is_string),
            ownership,
            differences: unowned.map(|desired| adoption::differences(desired, object)).unwrap_or_default(),
            drift: desired.map_or(Drift::Unchecked, |desired| compare(desired, object, accepted)),
            is_newer_crd: crd_without_release.is_some_and(|desired| crd::has_newer_schema(&desired.value(), object)),
            state: ObjectState::of(kind, object),
        }
    }
}

/// The resource version of an object; 0 if it is not a number, as Kubernetes guarantees it to be since 1.35.
pub(crate) fn resource_version(object: &Value) -> u64 {
    identity(object).1
}

/// The UID and the resource version of an object.
fn identity(object: &Value) -> (&str, u64) {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    (text("/metadata/uid"), text("/metadata/resourceVersion").parse().unwrap_or_default())
}

fn compare(desired: &DesiredObject, live: &Value, accepted: Option<&str>) -> Drift {
    if desired.externally_managed
        && let Some(lacks) = external_objects::missing(desired, live)
    {
        return if lacks.is_empty() { Drift::None } else { Drift::Fields(lacks) };
    }
    let wanted = effective(desired.value(), live);
    let differences = drift::drift(&wanted, live);
    let (extras, fields): (Vec<Difference>, Vec<Difference>) =
        differences.into_iter().partition(|d| d.kind == DifferenceKind::Extra);
    let paths = |list: Vec<Difference>| list.into_iter().map(|d| d.path).collect();
    // The accepted response may have been a stub as well, which says nothing about the fields that it lacks.
    let is_stub = live.get(REPLACED_ANNOTATION).is_some();
    if !fields.is_empty() && (is_stub || accepted != Some(drift::fingerprint(&wanted, live).as_str())) {
        return Drift::Fields(paths(fields));
    }
    if extras.is_empty() { Drift::None } else { Drift::Extras(paths(extras)) }
}

impl ObjectState {
    /// Reads the state of an object of the given kind.
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
                labels: labels(object),
            },
            Kind::CustomResourceDefinition => {
                Self::Crd { established: condition(object, "Established").is_some_and(|(status, _)| status) }
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

fn labels(object: &Value) -> Labels {
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    let entries = labels.into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// Status (whether True) and message of a condition.
fn condition(object: &Value, name: &str) -> Option<(bool, String)> {
    let list = object.pointer("/status/conditions")?.as_array()?;
    let found = list.iter().find(|c| c.get("type").and_then(Value::as_str) == Some(name))?;
    let message = found.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
    Some((found.get("status").and_then(Value::as_str) == Some("True"), message))
}

fn integer(object: &Value, path: &str) -> Option<i64> {
    object.pointer(path).and_then(Value::as_i64)
}

fn int32(object: &Value, path: &str) -> Option<i32> {
    integer(object, path).and_then(|n| i32::try_from(n).ok())
}

fn workload(object: &Value) -> WorkloadStatus {
    let generation = integer(object, "/metadata/generation").unwrap_or_default();
    let rollout_error = condition(object, "ReplicaFailure")
        .filter(|(failing, _)| *failing)
        .or_else(|| condition(object, "Progressing").filter(|(progressing, _)| !progressing))
        .map(|(_, message)| shortened(&message, MAX_ROLLOUT_ERROR));
    WorkloadStatus {
        observed: integer(object, "/status/observedGeneration").unwrap_or(-1) >= generation,
        generation,
        desired: int32(object, "/spec/replicas").unwrap_or(1),
        updated: int32(object, "/status/updatedReplicas").unwrap_or_default(),
        available: int32(object, "/status/availableReplicas").unwrap_or_default(),
        ready_replicas: int32(object, "/status/readyReplicas").unwrap_or_default(),
        total: int32(object, "/status/replicas").unwrap_or_default(),
        rollout_error,
        unavailable_since: availability_since(object, "False"),
        available_since: availability_since(object, "True"),
    }
}

fn node_workload(object: &Value) -> WorkloadStatus {
    let generation = integer(object, "/metadata/generation").unwrap_or_default();
    let count = |name: &str| int32(object, &format!("/status/{name}")).unwrap_or_default();
    WorkloadStatus {
        observed: integer(object, "/status/observedGeneration").unwrap_or(-1) >= generation,
        generation,
        desired: count("desiredNumberScheduled"),
        updated: count("updatedNumberScheduled"),
        available: count("numberAvailable"),
        ready_replicas: count("numberReady"),
        // A DaemonSet's status doesn't say which template misscheduled pods have.
        total: count("updatedNumberScheduled"),
        rollout_error: None,
        unavailable_since: None,
        available_since: None,
    }
}

/// When a Deployment's condition `Available` got this status, if it has it.
fn availability_since(object: &Value, status: &str) -> Option<Timestamp> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let available =
        conditions.iter().find(|condition| condition["type"] == "Available" && condition["status"] == status);
    available?.get("lastTransitionTime")?.as_str()?.parse().ok()
}

fn service(object: &Value) -> ServiceState {
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
    ServiceState { service_type, ports, health_check_node_port, addresses }
}

fn webhooks(object: &Value) -> ObjectState {
    let entries = object.get("webhooks").and_then(Value::as_array).cloned().unwrap_or_default();
    let without_ca = entries
        .iter()
        .filter(|hook| hook.pointer("/clientConfig/caBundle").and_then(Value::as_str).is_none_or(str::is_empty))
        .filter_map(|hook| hook.get("name").and_then(Value::as_str).map(str::to_owned))
        .collect();
    // The webhook that selects namespaces by the label `istio.io/rev`; each configuration has one.
    let by_namespace = |hook: &&Value| hook.get("name").is_some_and(|n| n == "rev.namespace.sidecar-injector.istio.io");
    let answers = entries.iter().filter(by_namespace).flat_map(revisions_of_selector).collect();
    let identity = short_hash(Value::Array(entries).to_string().as_bytes());
    ObjectState::Webhooks { without_ca, identity, answers }
}

fn revisions_of_selector(hook: &Value) -> Vec<String> {
    let expressions = hook.pointer("/namespaceSelector/matchExpressions").and_then(Value::as_array);
    let by_name = |expression: &&Value| {
        let is = |key: &str, value: &str| expression.get(key).and_then(Value::as_str) == Some(value);
        is("key", REVISION_LABEL) && is("operator", "In")
    };
    let values = |expression: &Value| expression.get("values").and_then(Value::as_array).cloned().unwrap_or_default();
    let found = expressions.into_iter().flatten().filter(by_name).flat_map(values);
    found.filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

/// Observed objects by key.
pub type ObservedObjects = std::collections::BTreeMap<ObjectKey, ObservedObject>;

/// The labels of a namespace; `None` if it has not been observed.
#[must_use]
pub fn namespace_labels<'l>(live: &'l ObservedObjects, namespace: &str) -> Option<&'l Labels> {
    let key = ObjectKey { kind: Kind::Namespace, namespace: None, name: namespace.to_owned() };
    match &live.get(&key)?.state {
        ObjectState::Namespace { labels, .. } => Some(labels),
        _ => None,
    }
}
