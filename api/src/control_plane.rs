//! `spec.controlPlane`: the istiod Deployment.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{Autoscaling, Resources, is_default, rules};

/// Configuration of the istiod Deployment. Unset fields keep the values of the profile and the chart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::replicas_or_autoscaling("the control plane's"))]
pub struct ControlPlane {
    /// Fixed number of istiod pods, without a HorizontalPodAutoscaler. Mutually exclusive with `autoscaling`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub replicas: Option<i32>,
    /// HorizontalPodAutoscaler of istiod. Mutually exclusive with `replicas`.
    /// Default: set by the profile (1 to 5 pods; `demo` and `minimal` run one pod without an autoscaler).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// Resource requests and limits of istiod. Example: `{requests: {cpu: 500m, memory: 2Gi}}`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// Environment variables of istiod. Example: `[{name: PILOT_ENABLE_STATUS, value: "true"}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvVar>,
    /// Node selector of istiod's pods. Example: `{kubernetes.io/os: linux}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Tolerations of istiod's pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Affinity of istiod's pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Annotations added to istiod's pods. Changing them restarts the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_annotations: BTreeMap<String, String>,
}

/// An environment variable of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// Name of the environment variable. Example: `PILOT_ENABLE_STATUS`.
    #[schemars(length(max = 253), regex(pattern = "^[A-Za-z_][A-Za-z0-9_.-]*$"))]
    pub name: String,
    /// Value of the environment variable. Quote numbers and booleans. Example: `"true"`.
    pub value: String,
}
