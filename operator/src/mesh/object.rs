//! Desired objects: the rendered objects of an installation, their ownership metadata, and the order in which they are
//! applied and removed.

use std::fmt;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::kind::Kind;

/// Label on every object: the name of the installation.
pub const INSTALLATION_LABEL: &str = "meshwright.dev/installation";
/// Label on every object: the component that it belongs to.
pub const COMPONENT_LABEL: &str = "meshwright.dev/component";
/// Annotation on every object: the UID of the installation.
pub const UID_ANNOTATION: &str = "meshwright.dev/installation-uid";
/// Annotation on every object: the hash of the desired state it was last applied from.
pub const HASH_ANNOTATION: &str = "meshwright.dev/desired-hash";
/// Annotation on every object: the release that it was rendered from. Shared objects are never downgraded below it.
pub const RELEASE_ANNOTATION: &str = "meshwright.dev/release";
/// Annotation on an adopted gateway Deployment: the checksum of its proxy inputs at adoption. Its pods have no checksum
/// and are not rolled until the inputs change.
pub const ADOPTED_INPUTS_ANNOTATION: &str = "meshwright.dev/adopted-proxy-inputs";
/// Label of a namespace: the Pod Security level that is enforced on its pods.
pub const ENFORCE_LABEL: &str = "pod-security.kubernetes.io/enforce";
/// Annotation of a stub, which replaces an object in a response that exceeds limits: why it was replaced. A stub also
/// has a field of that name beside its metadata, which distinguishes it from an object that a user has annotated so:
/// the API server stores no such field.
pub const REPLACED_ANNOTATION: &str = "meshwright.dev/response-replaced";
/// Field manager of the operator's server-side applies.
pub const FIELD_MANAGER: &str = "meshwright";

/// Kind, namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Kind in the table of managed kinds.
    pub kind: Kind,
    /// Namespace of the object; `None` for cluster-scoped kinds.
    pub namespace: Option<String>,
    /// `metadata.name` of the object.
    pub name: String,
}

impl ObjectKey {
    /// Whether it is the injector ConfigMap of a control plane. Istio fixes its name, to which the revision is
    /// appended.
    #[must_use]
    pub fn is_injector_configuration(&self) -> bool {
        self.kind == Kind::ConfigMap && self.name.starts_with("istio-sidecar-injector")
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// A part of the mesh that is installed, checked for health and removed as a unit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Component {
    /// The namespaces of the installation.
    Namespaces,
    /// CRDs, and other objects that all revisions share.
    Base,
    /// The control plane, including the sidecar injector.
    Istiod,
    /// The CNI plugin, which redirects the traffic of pods.
    Cni,
    /// The node proxy of ambient mode.
    Ztunnel,
    /// A revision tag, by name: its webhook and related objects. The tag `default` serves `istio-injection=enabled`,
    /// and validates configuration without a revision.
    Tag(String),
    /// A gateway, by its name in the spec.
    Gateway(String),
    /// An add-on, by its name in the spec.
    AddOn(String),
}

const ADD_ON_PREFIX: &str = "addon.";
const TAG_PREFIX: &str = "tag.";
const GATEWAY_PREFIX: &str = "gateway.";

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespaces => f.write_str("namespaces"),
            Self::Base => f.write_str("base"),
            Self::Istiod => f.write_str("istiod"),
            Self::Cni => f.write_str("cni"),
            Self::Ztunnel => f.write_str("ztunnel"),
            Self::Tag(name) => write!(f, "{TAG_PREFIX}{name}"),
            Self::Gateway(name) => write!(f, "{GATEWAY_PREFIX}{name}"),
            Self::AddOn(name) => write!(f, "{ADD_ON_PREFIX}{name}"),
        }
    }
}

impl Component {
    /// Parses the value of [`COMPONENT_LABEL`].
    #[must_use]
    pub fn from_label(value: &str) -> Option<Self> {
        match value {
            "namespaces" => Some(Self::Namespaces),
            "base" => Some(Self::Base),
            "istiod" => Some(Self::Istiod),
            "cni" => Some(Self::Cni),
            "ztunnel" => Some(Self::Ztunnel),
            _ => value
                .strip_prefix(GATEWAY_PREFIX)
                .map(|name| Self::Gateway(name.to_owned()))
                .or_else(|| value.strip_prefix(TAG_PREFIX).map(|name| Self::Tag(name.to_owned())))
                .or_else(|| value.strip_prefix(ADD_ON_PREFIX).map(|name| Self::AddOn(name.to_owned()))),
        }
    }
}

