//! Where the walk is, and what the API server does with lists and values there.

use std::fmt;

use serde_json::Value;

/// The kinds that the API server treats in ways of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Schema {
    /// Has a pod template, or is a pod.
    Workload,
    Service,
    ServiceAccount,
    Webhooks,
    ConfigMap,
    Role,
    NetworkPolicy,
    /// Any other kind that is built into the API server.
    BuiltIn,
    /// Kept as it was written: kinds that CRDs define.
    Custom,
}

impl Schema {
    pub(super) fn of(object: &Value) -> Self {
        let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
        let group = text("apiVersion").rsplit_once('/').map_or("", |(group, _)| group);
        match (group, text("kind")) {
            (
                "" | "apps" | "batch",
                "Pod" | "Deployment" | "DaemonSet" | "StatefulSet" | "ReplicaSet" | "Job" | "CronJob",
            ) => Self::Workload,
            ("", "Service") => Self::Service,
            ("", "ServiceAccount") => Self::ServiceAccount,
            ("", "ConfigMap") => Self::ConfigMap,
            ("admissionregistration.k8s.io", "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration") => {
                Self::Webhooks
            }
            ("rbac.authorization.k8s.io", _) => Self::Role,
            ("networking.k8s.io", "NetworkPolicy") => Self::NetworkPolicy,
            ("" | "apps" | "batch" | "autoscaling" | "policy" | "apiextensions.k8s.io", _) => Self::BuiltIn,
            ("admissionregistration.k8s.io" | "networking.k8s.io" | "scheduling.k8s.io" | "coordination.k8s.io", _) => {
                Self::BuiltIn
            }
            _ => Self::Custom,
        }
    }
}

/// One step on the way to a place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'a> {
    Key(&'a str),
    Index(usize),
    /// An element of a list that is merged by keys.
    Element {
        keys: &'static [MergeKey],
        element: &'a Value,
    },
}

/// A place in an object: the way there, innermost step first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    schema: Schema,
    parent: Option<&'a Place<'a>>,
    step: Option<Step<'a>>,
}

/// A field that tells elements of a list apart, and what it is where it isn't given.
#[derive(Clone, Copy, Debug)]
pub(super) struct MergeKey {
    field: &'static str,
    default: Option<&'static str>,
}

const fn by(field: &'static str) -> MergeKey {
    MergeKey { field, default: None }
}

const PROTOCOL: MergeKey = MergeKey { field: "protocol", default: Some("TCP") };
const NAME: &[MergeKey] = &[by("name")];

impl<'a> Place<'a> {
    pub(super) fn root(schema: Schema) -> Self {
        Self { schema, parent: None, step: None }
    }

    pub(super) fn then<'b>(&'b self, step: Step<'b>) -> Place<'b> {
        Place { schema: self.schema, parent: Some(self), step: Some(step) }
    }

    pub(super) fn is_root(&self) -> bool {
        self.step.is_none()
    }

    /// Name of the field that the place is.
    pub(super) fn key(&self) -> Option<&'a str> {
        match self.step {
            Some(Step::Key(key)) => Some(key),
            _ => None,
        }
    }

    /// The nearest field that the place lies in.
    pub(super) fn outer_key(&self) -> Option<&'a str> {
        let mut place = self.parent;
        while let Some(outer) = place {
            if let Some(Step::Key(key)) = outer.step {
                return Some(key);
            }
            place = outer.parent;
        }
        None
    }

    /// The metadata of the object itself, of which only labels and annotations are ours to judge.
    pub(super) fn is_metadata(&self) -> bool {
        self.key() == Some("metadata") && self.parent.is_some_and(Place::is_root)
    }

    /// The keys by which the API server merges this list; `None` where it replaces the whole.
    pub(super) fn merge_keys(&self) -> Option<&'static [MergeKey]> {
        let key = self.key()?;
        match self.schema {
            Schema::Workload => workload_keys(key, self.outer_key()),
            Schema::Service if key == "ports" => Some(&const { [by("port"), PROTOCOL] }),
            Schema::ServiceAccount if matches!(key, "secrets" | "imagePullSecrets") => Some(NAME),
            Schema::Webhooks if matches!(key, "webhooks" | "matchConditions") => Some(NAME),
            _ => None,
        }
    }

    /// Whether the API server replaces this map as a whole, so that a foreign key in it is a difference, which the
    /// next apply puts right: selectors, and what a rule consists of.
    pub(super) fn is_atomic_map(&self) -> bool {
        match (self.schema, self.step) {
            (Schema::Role, Some(Step::Index(_))) => self.outer_key() == Some("rules"),
            (Schema::NetworkPolicy, Some(Step::Index(_))) => matches!(self.outer_key(), Some("ingress" | "egress")),
            (Schema::Custom | Schema::ConfigMap, _) => false,
            _ => self.is_within(SELECTORS) && !self.in_crd_schema(),
        }
    }

    /// Whether values here are quantities, which the API server writes in a form of its own.
    pub(super) fn is_quantity(&self) -> bool {
        if self.schema == Schema::Custom {
            return false;
        }
        match (self.key(), self.outer_key()) {
            (Some(_), Some("requests" | "limits" | "hard")) => !self.in_crd_schema(),
            (Some(key), Some(outer)) => matches!(
                (outer, key),
                ("emptyDir", "sizeLimit") | ("resourceFieldRef", "divisor") | ("target", "averageValue" | "value")
            ),
            _ => false,
        }
    }

    /// Whether the API server drops `false` and 0 here, as it does where they are the same as nothing.
    pub(super) fn drops_zero(&self) -> bool {
        self.schema != Schema::Custom && self.key().is_some_and(|key| ZERO_IS_NOTHING.contains(&key))
    }

    fn in_crd_schema(&self) -> bool {
        self.is_within(&["openAPIV3Schema"])
    }

    fn is_within(&self, keys: &[&str]) -> bool {
        std::iter::successors(Some(self), |place| place.parent)
            .any(|place| place.key().is_some_and(|key| keys.contains(&key)))
    }
}

