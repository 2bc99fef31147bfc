//! Desired objects: what an installation wants to exist, in which order, and how it is marked as ours.

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
/// Annotation on every object: the release that it was rendered from; shared objects never go back behind it.
pub const RELEASE_ANNOTATION: &str = "meshwright.dev/release";
/// Annotation on a gateway's Deployment that was taken over: the checksum of what shaped its proxies then. While that is
/// the same its pods, which have none, stay as they are.
pub const ADOPTED_INPUTS_ANNOTATION: &str = "meshwright.dev/adopted-proxy-inputs";
/// Label of a namespace: the level of Pod Security that pods in it must meet.
pub const ENFORCE_LABEL: &str = "pod-security.kubernetes.io/enforce";
/// Field manager of everything that we apply.
pub const FIELD_MANAGER: &str = "meshwright";

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; `None` for cluster-scoped kinds.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl ObjectKey {
    /// Whether it is the ConfigMap that a control plane injects by: its name, with the revision's appended, is Istio's.
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

/// A part of the mesh that is installed, judged and removed as one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Component {
    /// Namespaces that the mesh needs.
    Namespaces,
    /// CRDs and what all revisions share.
    Base,
    /// The control plane and the injector.
    Istiod,
    /// The node agent that redirects pods' traffic.
    Cni,
    /// The node proxy of ambient mode.
    Ztunnel,
    /// A revision tag, by its name: the webhook that answers for it and what goes with it. That of `default` stands for
    /// `istio-injection=enabled` and has the validation of what asks for no revision.
    Tag(String),
    /// One gateway, by its name.
    Gateway(String),
    /// One add-on, by its name.
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
    /// Reads the value of [`COMPONENT_LABEL`].
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

/// When an object is applied, relative to the others. Everything of one stage may be applied at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Namespaces.
    Namespaces,
    /// CRDs; the control plane's workloads wait until they are established.
    Definitions,
    /// Service accounts and roles.
    Identity,
    /// Bindings, which the API server only takes when their role exists.
    Bindings,
    /// Configuration: istiod never starts injecting if its injector ConfigMap is missing when it starts.
    Configuration,
    /// Services.
    Services,
    /// The control plane's workloads and what guards them.
    ControlPlane,
    /// Validating webhooks and policies.
    Validation,
    /// Mutating webhooks, last: until istiod has filled in its certificate they refuse what they match.
    Injection,
    /// The node agent's pods.
    Cni,
    /// The node proxy's pods, which take the traffic that the node agent redirects.
    Ztunnel,
    /// A gateway's account and role.
    GatewayIdentity,
    /// The rest of a gateway but its pods.
    Gateways,
    /// Gateway pods, which exist only through injection.
    GatewayWorkloads,
    /// An add-on's account and role.
    AddOnIdentity,
    /// The rest of an add-on but its pods.
    AddOns,
    /// An add-on's pods: the mesh comes first.
    AddOnWorkloads,
}

impl Stage {
    /// The stage of an object.
    #[must_use]
    pub fn of(kind: Kind, component: &Component) -> Self {
        if matches!(component, Component::Gateway(_)) {
            return match kind {
                Kind::Deployment => Self::GatewayWorkloads,
                Kind::ServiceAccount | Kind::Role => Self::GatewayIdentity,
                _ => Self::Gateways,
            };
        }
        if matches!(component, Component::AddOn(_)) {
            return match kind {
                Kind::Deployment => Self::AddOnWorkloads,
                Kind::ServiceAccount | Kind::ClusterRole | Kind::Role => Self::AddOnIdentity,
                _ => Self::AddOns,
            };
        }
        match kind {
            Kind::Namespace => Self::Namespaces,
            Kind::CustomResourceDefinition => Self::Definitions,
            Kind::ServiceAccount | Kind::ClusterRole | Kind::Role => Self::Identity,
            Kind::ClusterRoleBinding | Kind::RoleBinding => Self::Bindings,
            Kind::ConfigMap | Kind::ResourceQuota => Self::Configuration,
            Kind::Service | Kind::NetworkPolicy => Self::Services,
            Kind::Deployment | Kind::HorizontalPodAutoscaler | Kind::PodDisruptionBudget => Self::ControlPlane,
            Kind::ValidatingAdmissionPolicy
            | Kind::ValidatingAdmissionPolicyBinding
            | Kind::ValidatingWebhookConfiguration => Self::Validation,
            Kind::MutatingWebhookConfiguration => Self::Injection,
            Kind::DaemonSet if *component == Component::Ztunnel => Self::Ztunnel,
            // What another's CRD defines may be refused for its want, which must not hold the control plane up.
            Kind::DaemonSet | Kind::NetworkAttachmentDefinition => Self::Cni,
        }
    }