/// The order in which objects are applied. Objects of one stage are applied concurrently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Namespaces, which all namespaced objects require.
    Namespaces,
    /// CRDs. The control plane's workloads wait until they are established.
    Crds,
    /// Service accounts and roles.
    Roles,
    /// Role bindings, which the API server only accepts once their role exists.
    Bindings,
    /// `ConfigMap`s and quotas. istiod never starts injecting if its injector ConfigMap is missing at startup.
    Configuration,
    /// Services and network policies.
    Services,
    /// The control plane's workloads, autoscalers and disruption budgets.
    ControlPlane,
    /// Validating webhooks and policies.
    Validation,
    /// Mutating webhooks. They reject matching objects until istiod has set its CA bundle, so they are applied last.
    Injection,
    /// The DaemonSet of cni.
    Cni,
    /// The DaemonSet of ztunnel, which receives the traffic that cni redirects.
    Ztunnel,
    /// Service account and role of a gateway.
    GatewayRoles,
    /// Other objects of a gateway except its Deployment.
    Gateways,
    /// Gateway Deployments, whose pods require injection.
    GatewayWorkloads,
    /// Service account and roles of an add-on.
    AddOnRoles,
    /// Other objects of an add-on except its Deployment.
    AddOns,
    /// Add-on Deployments, applied after the mesh.
    AddOnWorkloads,
}

impl Stage {
    /// The stage of an object, by its kind and component.
    #[must_use]
    pub fn of(kind: Kind, component: &Component) -> Self {
        if matches!(component, Component::Gateway(_)) {
            return match kind {
                Kind::Deployment => Self::GatewayWorkloads,
                Kind::ServiceAccount | Kind::Role => Self::GatewayRoles,
                _ => Self::Gateways,
            };
        }
        if matches!(component, Component::AddOn(_)) {
            return match kind {
                Kind::Deployment => Self::AddOnWorkloads,
                Kind::ServiceAccount | Kind::ClusterRole | Kind::Role => Self::AddOnRoles,
                _ => Self::AddOns,
            };
        }
        match kind {
            Kind::Namespace => Self::Namespaces,
            Kind::CustomResourceDefinition => Self::Crds,
            Kind::ServiceAccount | Kind::ClusterRole | Kind::Role => Self::Roles,
            Kind::ClusterRoleBinding | Kind::RoleBinding => Self::Bindings,
            Kind::ConfigMap | Kind::ResourceQuota => Self::Configuration,
            Kind::Service | Kind::NetworkPolicy => Self::Services,
            Kind::Deployment | Kind::HorizontalPodAutoscaler | Kind::PodDisruptionBudget => Self::ControlPlane,
            Kind::ValidatingAdmissionPolicy
            | Kind::ValidatingAdmissionPolicyBinding
            | Kind::ValidatingWebhookConfiguration => Self::Validation,
            Kind::MutatingWebhookConfiguration => Self::Injection,
            Kind::DaemonSet if *component == Component::Ztunnel => Self::Ztunnel,
            // The third-party CRD of a NetworkAttachmentDefinition may be missing, which must not block the control
            // plane.
            Kind::DaemonSet | Kind::NetworkAttachmentDefinition => Self::Cni,
        }
    }

    /// The order of removal, highest first. It reverses the order of stages, except that webhooks are removed before
    /// the objects that injected pods require, and a gateway's Service before its pods, so that no traffic is routed to
    /// terminating pods.
    #[must_use]
    pub const fn removal_order(self) -> u8 {
        match self {
            Self::Namespaces => 0,
            Self::Crds => 1,
            Self::Roles => 2,
            Self::Bindings => 3,
            Self::Configuration => 4,
            Self::Services => 5,
            Self::ControlPlane => 6,
            Self::Cni => 7,
            Self::Ztunnel => 8,
            Self::Validation => 9,
            Self::Injection => 10,
            Self::GatewayRoles => 11,
            Self::GatewayWorkloads => 12,
            Self::Gateways => 13,
            Self::AddOnRoles => 14,
            Self::AddOns => 15,
            Self::AddOnWorkloads => 16,
        }
    }
}

/// The installation that owns a set of objects, and the release they are rendered from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Name of the installation.
    pub installation: String,
    /// UID of the installation.
    pub uid: String,
    /// Exact version of the release.
    pub release: semver::Version,
}

/// An object as it is to be applied. Stored as compact JSON: the parsed form of all CRDs takes ten times the memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredObject {
    /// Kind, namespace and name of the object.
    pub key: ObjectKey,
    /// Name of the installation that owns the object.
    pub installation: String,
    /// Component that the object belongs to.
    pub component: Component,
    /// Stage in which the object is applied.
    pub stage: Stage,
    /// Hash of the object without its hash annotation.
    pub hash: String,
    /// Release that the object was rendered from.
    pub release: Option<semver::Version>,
    /// Whether a cluster administrator applies the object in advance: the operator compares it and never writes it.
    pub externally_managed: bool,
    body: Box<[u8]>,
}

