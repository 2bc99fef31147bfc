//! `spec.proxy`: the Envoy beside each application.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ProxyUpdate, Resources, is_default, rules};

/// The proxies of the mesh. What is left out is as the profile and the chart have it. Running pods
/// keep what they were made with until they are restarted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Proxy {
    /// CPU and memory of each sidecar. Example: `{requests: {cpu: 10m, memory: 40Mi}}`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// How much the proxies log. Default: `warning`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ProxyLogLevel")]
    pub log_level: Option<ProxyLogLevel>,
    /// Log every request. Default: off (the demo profile logs to /dev/stdout). `accessLog: {}`
    /// logs to /dev/stdout as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLog>,
    /// Start the application only when its proxy is ready. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_application_until_proxy_starts: Option<bool>,
    /// Run the proxy as a native sidecar (an init container that keeps running), so that jobs can
    /// end and init containers have the network. Default: as the Istio release has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub native_sidecar: Option<bool>,
    /// Outbound IP ranges that go through the proxy; `*` is all. Default: `["*"]`.
    /// Example: `["10.0.0.0/8"]`.
    #[serde(default, rename = "includeIPRanges", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 64)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rules::are_ranges_or_all("includeIPRanges")
    )]
    pub include_ip_ranges: Vec<String>,
    /// Outbound IP ranges that don't go through the proxy. Example: `["169.254.169.254/32"]`.
    #[serde(default, rename = "excludeIPRanges", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 64)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rules::are_ranges("excludeIPRanges")
    )]
    pub exclude_ip_ranges: Vec<String>,
    /// Inbound ports that go through the proxy; `*` is all. Default: `["*"]`.
    /// Example: `["8080", "9090"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 5)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rules::are_ports_or_all("includeInboundPorts")
    )]
    pub include_inbound_ports: Vec<String>,
    /// Inbound ports that don't go through the proxy. Example: `["9100"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 5)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rules::are_ports("excludeInboundPorts")
    )]
    pub exclude_inbound_ports: Vec<String>,
    /// Outbound ports that go through the proxy even where `includeIPRanges` leaves the address
    /// out. Example: `["3306"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 5)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rules::are_ports("includeOutboundPorts")
    )]
    pub include_outbound_ports: Vec<String>,
    /// Outbound ports that don't go through the proxy. Example: `["5432"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 5)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rules::are_ports("excludeOutboundPorts")
    )]
    pub exclude_outbound_ports: Vec<String>,
    /// What happens to running pods whose proxy is not of the mesh's version.
    #[serde(default, skip_serializing_if = "is_default")]
    pub update: ProxyUpdate,
}

/// How much Envoy logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProxyLogLevel {
    /// Everything.
    Trace,
    /// For debugging.
    Debug,
    /// What happens.
    Info,
    /// What may be wrong.
    Warning,
    /// What is wrong.
    Error,
    /// What can't go on.
    Critical,
    /// Nothing.
    Off,
}

impl ProxyLogLevel {
    /// The level as Envoy's command line and the charts spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Off => "off",
        }
    }
}

/// Where and how requests are logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessLog {
    /// The file in the proxy's container; empty switches the log off. Default: `/dev/stdout`.
    #[serde(default = "stdout")]
    pub file: String,
    /// `Text` (default) or `Json`, one object a line.
    #[serde(default)]
    pub encoding: AccessLogEncoding,
}

fn stdout() -> String {
    "/dev/stdout".to_owned()
}

/// How a request is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AccessLogEncoding {
    /// Envoy's text format.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl AccessLogEncoding {
    /// The encoding as Istio's `MeshConfig` spells it.
    #[must_use]
    pub fn as_mesh_config(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::Json => "JSON",
        }
    }
}
