//! Leader election with a Lease: only one of several replicas writes.
//!
//! `step` contains the pure decision logic, `store` the API requests and `driver` the loop. The rules are those of
//! client-go: a lease has expired when *this* process has observed the same record for the lease duration on its own
//! monotonic clock, so clock skew between nodes is harmless. Every write includes the resourceVersion that the decision
//! was based on, so only one of two candidates succeeds. `fence` refuses the writes of a process that may have lost the
//! lease.

mod driver;
mod fence;
mod step;
mod store;

use std::time::Duration;

use clap::Args;
use thiserror::Error;

pub use driver::Leader;
pub use fence::{LeaseFence, LeaseNotHeldError};
pub use step::LossReason;

/// Name of the Lease object.
pub const LEASE_NAME: &str = "meshwright-leader";

/// Command line flags for leader election.
#[derive(Args, Clone, Debug)]
pub struct LeaderArgs {
    /// Identity of this process in the lease; must be unique among running replicas
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub leader_identity: Option<String>,

    /// Namespace of the lease; defaults to the namespace of the pod or of the kubeconfig's context
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    pub leader_namespace: Option<String>,

    /// Lease duration in seconds: a standby takes over after this time without a renewal
    #[arg(long, env = "MESHWRIGHT_LEASE_SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u16).range(3..))]
    pub lease_seconds: u16,
}

/// Configuration of a candidate.
#[derive(Clone, Debug)]
pub struct LeaderConfig {
    /// Identity of this process in the lease.
    pub identity: String,
    /// Namespace of the lease.
    pub namespace: String,
    /// Lease duration, renew deadline and retry period.
    pub timing: Timing,
}

impl LeaderConfig {
    /// Creates the configuration from flags. `namespace` is the default for the lease's namespace.
    #[must_use]
    pub fn new(args: &LeaderArgs, namespace: &str) -> Self {
        let identity = args.leader_identity.clone().unwrap_or_else(|| {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            format!("{}-{}", host.trim(), std::process::id())
        });
        Self {
            identity,
            namespace: args.leader_namespace.clone().unwrap_or_else(|| namespace.to_owned()),
            timing: Timing::of_lease(args.lease_seconds),
        }
    }
}

/// Timing of a lease. `retry_period < renew_deadline < lease_duration` is required, or two replicas could lead at the
/// same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Duration after the last renewal in which other candidates don't take over; whole seconds.
    pub lease_duration: Duration,
    /// Duration after the last renewal after which the leader stops leading.
    pub renew_deadline: Duration,
    /// Interval at which the leader renews the lease and candidates read it.
    pub retry_period: Duration,
}

impl Timing {
    /// Uses the proportions of client-go: a lease of 15 s has a deadline of 10 s and a renewal every 2 s.
    #[must_use]
    pub fn of_lease(seconds: u16) -> Self {
        let lease_duration = Duration::from_secs(u64::from(seconds));
        Self { lease_duration, renew_deadline: lease_duration * 2 / 3, retry_period: lease_duration * 2 / 15 }
    }
}

/// State of this process in the leader election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaderState {
    /// Another process is the leader, or there is no leader yet.
    Standby {
        /// Identity of the leader, if known.
        holder: Option<String>,
    },
    /// This process is the leader and the only one that may write.
    Leading,
    /// This process is no longer the leader and must not write.
    Stopped,
}

/// This process was the leader and lost the lease. It must exit, because another process may already continue its work.
#[derive(Debug, Error)]
#[error("{identity} lost the lease {namespace}/{LEASE_NAME}: {reason}")]
pub struct LeaseLostError {
    identity: String,
    namespace: String,
    reason: LossReason,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timing_is_ordered_for_all_durations() {
        let default = Timing::of_lease(15);
        assert_eq!((default.renew_deadline, default.retry_period), (Duration::from_secs(10), Duration::from_secs(2)));
        for seconds in [3, 4, 60, u16::MAX] {
            let Timing { lease_duration, renew_deadline, retry_period } = Timing::of_lease(seconds);
            assert!(retry_period < renew_deadline && renew_deadline < lease_duration);
        }
    }

    #[test]
    fn has_defaults_outside_a_pod() {
        let args = LeaderArgs { leader_identity: None, leader_namespace: None, lease_seconds: 15 };
        let config = LeaderConfig::new(&args, "meshwright-system");
        assert!(config.identity.ends_with(&std::process::id().to_string()));
        assert_eq!(config.namespace, "meshwright-system");
    }
}
