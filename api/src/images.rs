//! Where images come from, how they are pulled, and which ones exactly.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{AddOnName, rules};

/// Istio's images that a mesh can ask for, by the last part of their names. Those of add-ons are called as the add-ons are.
pub const IMAGE_NAMES: [&str; 5] = ["agentgateway", "install-cni", "pilot", "proxyv2", "ztunnel"];

/// Where images come from and how they are pulled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Images {
    /// Registry and path that hold the images, Istio's and those of add-ons, each by the last part of its name: `pilot`,
    /// `prometheus`. Default: the release's own, and each add-on's. Example: `registry.example.com/istio`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::is_registry())]
    pub registry: Option<String>,
    /// When the nodes pull images. Default: Kubernetes' own, `IfNotPresent` for a fixed tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PullPolicy")]
    pub pull_policy: Option<PullPolicy>,
    /// Names of Secrets with registry credentials; they must exist in every namespace that runs
    /// istiod, a gateway or a sidecar. Example: `[registry-key]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set, validation = rules::are_secret_names())]
    pub pull_secrets: Vec<String>,
    /// Digests of images, by their names: pilot, proxyv2, install-cni, ztunnel, agentgateway, and those of add-ons:
    /// prometheus, grafana, kiali, jaeger. Nodes pull exactly these. Istio's are those of one release, so version has to be an
    /// exact one, and the tag stays in the name, for people.
    /// Example: `{pilot: "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "digests")]
    #[x_kube(validation = rules::are_digests_of_images())]
    pub digests: BTreeMap<String, String>,
}

/// When a node pulls an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// Every time a pod starts.
    Always,
    /// When the node hasn't got it.
    IfNotPresent,
    /// Never; the node must have it.
    Never,
}

impl PullPolicy {
    /// The policy as a container's `imagePullPolicy` spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

fn digests(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": IMAGE_NAMES.len() + AddOnName::ALL.len(),
        "additionalProperties": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
    })
}
