//! `spec.injector`: which pods get a proxy.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The sidecar injector. What is left out is as the profile and the chart have it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Injector {
    /// True: pods in every namespace get a proxy unless the namespace is labelled
    /// `istio-injection=disabled`. Default: false, only labelled namespaces and pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_namespaces_by_default: Option<bool>,
    /// Send the kubelet's HTTP probes through the proxy's agent, so that they work under strict
    /// mutual TLS. Default: true.
    #[serde(rename = "rewriteAppHTTPProbe", skip_serializing_if = "Option::is_none")]
    pub rewrite_app_http_probe: Option<bool>,
    /// Pods that never get a proxy, whatever their namespace says.
    /// Example: `[{matchLabels: {job: nightly}}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub never_inject_selector: Vec<LabelSelector>,
    /// Pods that get a proxy although neither they nor their namespace ask for one, in namespaces
    /// that the webhook watches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub always_inject_selector: Vec<LabelSelector>,
    /// Annotations added to every pod that gets a proxy.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub injected_annotations: BTreeMap<String, String>,
}