    /// On the way back the greater goes first: as the stages, but webhooks go before all that the pods which they make
    /// would need, and a gateway's Service before its pods, so that no client is sent to pods that are ending.
    #[must_use]
    pub const fn removal_turn(self) -> u8 {
        match self {
            Self::Namespaces => 0,
            Self::Definitions => 1,
            Self::Identity => 2,
            Self::Bindings => 3,
            Self::Configuration => 4,
            Self::Services => 5,
            Self::ControlPlane => 6,
            Self::Cni => 7,
            Self::Ztunnel => 8,
            Self::Validation => 9,
            Self::Injection => 10,
            Self::GatewayIdentity => 11,
            Self::GatewayWorkloads => 12,
            Self::Gateways => 13,
            Self::AddOnIdentity => 14,
            Self::AddOns => 15,
            Self::AddOnWorkloads => 16,
        }
    }
}

/// Whose objects these are, and from which release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Name of the installation.
    pub installation: String,
    /// Its UID.
    pub uid: String,
    /// The exact release.
    pub release: semver::Version,
}

/// An object as it shall be. Kept as compact JSON: the parsed form of all CRDs takes ten times the memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Which object.
    pub key: ObjectKey,
    /// Name of the installation that wants it.
    pub installation: String,
    /// What it belongs to.
    pub component: Component,
    /// When it is applied.
    pub stage: Stage,
    /// Hash of the object before our hash annotation was added.
    pub hash: String,
    /// Release that it was rendered from.
    pub release: Option<semver::Version>,
    /// Somebody else applies it beforehand: it is compared, and never written.
    pub preinstalled: bool,
    body: Box<[u8]>,
}

/// Why a rendered document can't become a desired object.
#[derive(Debug, thiserror::Error)]
pub enum AdmitObjectError {
    /// It has no apiVersion, kind or name.
    #[error("a rendered document lacks {0}")]
    Incomplete(&'static str),
    /// Its kind is not in the table of kinds.
    #[error("{api_version} {kind} {name:?} is of a kind that Meshwright does not manage")]
    UnknownKind {
        /// The document's apiVersion.
        api_version: String,
        /// The document's kind.
        kind: String,
        /// The document's name.
        name: String,
    },
    /// It could not be written as JSON.
    #[error("{key} can't be written as JSON")]
    Encode {
        /// Which object.
        key: ObjectKey,
        /// Cause.
        #[source]
        source: serde_json::Error,
    },
}

impl Desired {
    /// Takes a rendered document in: checks its kind, gives it its namespace and our marks, and hashes it.
    pub fn admit(
        mut object: Value,
        component: &Component,
        owner: &Owner,
        default_namespace: &str,
    ) -> Result<Self, AdmitObjectError> {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let api_version = text("/apiVersion").ok_or(AdmitObjectError::Incomplete("apiVersion"))?;
        let kind_name = text("/kind").ok_or(AdmitObjectError::Incomplete("kind"))?;
        let name = text("/metadata/name").ok_or(AdmitObjectError::Incomplete("metadata.name"))?;
        let Some(kind) = Kind::of(&api_version, &kind_name) else {
            return Err(AdmitObjectError::UnknownKind { api_version, kind: kind_name, name });
        };
        let namespace =
            kind.namespaced().then(|| text("/metadata/namespace").unwrap_or_else(|| default_namespace.to_owned()));
        let key = ObjectKey { kind, namespace, name };

        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
            return Err(AdmitObjectError::Incomplete("metadata"));
        };
        match &key.namespace {
            Some(namespace) => metadata.insert("namespace".into(), namespace.as_str().into()),
            None => metadata.remove("namespace"),
        };
        insert_all(
            metadata,
            "labels",
            [(INSTALLATION_LABEL, owner.installation.clone()), (COMPONENT_LABEL, component.to_string())],
        );
        insert_all(
            metadata,
            "annotations",
            [(UID_ANNOTATION, owner.uid.clone()), (RELEASE_ANNOTATION, owner.release.to_string())],
        );

        Self::seal(key, component, object)
    }

    /// The same object with other content: `object` is a changed [`Self::value`].
    pub fn revise(&self, mut object: Value) -> Result<Self, AdmitObjectError> {
        if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
            annotations.remove(HASH_ANNOTATION);
        }
        let (release, installation) = (self.release.clone(), self.installation.clone());
        let sealed = Self::seal(self.key.clone(), &self.component, object)?;
        Ok(Self { release, installation, preinstalled: self.preinstalled, ..sealed })
    }

    /// Hashes a marked object and writes the hash into it.
    fn seal(key: ObjectKey, component: &Component, mut object: Value) -> Result<Self, AdmitObjectError> {
        let encode = |object: &Value, key: &ObjectKey| {
            serde_json::to_vec(object).map_err(|source| AdmitObjectError::Encode { key: key.clone(), source })
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
        Ok(Self { stage, component, key, installation, hash, release, preinstalled: false, body })
    }

    /// The object itself, parsed anew at each call.
    #[must_use]
    pub fn value(&self) -> Value {
        // The bytes were written by `admit`; they parse.
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Adds entries to the table under `table`, which is made if absent or null.
fn insert_all<const N: usize>(parent: &mut Map<String, Value>, table: &str, entries: [(&str, String); N]) {
    let mut map = match parent.remove(table) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    map.extend(entries.into_iter().map(|(key, value)| (key.to_owned(), Value::String(value))));
    parent.insert(table.to_owned(), Value::Object(map));
}

/// The first 16 hexadecimal digits of a SHA-256: enough to tell versions of one object apart.
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
