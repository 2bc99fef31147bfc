//! Leader election by a Lease: of several replicas, one writes.
//!
//! `step` decides and is pure; `store` is the only one that talks to the API server; `driver` brings them together.
//! The rules are those of client-go: whether a lease has expired is judged by how long *this* process has seen the
//! same record, on its own monotonic clock, so clocks that disagree between nodes do no harm. Every write carries the
//! resourceVersion that the decision was made on, so of two candidates one loses.

mod driver;
mod step;
mod store;

use std::time::Duration;

use clap::Args;
use thiserror::Error;

pub use driver::Leader;
pub use step::LossReason;

/// Name of the Lease.
pub const LEASE_NAME: &str = "meshwright-leader";

/// Flags of the leader election.
#[derive(Args, Clone, Debug)]
pub struct LeaderArgs {
    /// Name by which this process holds the lease; unique among processes that run at the same time
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub leader_identity: Option<String>,

    /// Namespace of the lease; that of the pod or of the kubeconfig's context unless given
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    pub leader_namespace: Option<String>,

    /// Seconds without a renewal after which a standby takes over
    #[arg(long, env = "MESHWRIGHT_LEASE_SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u16).range(3..))]
    pub lease_seconds: u16,
}

/// What one candidate needs to know.
#[derive(Clone, Debug)]
pub struct LeaderConfig {
    /// Who we are in the lease.
    pub identity: String,
    /// The lease's namespace.
    pub namespace: String,
    /// When to renew, to give up and to take over.
    pub timing: Timing,
}

impl LeaderConfig {
    /// The configuration that the flags ask for; `namespace` is used where they name none.
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

/// The three times of a lease. `retry_period < renew_deadline < lease_duration`, or two could lead at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// For how long others leave a lease alone that isn't renewed; whole seconds.
    pub lease_duration: Duration,
    /// After how long without a renewal the leader stops leading.
    pub renew_deadline: Duration,
    /// How often the leader renews, and a candidate looks.
    pub retry_period: Duration,
}

impl Timing {
    /// The usual proportions: 15 s of lease give a deadline of 10 s and a renewal every 2 s.
    #[must_use]
    pub fn of_lease(seconds: u16) -> Self {
        let lease_duration = Duration::from_secs(u64::from(seconds));
        Self { lease_duration, renew_deadline: lease_duration * 2 / 3, retry_period: lease_duration * 2 / 15 }
    }
}

/// Where this process stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaderState {
    /// Somebody else leads, or nobody yet.
    Standby {
        /// Who, if anybody is known to.
        holder: Option<String>,
    },
    /// This process leads: it alone may write.
    Leading,
    /// This process led and must not write any more.
    Stopped,
}

/// This process led, and lost the lease. It must end, since what it has begun may be another's work by now.
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
    fn times_keep_their_order_at_any_length() {
        let usual = Timing::of_lease(15);
        assert_eq!((usual.renew_deadline, usual.retry_period), (Duration::from_secs(10), Duration::from_secs(2)));
        for seconds in [3, 4, 60, u16::MAX] {
            let Timing { lease_duration, renew_deadline, retry_period } = Timing::of_lease(seconds);
            assert!(retry_period < renew_deadline && renew_deadline < lease_duration);
        }
    }

    #[test]
    fn a_process_outside_a_pod_still_has_a_name_and_a_namespace() {
        let args = LeaderArgs { leader_identity: None, leader_namespace: None, lease_seconds: 15 };
        let config = LeaderConfig::new(&args, "meshwright-system");
        assert!(config.identity.ends_with(&std::process::id().to_string()));
        assert_eq!(config.namespace, "meshwright-system");
    }
}
