//! The path of a field during the traversal, and how the API server treats lists and values at that path.

use std::fmt;

use serde_json::Value;

/// Groups of kinds by how the API server merges and normalizes their fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KindSchema {
    /// A pod, or a kind with a pod template.
    Workload,
    Service,
    ServiceAccount,
    Webhooks,
    ConfigMap,
    Role,
    NetworkPolicy,
    /// Any other built-in kind.
    BuiltIn,
    /// A kind of a CRD. The API server stores its fields unchanged.
    Custom,
}

impl KindSchema {
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

/// One segment of a path.
#[derive(Clone, Copy, Debug)]
pub(super) enum PathSegment<'a> {
    Key(&'a str),
    Index(usize),
    /// An element of a list that is merged by keys.
    Element {
        keys: &'static [MergeKey],
        element: &'a Value,
    },
}

/// A path in an object, as a linked list from the innermost segment to the root.
#[derive(Clone, Copy, Debug)]
pub(super) struct FieldPath<'a> {
    schema: KindSchema,
    parent: Option<&'a FieldPath<'a>>,
    segment: Option<PathSegment<'a>>,
}

/// A field that identifies the elements of a list, and its default.
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

impl<'a> FieldPath<'a> {
    pub(super) fn root(schema: KindSchema) -> Self {
        Self { schema, parent: None, segment: None }
    }

    pub(super) fn child<'b>(&'b self, segment: PathSegment<'b>) -> FieldPath<'b> {
        FieldPath { schema: self.schema, parent: Some(self), segment: Some(segment) }
    }

    pub(super) fn is_root(&self) -> bool {
        self.segment.is_none()
    }

    /// Name of the field at this path, unless it is a list element.
    pub(super) fn key(&self) -> Option<&'a str> {
        match self.segment {
            Some(PathSegment::Key(key)) => Some(key),
            _ => None,
        }
    }

    /// Name of the nearest enclosing field.
    pub(super) fn outer_key(&self) -> Option<&'a str> {
        let mut path = self.parent;
        while let Some(outer) = path {
            if let Some(PathSegment::Key(key)) = outer.segment {
                return Some(key);
            }
            path = outer.parent;
        }
        None
    }

    /// Whether it is the metadata of the object, of which only labels and annotations are compared.
    pub(super) fn is_metadata(&self) -> bool {
        self.key() == Some("metadata") && self.parent.is_some_and(FieldPath::is_root)
    }

    /// The keys by which the API server merges this list; `None` if the list is atomic.
    pub(super) fn merge_keys(&self) -> Option<&'static [MergeKey]> {
        let key = self.key()?;
        match self.schema {
            KindSchema::Workload => workload_keys(key, self.outer_key()),
            KindSchema::Service if key == "ports" => Some(&const { [by("port"), PROTOCOL] }),
            KindSchema::ServiceAccount if matches!(key, "secrets" | "imagePullSecrets") => Some(NAME),
            KindSchema::Webhooks if matches!(key, "webhooks" | "matchConditions") => Some(NAME),
            _ => None,
        }
    }

    /// Whether the map is atomic, as selectors and rules are: a foreign key in it is drift, and the next apply removes
    /// it.
    pub(super) fn is_atomic_map(&self) -> bool {
        match (self.schema, self.segment) {
            (KindSchema::Role, Some(PathSegment::Index(_))) => self.outer_key() == Some("rules"),
            (KindSchema::NetworkPolicy, Some(PathSegment::Index(_))) => {
                matches!(self.outer_key(), Some("ingress" | "egress"))
            }
            (KindSchema::Custom | KindSchema::ConfigMap, _) => false,
            _ => self.is_within(SELECTORS) && !self.in_crd_schema(),
        }
    }

    /// Whether values at this path are quantities, which the API server normalizes.
    pub(super) fn is_quantity(&self) -> bool {
        if self.schema == KindSchema::Custom {
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

    /// Whether the API server omits `false` and 0 at this path.
    pub(super) fn omits_zero(&self) -> bool {
        self.schema != KindSchema::Custom && self.key().is_some_and(|key| ZERO_IS_OMITTED.contains(&key))
    }

    fn in_crd_schema(&self) -> bool {
        self.is_within(&["openAPIV3Schema"])
    }

    fn is_within(&self, keys: &[&str]) -> bool {
        std::iter::successors(Some(self), |path| path.parent)
            .any(|path| path.key().is_some_and(|key| keys.contains(&key)))
    }
}

/// Atomic maps, including the maps below them.
const SELECTORS: &[&str] =
    &["labelSelector", "namespaceSelector", "nodeSelector", "objectSelector", "podSelector", "selector"];

/// Fields of built-in kinds that are neither pointers nor required in Go, so that their zero value is omitted.
const ZERO_IS_OMITTED: &[&str] = &[
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

/// Whether the API server treats two elements of a list as the same one.
pub(super) fn is_same_element(keys: &[MergeKey], left: &Value, right: &Value) -> bool {
    keys.iter().all(|key| key.is_same(left, right))
}

impl fmt::Display for FieldPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.segment {
            None => Ok(()),
            Some(PathSegment::Key(key)) if key.contains(['.', '/', '[']) => write!(f, "[{key:?}]"),
            Some(PathSegment::Key(key)) if self.parent.is_some_and(FieldPath::is_root) => f.write_str(key),
            Some(PathSegment::Key(key)) => write!(f, ".{key}"),
            Some(PathSegment::Index(index)) => write!(f, "[{index}]"),
            Some(PathSegment::Element { keys, element }) => {
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
