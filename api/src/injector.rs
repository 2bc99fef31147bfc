//! `spec.injector`: sidecar injection.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Configuration of sidecar injection. Unset fields keep the values of the profile and the chart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Injector {
    /// Whether to inject pods in all namespaces, except those with the label `istio-injection=disabled`.
    /// Default: false; only pods and namespaces with an injection label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_namespaces_by_default: Option<bool>,
    /// Whether to redirect the kubelet's HTTP probes to the proxy's agent, so that they succeed with strict mutual TLS.
    /// Default: true.
    #[serde(rename = "rewriteAppHTTPProbe", skip_serializing_if = "Option::is_none")]
    pub rewrite_app_http_probe: Option<bool>,
    /// Label selectors of pods that are never injected, regardless of the labels of their namespace.
    /// Example: `[{matchLabels: {job: nightly}}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub never_inject_selector: Vec<LabelSelector>,
    /// Label selectors of pods that are injected even without an injection label on the pod or its namespace, in
    /// namespaces that the webhook selects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub always_inject_selector: Vec<LabelSelector>,
    /// Annotations added to every injected pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub injected_annotations: BTreeMap<String, String>,
}
