//! Requeue intervals, by error class and by reason. Pure.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use meshwright_api::conditions::Reason;

use crate::apply::ErrorClass;

/// Every MeshInstallation is reconciled at least this often.
pub const RESYNC: Duration = Duration::from_mins(5);
/// Interval for problems that depend on unmanaged resources, which are not watched.
pub const EXTERNAL_RECHECK: Duration = Duration::from_secs(15);

/// The delay before `installation` is reconciled again after consecutive failures: exponential with a limit. Up to half
/// of it is subtracted, derived from name and count, so that installations that failed together do not retry together.
#[must_use]
pub fn backoff(class: ErrorClass, failures: u32, installation: &str) -> Duration {
    let (first, longest) = match class {
        // The competing write is finished by then.
        ErrorClass::Conflict => (Duration::from_millis(100), Duration::from_secs(30)),
        ErrorClass::Transient => (Duration::from_millis(500), Duration::from_mins(1)),
        // A user has to act; their fix should take effect quickly.
        ErrorClass::Forbidden | ErrorClass::Invalid => (Duration::from_secs(1), Duration::from_secs(15)),
    };
    let whole = first.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1).min(16))).min(longest);
    let half = whole / 2;
    half + half.mul_f64(fraction(installation, failures))
}

/// A number from 0 to 1, uniformly distributed and the same for the same arguments.
fn fraction(installation: &str, failures: u32) -> f64 {
    let mut hasher = DefaultHasher::new();
    (installation, failures).hash(&mut hasher);
    let [a, b, c, d, ..] = hasher.finish().to_le_bytes();
    f64::from(u32::from_le_bytes([a, b, c, d])) / f64::from(u32::MAX)
}

/// When to reconcile a stalled MeshInstallation again.
#[must_use]
pub const fn requeue_after(reason: Reason) -> Duration {
    match reason {
        // No watch reports freed node ports, granted permissions, changed admission policies or externally applied
        // objects. The registry poller triggers a reconcile for its results; this interval makes it poll again.
        Reason::NodePortInUse
        | Reason::NodePortOutOfRange
        | Reason::NodePortsExhausted
        | Reason::Forbidden
        | Reason::ObjectRejected
        | Reason::ClusterScopedResourcesMissing
        | Reason::PullingRelease
        | Reason::RegistryError => EXTERNAL_RECHECK,
        _ => RESYNC,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLASSES: [ErrorClass; 4] =
        [ErrorClass::Conflict, ErrorClass::Transient, ErrorClass::Forbidden, ErrorClass::Invalid];

    #[test]
    fn first_delay_is_short_and_last_is_limited() {
        for class in CLASSES {
            assert!(backoff(class, 1, "mesh") <= Duration::from_secs(1), "{class:?}");
            assert!(backoff(class, u32::MAX, "mesh") >= Duration::from_millis(7500), "{class:?}");
        }
    }

    #[test]
    fn installations_that_failed_together_are_spread() {
        let mut delays: Vec<_> =
            (0..64).map(|n| backoff(ErrorClass::Transient, 8, &format!("mesh-{n}")).as_millis() / 1000).collect();
        delays.sort_unstable();
        delays.dedup();
        assert!(delays.len() > 15, "only {} of 30 seconds are used: {delays:?}", delays.len());
    }

    proptest! {
        #[test]
        fn delay_is_exponential_with_jitter(failures in 1u32..100, name in "[a-z]{1,20}") {
            for (class, first, longest) in [
                (ErrorClass::Conflict, 100, 30_000),
                (ErrorClass::Transient, 500, 60_000),
                (ErrorClass::Forbidden, 1_000, 15_000),
                (ErrorClass::Invalid, 1_000, 15_000),
            ] {
                let whole = Duration::from_millis((first << (failures - 1).min(16)).min(longest));
                let delay = backoff(class, failures, &name);
                prop_assert!(whole / 2 <= delay && delay <= whole, "{class:?}: {delay:?} of {whole:?}");
            }
        }
    }
}
