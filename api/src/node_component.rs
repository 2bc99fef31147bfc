//! `spec.cni` and `spec.ztunnel`: components that run as `DaemonSets`.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Resources, is_default, rules};

/// Configuration of a component that runs as a DaemonSet. Set additional values of its chart in `spec.values`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeComponent {
    /// Whether to install the component: `Profile` (default), `Enabled` or `Disabled`. With `Profile`, the profile
    /// decides; on OpenShift every profile includes cni.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: ComponentMode,
    /// Namespace of the component, created if it doesn't exist. It must allow privileged pods. Changing it moves the
    /// component: the operator creates it in the new namespace and deletes the old one. Default: `kube-system` on
    /// OpenShift, otherwise the control plane's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::is_dns_label("the namespace of cni or ztunnel"))]
    pub namespace: Option<String>,
    /// Resource requests and limits of each pod. Example: `{requests: {cpu: 50m, memory: 64Mi}}`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
}

/// Whether to install a component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ComponentMode {
    /// Install it if the profile includes it or the platform requires it.
    #[default]
    Profile,
    /// Always install it.
    Enabled,
    /// Never install it.
    Disabled,
}
