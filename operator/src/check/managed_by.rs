//! Detects the tool that manages an object from its labels, annotations and owners.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::snapshot::ObjectInfo;
use crate::mesh::object::ObjectKey;

/// The tool that manages an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Manager {
    /// `istioctl install`, or Istio's former in-cluster operator.
    Istioctl,
    /// A Helm release, by namespace and name.
    Helm(String, String),
    /// Helm 2, or a chart rendered for it and applied, as in Istio 1.0.
    Helm2(String),
    /// The Sail Operator.
    Sail,
    /// No known tool.
    Unknown,
}

impl fmt::Display for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Istioctl => f.write_str("istioctl"),
            Self::Helm(namespace, name) => write!(f, "Helm release {namespace}/{name}"),
            Self::Helm2(name) => write!(f, "Helm 2 (release {name})"),
            Self::Sail => f.write_str("the Sail Operator"),
            Self::Unknown => f.write_str("an unknown tool"),
        }
    }
}

impl Manager {
    /// How to stop the tool from managing a mesh that Meshwright has adopted.
    #[must_use]
    pub fn release_instructions(&self) -> String {
        match self {
            Self::Helm(namespace, name) => format!(
                "when the mesh is Ready, delete the Helm release records (don't run helm uninstall, it deletes the \
                 mesh): kubectl delete secrets --namespace {namespace} --selector owner=helm,name={name}"
            ),
            Self::Istioctl => "don't run istioctl install or uninstall any more: they would change the mesh".to_owned(),
            Self::Sail => {
                "before the adoption, stop the Sail Operator, which would revert it; after the adoption, remove its \
                 finalizers"
                    .to_owned()
            }
            Self::Helm2(_) | Self::Unknown => {
                "make sure that no other tool applies the mesh's manifests any more".to_owned()
            }
        }
    }

    /// Whether this is a Helm release with a name.
    #[must_use]
    pub const fn is_helm_release(&self) -> bool {
        matches!(self, Self::Helm(..))
    }

    /// The command that uninstalls the tool's resources; `otherwise` if there is none.
    pub(super) fn uninstall_command(&self, otherwise: &str) -> String {
        match self {
            Self::Istioctl => "istioctl uninstall --purge".to_owned(),
            Self::Helm(namespace, name) => format!("helm uninstall {name} --namespace {namespace}"),
            Self::Sail => "kubectl delete istios.sailoperator.io --all, then uninstall the Sail Operator".to_owned(),
            Self::Helm2(_) | Self::Unknown => otherwise.to_owned(),
        }
    }
}

/// The charts' default for the owning resource.
const UNKNOWN_OWNER: &str = "unknown";

/// Detects the manager from metadata.
pub(super) fn manager(meta: &ObjectInfo) -> Manager {
    let sail = meta.label("managed-by") == Some("sail-operator")
        || meta.label("app.kubernetes.io/managed-by") == Some("sail-operator")
        || meta.owners.iter().any(|kind| matches!(kind.as_str(), "IstioRevision" | "IstioCNI" | "ZTunnel"));
    let istioctl = ["operator.istio.io/managed", "install.operator.istio.io/owning-resource"];
    if sail {
        Manager::Sail
    } else if let Some(name) = meta.annotation("meta.helm.sh/release-name") {
        let namespace = meta.annotation("meta.helm.sh/release-namespace").or(meta.namespace.as_deref());
        Manager::Helm(namespace.unwrap_or("default").to_owned(), name.to_owned())
    } else if istioctl.iter().any(|label| meta.label(label).is_some_and(|owner| owner != UNKNOWN_OWNER)) {
        Manager::Istioctl
    } else if meta.label("heritage") == Some("Tiller") {
        Manager::Helm2(meta.label("release").unwrap_or("istio").to_owned())
    } else {
        Manager::Unknown
    }
}

/// Detects the manager of a complete object.
#[must_use]
pub fn manager_of(key: &ObjectKey, object: &Value) -> Manager {
    let table = |path: &str| -> BTreeMap<String, String> {
        object.pointer(path).cloned().and_then(|table| serde_json::from_value(table).ok()).unwrap_or_default()
    };
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array).into_iter().flatten();
    let owners = owners.filter_map(|owner| owner.get("kind")?.as_str().map(str::to_owned)).collect();
    manager(&ObjectInfo {
        kind: key.kind.name().to_owned(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        labels: table("/metadata/labels"),
        annotations: table("/metadata/annotations"),
        owners,
        ..ObjectInfo::default()
    })
}

/// Appends the alternative to uninstalling.
pub(super) fn or_adopt(uninstall_command: &str) -> String {
    format!("{uninstall_command}; or adopt it with meshwright adopt")
}
