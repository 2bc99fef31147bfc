//! `spec.proxy.update`: what happens to pods whose proxy is not of the mesh's version.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules;

/// Label of a namespace, label or annotation of a Deployment, StatefulSet or DaemonSet: whether it may be restarted for a
/// new proxy. The workload's annotation goes before its label, and that before the namespace's.
pub const PROXY_UPDATE: &str = "meshwright.dev/proxy-update";
/// The value that allows it; every other one forbids it.
pub const PROXY_UPDATE_RESTART: &str = "restart";

/// How the proxies of running pods come to the mesh's version: a pod keeps the proxy that it was
/// made with until its workload is restarted. Nothing is restarted without consent: the label
/// `meshwright.dev/proxy-update: restart` on the workload or its namespace. An annotation of that
/// name on the workload goes before both; `never` exempts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyUpdate {
    /// `Report` (default): status.proxies tells what runs, and nothing is restarted. `Restart`:
    /// Deployments, `StatefulSets` and `DaemonSets` with the label are restarted, one at a time in each
    /// namespace, while the mesh is Ready; the other fields say when and how fast.
    #[serde(default)]
    pub mode: ProxyUpdateMode,
    /// When restarts may begin. Default: at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub windows: Vec<MaintenanceWindow>,
    /// How many workloads are restarted in a minute at most, in the whole cluster. Default: 6.
    #[serde(default = "six")]
    #[schemars(range(min = 1, max = 600))]
    pub restarts_per_minute: i32,
    /// As soon as so many restarted workloads don't come up again, no other is restarted, until one
    /// of them has come up after all. Default: 3.
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

/// Whether workloads with an outdated proxy are restarted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProxyUpdateMode {
    /// They are only told of.
    #[default]
    Report,
    /// Those that carry the label are.
    Restart,
}

/// A time of day at which restarts may begin. What has begun goes on past its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::window_is_not_empty())]
pub struct MaintenanceWindow {
    /// The days on which the window opens. Default: every day. Example: `[Saturday, Sunday]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub days: Vec<Weekday>,
    /// When it opens, as hours and minutes. Example: `"22:00"`.
    #[schemars(length(max = 5))]
    #[x_kube(validation = rules::is_time_of_day("start"))]
    pub start: String,
    /// When it closes; a time that is not after `start` is the next day's. Example: `"04:30"`.
    #[schemars(length(max = 5))]
    #[x_kube(validation = rules::is_time_of_day("end"))]
    pub end: String,
    /// The time zone of both, by its name in the IANA database. Default: `UTC`.
    /// Example: `Europe/Berlin`.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "their names say it")]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}
