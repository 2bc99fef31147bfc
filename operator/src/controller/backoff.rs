//! When to try again, by class of trouble. Pure.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use meshwright_api::conditions::Reason;

use crate::apply::ErrorClass;

/// An installation is looked at again after this long, even if nothing happened.
pub const RESYNC: Duration = Duration::from_mins(5);
/// What depends on the objects of others is looked at again after this long: no watch tells of them.
pub const OTHERS_MOVE: Duration = Duration::from_secs(15);

/// The pause before another try at `installation`, after so many failures in a row: it doubles up to a limit, and up to
/// half of it is taken off by the installation's name and the count, so that what failed together doesn't come back
/// together.
#[must_use]
pub fn pause(class: ErrorClass, failures: u32, installation: &str) -> Duration {
    let (first, longest) = match class {
        // The winner of a race is done by now.
        ErrorClass::Conflict => (Duration::from_millis(100), Duration::from_secs(30)),
        ErrorClass::Transient => (Duration::from_millis(500), Duration::from_mins(1)),
        // A person has to act; when they have, it should not take long to show.
        ErrorClass::Forbidden | ErrorClass::Invalid => (Duration::from_secs(1), Duration::from_secs(15)),
    };
    let whole = first.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1).min(16))).min(longest);
    let half = whole / 2;
    half + half.mul_f64(fraction(installation, failures))
}

/// Spread over 0 to 1, and always the same for the same arguments.
fn fraction(installation: &str, failures: u32) -> f64 {
    let mut hasher = DefaultHasher::new();
    (installation, failures).hash(&mut hasher);
    let [a, b, c, d, ..] = hasher.finish().to_le_bytes();
    f64::from(u32::from_le_bytes([a, b, c, d])) / f64::from(u32::MAX)
}

/// When to look again at a spec that can't be followed.
#[must_use]
pub const fn patience(reason: Reason) -> Duration {
    match reason {
        // Others may give their node ports back, and a right, or what others apply, shows soon after it was given. A
        // registry's answer is told; this is for asking again.
        Reason::NodePortTaken
        | Reason::NodePortOutOfRange
        | Reason::NodePortsExhausted
        | Reason::Forbidden
        | Reason::ClusterObjectsMissing
        | Reason::PullingRelease
        | Reason::RegistryFailed => OTHERS_MOVE,
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
    fn the_first_pause_is_short_and_the_last_is_limited() {
        for class in CLASSES {
            assert!(pause(class, 1, "mesh") <= Duration::from_secs(1), "{class:?}");
            assert!(pause(class, u32::MAX, "mesh") >= Duration::from_millis(7500), "{class:?}");
        }
    }

    #[test]
    fn installations_that_failed_together_are_spread() {
        let mut pauses: Vec<_> =
            (0..64).map(|n| pause(ErrorClass::Transient, 8, &format!("mesh-{n}")).as_millis() / 1000).collect();
        pauses.sort_unstable();
        pauses.dedup();
        assert!(pauses.len() > 15, "only {} of 30 seconds are used: {pauses:?}", pauses.len());
    }

    proptest! {
        #[test]
        fn a_pause_lies_between_half_and_the_whole_of_a_doubling_one(failures in 1u32..100, name in "[a-z]{1,20}") {
            for (class, first, longest) in [
                (ErrorClass::Conflict, 100, 30_000),
                (ErrorClass::Transient, 500, 60_000),
                (ErrorClass::Forbidden, 1_000, 15_000),
                (ErrorClass::Invalid, 1_000, 15_000),
            ] {
                let whole = Duration::from_millis((first << (failures - 1).min(16)).min(longest));
                let pause = pause(class, failures, &name);
                prop_assert!(whole / 2 <= pause && pause <= whole, "{class:?}: {pause:?} of {whole:?}");
            }
        }
    }
}
