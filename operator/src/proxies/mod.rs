//! Proxy versions of running pods, and restarts of workloads with outdated proxies.
//!
//! PURE except for [`watch`], [`list`] and [`restarter`], which read pods and workloads and restart workloads. The
//! index stores two words per pod: its UID and a pointer to its workload and version. [`restart_plan`] selects the
//! workloads to restart from the time, the policy and the live objects. Restarts are recorded in annotations of the
//! pod template; the restarter also remembers its own, since another client may revert the annotations.

mod describe;
mod index;
mod list;
mod policy;
mod proxy_pod;
mod restart_plan;
mod restarter;
mod version;
mod watch;
mod window;
mod workload;

pub use describe::describe;
pub use index::{ProxyGroup, ProxyIndex, ProxySummary, ServingProxies, is_outdated};
pub use list::{MeshUsage, count_usage, list};
pub use policy::RestartPolicy;
pub use proxy_pod::{PodOwner, PodOwnerKind};
pub use restart_plan::{ProxyTarget, RestartPlan, SkipReason, WaitReason, plan_restarts};
pub use restarter::{ProxyUpdateError, WorkloadRestarter};
pub use version::{UNKNOWN, tag_of, version_or_unknown};
pub use watch::{ProxyWatcher, ReportedProxies};
pub use window::{TimeWindow, WindowState};
pub use workload::{LastRestart, ProxyWorkload, RolloutState, WorkloadKind};
