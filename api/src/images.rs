//! `spec.images`: registry, pull policy, pull secrets and digests of images.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{AddOnName, rules};

/// Istio's images by the last path segment of their names. Images of add-ons have the names of the add-ons.
pub const IMAGE_NAMES: [&str; 5] = ["agentgateway", "install-cni", "pilot", "proxyv2", "ztunnel"];

/// Registry, pull policy, pull secrets and digests of images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Images {
    /// Registry and path of all images, those of Istio and those of add-ons. Each image is named by its last path
    /// segment, such as `pilot` or `prometheus`. Default: the registry of the Istio release and of each add-on.
    /// Example: `registry.example.com/istio`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::is_registry())]
    pub registry: Option<String>,
    /// Image pull policy: `Always`, `IfNotPresent` or `Never`. Default: the default of Kubernetes, `IfNotPresent` for a
    /// fixed tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PullPolicy")]
    pub pull_policy: Option<PullPolicy>,
    /// References to Secrets with registry credentials. Each Secret must exist in every namespace with istiod, a
    /// gateway or sidecars. Example: `[{name: registry-key}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Vec<ImagePullSecret>,
    /// Digests by image name: pilot, proxyv2, install-cni, ztunnel and agentgateway for Istio; prometheus, grafana,
    /// kiali and jaeger for add-ons. Nodes pull exactly these digests. Digests of Istio's images belong to one
    /// release, so they require an exact `version`; the image reference keeps the tag for readability. Example:
    /// `{pilot: "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "digests")]
    #[x_kube(validation = rules::digests_have_known_images())]
    pub digests: BTreeMap<String, String>,
}

/// A reference to a Secret with registry credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImagePullSecret {
    /// Name of the Secret. Example: `registry-key`.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::is_secret_name())]
    pub name: String,
}

/// Image pull policy of containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// The kubelet resolves the image on every container start.
    Always,
    /// The kubelet pulls the image if it isn't present on the node.
    IfNotPresent,
    /// The kubelet never pulls the image; it must be present on the node.
    Never,
}

impl PullPolicy {
    /// Returns the policy as it is written in a container's `imagePullPolicy`.
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