/// A rendered document is not an object that Meshwright can manage.
#[derive(Debug, thiserror::Error)]
pub enum ParseObjectError {
    /// The document has no apiVersion, kind or name.
    #[error("a rendered document lacks {0}")]
    Incomplete(&'static str),
    /// The kind is not in the table of managed kinds.
    #[error("{api_version} {kind} {name:?} is of a kind that Meshwright does not manage")]
    UnknownKind {
        /// The document's apiVersion.
        api_version: String,
        /// The document's kind.
        kind: String,
        /// The document's name.
        name: String,
    },
    /// The object can't be serialized.
    #[error("can't serialize {key} as JSON")]
    Encode {
        /// Object that can't be serialized.
        key: ObjectKey,
        /// Error of the JSON serializer.
        #[source]
        source: serde_json::Error,
    },
}

impl DesiredObject {
    /// Converts a rendered document: checks its kind, sets its namespace and ownership metadata, and hashes it.
    pub fn from_rendered(
        mut object: Value,
        component: &Component,
        owner: &Owner,
        default_namespace: &str,
    ) -> Result<Self, ParseObjectError> {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let api_version = text("/apiVersion").ok_or(ParseObjectError::Incomplete("apiVersion"))?;
        let kind_name = text("/kind").ok_or(ParseObjectError::Incomplete("kind"))?;
        let name = text("/metadata/name").ok_or(ParseObjectError::Incomplete("metadata.name"))?;
        let Some(kind) = Kind::of(&api_version, &kind_name) else {
            return Err(ParseObjectError::UnknownKind { api_version, kind: kind_name, name });
        };
        let namespace =
            kind.namespaced().then(|| text("/metadata/namespace").unwrap_or_else(|| default_namespace.to_owned()));
        let key = ObjectKey { kind, namespace, name };

        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
            return Err(ParseObjectError::Incomplete("metadata"));
        };
        match &key.namespace {
            Some(namespace) => metadata.insert("namespace".into(), namespace.as_str().into()),
            None => metadata.remove("namespace"),
        };
        insert_entries(
            metadata,
            "labels",
            [(INSTALLATION_LABEL, owner.installation.clone()), (COMPONENT_LABEL, component.to_string())],
        );
        insert_entries(
            metadata,
            "annotations",
            [(UID_ANNOTATION, owner.uid.clone()), (RELEASE_ANNOTATION, owner.release.to_string())],
        );

        Self::with_hash(key, component, object)
    }

    /// The same object with changed content: `object` is a modified [`Self::value`].
    pub fn with_content(&self, mut object: Value) -> Result<Self, ParseObjectError> {
        if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
            annotations.remove(HASH_ANNOTATION);
        }
        let (release, installation) = (self.release.clone(), self.installation.clone());
        let hashed = Self::with_hash(self.key.clone(), &self.component, object)?;
        Ok(Self { release, installation, externally_managed: self.externally_managed, ..hashed })
    }

    /// Hashes an object with ownership metadata, and sets the hash annotation.
    fn with_hash(key: ObjectKey, component: &Component, mut object: Value) -> Result<Self, ParseObjectError> {
        let encode = |object: &Value, key: &ObjectKey| {
            serde_json::to_vec(object).map_err(|source| ParseObjectError::Encode { key: key.clone(), source })
        };
        let hash = short_hash(&encode(&object, &key)?);
        if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
            annotations.insert(HASH_ANNOTATION.into(), hash.as_str().into());
        }
        let release = object.pointer("/metadata/annotations").and_then(|all| all.get(RELEASE_ANNOTATION)?.as_str());
        let release = release.and_then(|release| release.parse().ok());
        let installation = object.pointer("/metadata/labels").and_then(|all| all.get(INSTALLATION_LABEL)?.as_str());
        let installation = installation.unwrap_or_default().to_owned();
        let body = encode(&object, &key)?.into_boxed_slice();
        let stage = Stage::of(key.kind, component);
        let component = component.clone();
        Ok(Self { stage, component, key, installation, hash, release, externally_managed: false, body })
    }

    /// The object as a JSON value, parsed at each call.
    #[must_use]
    pub fn value(&self) -> Value {
        // The bytes were written by `with_hash`; they parse.
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Adds entries to the map under `table`, which is created if it is absent or null.
fn insert_entries<const N: usize>(parent: &mut Map<String, Value>, table: &str, entries: [(&str, String); N]) {
    let mut map = match parent.remove(table) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    map.extend(entries.into_iter().map(|(key, value)| (key.to_owned(), Value::String(value))));
    parent.insert(table.to_owned(), Value::Object(map));
}

/// The first 16 hexadecimal digits of a SHA-256, which suffice to distinguish versions of one object.
#[must_use]
pub fn short_hash(bytes: &[u8]) -> String {
    use fmt::Write as _;
    Sha256::digest(bytes).iter().take(8).fold(String::with_capacity(16), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests;
