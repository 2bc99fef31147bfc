//! `spec.proxy`: configuration of sidecar proxies.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ProxyUpdate, Resources, is_default, rules};

/// Configuration of sidecar proxies. Unset fields keep the values of the profile and the chart. Running pods keep their
/// configuration until they are restarted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Proxy {
    /// Resource requests and limits of each sidecar. Example: `{requests: {cpu: 10m, memory: 40Mi}}`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// Log level of the proxies. Default: `warning`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ProxyLogLevel")]
    pub log_level: Option<ProxyLogLevel>,
    /// Access log of the proxies. `accessLog: {}` logs every request to /dev/stdout as text. Default: disabled; the
    /// `demo` profile logs to /dev/stdout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLog>,
    /// Whether to start the application containers only when the proxy is ready. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_application_until_proxy_starts: Option<bool>,
    /// Whether to run the proxy as a native sidecar (an init container with restartPolicy `Always`), so that Jobs can
    /// complete and init containers can use the network. Default: the default of the Istio release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub native_sidecar: Option<bool>,
    /// Outbound IP ranges that are redirected to the proxy; `*` selects all. Default: `["*"]`.
    /// Example: `["10.0.0.0/8"]`.
    #[serde(default, rename = "includeIPRanges", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 64)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rules::are_cidrs_or_all("includeIPRanges")
    )]
    pub include_ip_ranges: Vec<String>,
    /// Outbound IP ranges that bypass the proxy. Example: `["169.254.169.254/32"]`.
    #[serde(default, rename = "excludeIPRanges", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 64)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rules::are_cidrs("excludeIPRanges")
    )]
    pub exclude_ip_ranges: Vec<String>,
    /// Inbound ports that are redirected to the proxy; `*` selects all. Default: `["*"]`.
    /// Example: `["8080", "9090"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 5)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rules::are_ports_or_all("includeInboundPorts")
    )]
    pub include_inbound_ports: Vec<String>,
    /// Inbound ports that bypass the proxy. Example: `["9100"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 5)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rules::are_ports("excludeInboundPorts")
    )]
    pub exclude_inbound_ports: Vec<String>,
    /// Outbound ports that are redirected to the proxy even for addresses outside `includeIPRanges`. Example:
    /// `["3306"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 5)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rules::are_ports("includeOutboundPorts")
    )]
    pub include_outbound_ports: Vec<String>,
    /// Outbound ports that bypass the proxy. Example: `["5432"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 5)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rules::are_ports("excludeOutboundPorts")
    )]
    pub exclude_outbound_ports: Vec<String>,
    /// How the operator handles running pods with an outdated proxy.
    #[serde(default, skip_serializing_if = "is_default")]
    pub update: ProxyUpdate,
}

/// Log level of Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProxyLogLevel {
    /// Messages of all levels.
    Trace,
    /// Debug messages and above.
    Debug,
    /// Informational messages and above.
    Info,
    /// Warnings and above.
    Warning,
    /// Errors and above.
    Error,
    /// Critical errors only.
    Critical,
    /// No log output.
    Off,
}

impl ProxyLogLevel {
    /// Returns the level as it is written in Envoy's command line and the charts.
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

/// File and encoding of the access log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessLog {
    /// Path of the log file in the proxy's container. An empty string disables the log. Default: `/dev/stdout`.
    #[serde(default = "stdout")]
    pub file: String,
    /// Encoding of the log: `Text` (default) or `Json`, one object per line.
    #[serde(default)]
    pub encoding: AccessLogEncoding,
}

fn stdout() -> String {
    "/dev/stdout".to_owned()
}

/// Encoding of the access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AccessLogEncoding {
    /// The default text format of Envoy.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl AccessLogEncoding {
    /// Returns the encoding as it is written in Istio's MeshConfig.
    #[must_use]
    pub fn as_mesh_config(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::Json => "JSON",
        }
    }
}
