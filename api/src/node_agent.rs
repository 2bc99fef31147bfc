//! `spec.cni` and `spec.ztunnel`: what runs on every node.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Resources, is_default, rules};

/// A part of the mesh with a pod on every node. Further values of its chart stand in `spec.values`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeAgent {
    /// Whether it is installed: `Profile` (default) leaves that to the profile, and on OpenShift cni
    /// comes with every profile.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: ComponentMode,
    /// Its namespace, made if it doesn't exist. Its pods are privileged: Pod Security must let them
    /// pass there. A change makes it anew in the other namespace and takes the old one away.
    /// Default: `kube-system` on OpenShift, else the control plane's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::is_dns_label("the namespace of cni and ztunnel"))]
    pub namespace: Option<String>,
    /// CPU and memory of each of its pods. Example: `{requests: {cpu: 50m, memory: 64Mi}}`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
}

/// Whether a component is installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ComponentMode {
    /// If the profile has it, or the platform needs it.
    #[default]
    Profile,
    /// Whatever the profile says.
    Enabled,
    /// Not, whatever the profile says.
    Disabled,
}
