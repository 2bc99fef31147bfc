//! What every workload of the mesh can be given: resources and a number of pods.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::rules;

/// CPU and memory of one container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What the scheduler reserves. Example: `{cpu: 100m, memory: 128Mi}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub requests: BTreeMap<String, Quantity>,
    /// What the container can't exceed. Example: `{cpu: "2", memory: 1Gi}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub limits: BTreeMap<String, Quantity>,
}

/// How far a `HorizontalPodAutoscaler` may go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::min_up_to_max())]
pub struct Autoscaling {
    /// Fewest pods. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub min: i32,
    /// Most pods.
    #[schemars(range(min = 1))]
    pub max: i32,
    /// Average CPU that the autoscaler aims at, in percent of the CPU request. Default: 80.
    #[serde(default = "eighty", rename = "targetCPU")]
    #[schemars(range(min = 1))]
    pub target_cpu: i32,
}

fn one() -> i32 {
    1
}

fn eighty() -> i32 {
    80
}

/// Quantities as Kubernetes itself takes them: a whole number or a string such as `500m` or `2Gi`.
/// The pattern refuses at once what would only fail when the Deployment is applied.
fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": {
            "x-kubernetes-int-or-string": true,
            "anyOf": [{ "type": "integer" }, { "type": "string" }],
            "pattern": r"^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)(([KMGTPE]i)|[numkMGTPE]|([eE][-+]?[0-9]+))?$",
        },
    })
}
