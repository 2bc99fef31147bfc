//! Proxies: which versions run in the cluster's pods, and how those that are behind come to the mesh's.
//!
//! PURE but for [`watch`], [`list`] and [`cluster`], which read pods and workloads and restart the latter. What is kept of
//! a pod is a pointer to its workload and version; which workload is restarted next is [`decide`], a function of the time,
//! the policy and what the live objects say. Nothing else remembers a restart: its mark is in the pod template.

mod census;
mod cluster;
mod decide;
mod list;
mod pod;
mod policy;
mod tell;
mod version;
mod watch;
mod window;
mod workload;

pub use census::{Census, Group, Summary, is_outdated};
pub use cluster::{ProxyUpdateError, Restarts};
pub use decide::{Decision, Skip, Wait, decide};
pub use list::{InUse, in_use, list};
pub use pod::{Owner, OwnerKind};
pub use policy::Policy;
pub use tell::tell;
pub use version::{UNKNOWN, tag_of, told_by};
pub use watch::{Proxies, Seen};
pub use window::{Opening, Window};
pub use workload::{Restarted, Rollout, Workload, WorkloadKind};
