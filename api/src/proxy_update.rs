//! `spec.proxy.update`: restarts of pods with an outdated proxy.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules;

/// Key of the label (on a namespace or workload) or annotation (on a workload) that allows or forbids restarts for a
/// new proxy. The workload's annotation takes precedence over its label, and its label over the namespace's.
pub const PROXY_UPDATE: &str = "meshwright.dev/proxy-update";
/// The value that allows restarts; all other values forbid them.
pub const PROXY_UPDATE_RESTART: &str = "restart";

/// How the operator handles outdated proxies. A pod keeps its proxy version until its workload is restarted. The
/// operator only restarts workloads that opt in with the label `meshwright.dev/proxy-update: restart` on the workload
/// or its namespace. An annotation with the same key on the workload takes precedence; `never` excludes the workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyUpdate {
    /// `Report` (default): the operator reports proxy versions in `status.proxies` and restarts nothing. `Restart`:
    /// the operator restarts Deployments, `StatefulSets` and `DaemonSets` that opted in, one at a time per namespace,
    /// while the mesh is Ready; the other fields control when and how fast.
    #[serde(default)]
    pub mode: ProxyUpdateMode,
    /// Maintenance windows in which restarts may start. Default: any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub windows: Vec<MaintenanceWindow>,
    /// Maximum number of workloads in the cluster that the operator restarts per minute. Default: 6.
    #[serde(default = "six")]
    #[schemars(range(min = 1, max = 600))]
    pub restarts_per_minute: i32,
    /// Number of failed restarts at which the operator stops restarting further workloads, until one of the failed
    /// workloads becomes ready. Default: 3.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 100))]
    pub max_failures: i32,
}

fn six() -> i32 {
    6
}

fn three() -> i32 {
    3
}

impl Default for ProxyUpdate {
    fn default() -> Self {
        Self { mode: ProxyUpdateMode::Report, windows: Vec::new(), restarts_per_minute: six(), max_failures: three() }
    }
}

/// Whether the operator restarts workloads with an outdated proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProxyUpdateMode {
    /// Report outdated proxies in status only.
    #[default]
    Report,
    /// Restart workloads that opted in.
    Restart,
}

/// A maintenance window in which restarts may start. Restarts in progress continue after its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::window_is_not_empty())]
pub struct MaintenanceWindow {
    /// Days on which the window starts. Default: every day. Example: `[Saturday, Sunday]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub days: Vec<Weekday>,
    /// Start of the window as hours and minutes. Example: `"22:00"`.
    #[schemars(length(max = 5))]
    #[x_kube(validation = rules::is_time_of_day("start"))]
    pub start: String,
    /// End of the window. If it is not after `start`, the window ends on the next day. Example: `"04:30"`.
    #[schemars(length(max = 5))]
    #[x_kube(validation = rules::is_time_of_day("end"))]
    pub end: String,
    /// IANA time zone of `start` and `end`. Default: `UTC`. Example: `Europe/Berlin`.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the names are self-explanatory")]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}
