//! `spec.controlPlane`: the istiod Deployment.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{Autoscaling, Resources, is_default, rules};

/// The istiod Deployment. What is left out is as the profile and the chart have it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::replicas_or_autoscaling("the control plane's"))]
pub struct ControlPlane {
    /// A fixed number of istiod pods; no autoscaler is made. Excludes `autoscaling`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub replicas: Option<i32>,
    /// Let a `HorizontalPodAutoscaler` choose the number of istiod pods. Excludes `replicas`.
    /// Default: as the profile has it (1 to 5 pods; the demo profile has one pod and no autoscaler).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// CPU and memory of istiod. Example: `{requests: {cpu: 500m, memory: 2Gi}}`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// Environment variables of istiod. Example: `[{name: PILOT_ENABLE_STATUS, value: "true"}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvVar>,
    /// Labels that a node must have to run istiod. Example: `{kubernetes.io/os: linux}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that istiod's pods accept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Where istiod's pods should and shouldn't run, as in a pod's `spec.affinity`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Annotations added to istiod's pods. A change restarts them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_annotations: BTreeMap<String, String>,
}

/// One environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// The variable's name. Example: `PILOT_ENABLE_STATUS`.
    #[schemars(length(max = 253), regex(pattern = "^[A-Za-z_][A-Za-z0-9_.-]*$"))]
    pub name: String,
    /// Its value; quote numbers and booleans. Example: `"true"`.
    pub value: String,
}
