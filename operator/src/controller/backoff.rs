//! When to try again, by class of trouble. Pure.

use std::time::Duration;

use crate::apply::ErrorClass;

/// The pause before another try, after so many failures in a row.
#[must_use]
pub fn pause(class: ErrorClass, failures: u32) -> Duration {
    let (first, longest) = match class {
        // The winner of a race is done by now.
        ErrorClass::Conflict => (Duration::from_millis(100), Duration::from_secs(30)),
        ErrorClass::Transient => (Duration::from_millis(500), Duration::from_mins(1)),
        // A person has to act; when they have, it should not take long to show.
        ErrorClass::Forbidden | ErrorClass::Invalid => (Duration::from_secs(1), Duration::from_secs(15)),
    };
    first.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1).min(16))).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit() {
        for class in [ErrorClass::Conflict, ErrorClass::Transient, ErrorClass::Forbidden, ErrorClass::Invalid] {
            let pauses: Vec<_> = (1..40).map(|n| pause(class, n)).collect();
            assert!(pauses.is_sorted(), "{class:?}");
            assert!(pauses[0] <= Duration::from_secs(1));
            assert!(pauses.iter().all(|p| *p <= Duration::from_mins(1)));
        }
    }
}