/// Maps that the API server replaces as a whole, with all that lies in them.
const SELECTORS: &[&str] =
    &["labelSelector", "namespaceSelector", "nodeSelector", "objectSelector", "podSelector", "selector"];

/// Fields of built-in kinds that are neither pointers nor required, so that their zero is not written.
const ZERO_IS_NOTHING: &[&str] = &[
    "exclusiveMaximum",
    "exclusiveMinimum",
    "healthCheckNodePort",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostPort",
    "initialDelaySeconds",
    "minReadySeconds",
    "nodePort",
    "nullable",
    "paused",
    "preserveUnknownFields",
    "publishNotReadyAddresses",
    "readOnly",
    "stdin",
    "stdinOnce",
    "tty",
    "uniqueItems",
];

fn workload_keys(key: &str, outer: Option<&str>) -> Option<&'static [MergeKey]> {
    match (key, outer) {
        ("containers" | "initContainers" | "ephemeralContainers" | "env" | "volumes" | "imagePullSecrets", _) => {
            Some(NAME)
        }
        ("claims" | "resourceClaims", _) => Some(NAME),
        ("ports", Some("containers" | "initContainers")) => Some(&const { [by("containerPort"), PROTOCOL] }),
        ("volumeMounts", _) => Some(&const { [by("mountPath")] }),
        ("volumeDevices", _) => Some(&const { [by("devicePath")] }),
        ("hostAliases", _) => Some(&const { [by("ip")] }),
        ("topologySpreadConstraints", _) => Some(&const { [by("topologyKey"), by("whenUnsatisfiable")] }),
        _ => None,
    }
}

impl MergeKey {
    fn is_same(self, left: &Value, right: &Value) -> bool {
        let value = |element: &Value| element.get(self.field).filter(|value| !value.is_null()).cloned();
        let default = || self.default.map(Value::from);
        value(left).or_else(default) == value(right).or_else(default)
    }
}

/// Whether two elements of a list are the same one to the API server.
pub(super) fn is_same_element(keys: &[MergeKey], left: &Value, right: &Value) -> bool {
    keys.iter().all(|key| key.is_same(left, right))
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            None => Ok(()),
            Some(Step::Key(key)) if key.contains(['.', '/', '[']) => write!(f, "[{key:?}]"),
            Some(Step::Key(key)) if self.parent.is_some_and(Place::is_root) => f.write_str(key),
            Some(Step::Key(key)) => write!(f, ".{key}"),
            Some(Step::Index(index)) => write!(f, "[{index}]"),
            Some(Step::Element { keys, element }) => {
                let fields = keys.iter().filter_map(|key| Some((key.field, element.get(key.field)?)));
                for (at, (field, value)) in fields.enumerate() {
                    let separator = if at == 0 { '[' } else { ',' };
                    match value {
                        Value::String(text) => write!(f, "{separator}{field}={text}")?,
                        other => write!(f, "{separator}{field}={other}")?,
                    }
                }
                f.write_str("]")
            }
        }
    }
}
