//! Who made an object, by the marks on it, and how to undo that.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::cluster::Meta;
use crate::mesh::object::ObjectKey;

/// Who made an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// `istioctl install`, or the operator that Istio once had.
    Istioctl,
    /// A Helm release, by namespace and name.
    Helm(String, String),
    /// Helm 2, or its chart applied by hand, as Istio 1.0 was.
    Helm2(String),
    /// The Sail Operator.
    Sail,
    /// Nothing says who.
    Unknown,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Istioctl => f.write_str("istioctl"),
            Self::Helm(namespace, name) => write!(f, "the Helm release {namespace}/{name}"),
            Self::Helm2(name) => write!(f, "Helm 2 or its templates (release {name})"),
            Self::Sail => f.write_str("the Sail Operator"),
            Self::Unknown => f.write_str("somebody who left no mark"),
        }
    }
}

impl Origin {
    /// How to make it forget what has become somebody else's.
    #[must_use]
    pub fn forgetting(&self) -> String {
        match self {
            Self::Helm(namespace, name) => format!(
                "when the mesh is Ready, let Helm forget it (helm uninstall would delete the mesh): kubectl delete secrets \
                 --namespace {namespace} --selector owner=helm,name={name}"
            ),
            Self::Istioctl => "use istioctl install and uninstall no more: they would act on the mesh".to_owned(),
            Self::Sail => {
                "stop the Sail Operator before, or it writes its objects again, and take its finalizers off after"
                    .to_owned()
            }
            Self::Helm2(_) | Self::Unknown => "see to it that nobody applies the mesh's manifests any more".to_owned(),
        }
    }

    /// Whether it is a Helm release, which has a name.
    #[must_use]
    pub const fn is_helms(&self) -> bool {
        matches!(self, Self::Helm(..))
    }

    /// How to take away what it made; `otherwise` where there is no tool for that.
    pub(super) fn removal(&self, otherwise: &str) -> String {
        match self {
            Self::Istioctl => "istioctl uninstall --purge".to_owned(),
            Self::Helm(namespace, name) => format!("helm uninstall {name} --namespace {namespace}"),
            Self::Sail => "kubectl delete istios.sailoperator.io --all, and then remove the Sail Operator".to_owned(),
            Self::Helm2(_) | Self::Unknown => otherwise.to_owned(),
        }
    }
}

/// What the charts say of the owner where nobody tells them.
const CHARTS_OWN: &str = "unknown";

/// Who made an object, by the marks on it.
pub(super) fn origin(meta: &Meta) -> Origin {
    let sail = meta.label("managed-by") == Some("sail-operator")
        || meta.label("app.kubernetes.io/managed-by") == Some("sail-operator")
        || meta.owners.iter().any(|kind| matches!(kind.as_str(), "IstioRevision" | "IstioCNI" | "ZTunnel"));
    let istioctl = ["operator.istio.io/managed", "install.operator.istio.io/owning-resource"];
    if sail {
        Origin::Sail
    } else if let Some(name) = meta.annotation("meta.helm.sh/release-name") {
        let namespace = meta.annotation("meta.helm.sh/release-namespace").or(meta.namespace.as_deref());
        Origin::Helm(namespace.unwrap_or("default").to_owned(), name.to_owned())
    } else if istioctl.iter().any(|label| meta.label(label).is_some_and(|owner| owner != CHARTS_OWN)) {
        Origin::Istioctl
    } else if meta.label("heritage") == Some("Tiller") {
        Origin::Helm2(meta.label("release").unwrap_or("istio").to_owned())
    } else {
        Origin::Unknown
    }
}

/// The same of an object that was read whole.
#[must_use]
pub fn origin_of(key: &ObjectKey, object: &Value) -> Origin {
    let table = |path: &str| -> BTreeMap<String, String> {
        object.pointer(path).cloned().and_then(|table| serde_json::from_value(table).ok()).unwrap_or_default()
    };
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array).into_iter().flatten();
    let owners = owners.filter_map(|owner| owner.get("kind")?.as_str().map(str::to_owned)).collect();
    origin(&Meta {
        kind: key.kind.name().to_owned(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        labels: table("/metadata/labels"),
        annotations: table("/metadata/annotations"),
        owners,
        ..Meta::default()
    })
}

/// The other way to deal with what somebody else made.
pub(super) fn or_take_over(removal: &str) -> String {
    format!("{removal}; or take it over: meshwright adopt")
}
