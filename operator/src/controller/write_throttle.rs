//! Limits writes to objects that another controller keeps reverting, so that two controllers do not write without end.
//! Writes of a changed desired state cost nothing, however frequent they are. Pure; the clock is an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::mesh::object::ObjectKey;

/// Consecutive reverts per object; below half of it the object counts as a drift loop.
const CAPACITY: f64 = 20.0;
/// The time in which an object regains one write.
const REFILL: Duration = Duration::from_secs(30);

/// The remaining writes of one object.
#[derive(Clone, Debug)]
struct WriteBudget {
    left: f64,
    at: Instant,
    /// Hash of the desired state that was written last.
    hash: String,
}

impl WriteBudget {
    fn available(&self, now: Instant) -> f64 {
        let regained = now.saturating_duration_since(self.at).as_secs_f64() / REFILL.as_secs_f64();
        (self.left + regained).min(CAPACITY)
    }
}

/// Write budgets of recently reverted objects.
#[derive(Debug, Default)]
pub struct WriteThrottle {
    objects: HashMap<ObjectKey, WriteBudget>,
}

impl WriteThrottle {
    /// Counts a write of an object whose desired state has that hash. The first write of a desired state is free.
    pub fn record(&mut self, key: &ObjectKey, hash: &str, now: Instant) {
        let is_full = |budget: &WriteBudget| budget.available(now) >= CAPACITY;
        self.objects.retain(|_, known| !is_full(known) || now.saturating_duration_since(known.at) < REFILL);
        let known = self.objects.get(key);
        let cost = if known.is_some_and(|known| known.hash == hash) { 1.0 } else { 0.0 };
        let left = (known.map_or(CAPACITY, |known| known.available(now)) - cost).max(0.0);
        self.objects.insert(key.clone(), WriteBudget { left, at: now, hash: hash.to_owned() });
    }

    /// Whether another client keeps changing the object.
    #[must_use]
    pub fn is_conflicting(&self, key: &ObjectKey, now: Instant) -> bool {
        self.objects.get(key).is_some_and(|budget| budget.available(now) < CAPACITY / 2.0)
    }

    /// How long the object's next write has to wait; `None` if it may be written now.
    #[must_use]
    pub fn retry_after(&self, key: &ObjectKey, now: Instant) -> Option<Duration> {
        let left = self.objects.get(key)?.available(now);
        (left < 1.0).then(|| REFILL.mul_f64(1.0 - left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::kind::Kind;

    fn key(name: &str) -> ObjectKey {
        ObjectKey { kind: Kind::ConfigMap, namespace: Some("istio-system".into()), name: name.into() }
    }

    /// Reverts an object as often as the throttle allows, every `interval`; returns the number of writes.
    fn revert(throttle: &mut WriteThrottle, start: Instant, interval: Duration, rounds: u32) -> usize {
        let mut writes = 0;
        for round in 0..rounds {
            let now = start + interval * round;
            if throttle.retry_after(&key("a"), now).is_none() {
                throttle.record(&key("a"), "1", now);
                writes += 1;
            }
        }
        writes
    }

    #[test]
    fn limits_drift_loop_to_two_writes_a_minute() {
        let (mut throttle, start) = (WriteThrottle::default(), Instant::now());
        let writes = revert(&mut throttle, start, Duration::from_millis(50), 20 * 60 * 10);
        assert!((38..=41).contains(&writes), "{writes} writes in ten minutes");
        assert!(throttle.is_conflicting(&key("a"), start + Duration::from_mins(10)));
    }

    #[test]
    fn changed_desired_state_is_no_drift_loop() {
        let (mut throttle, start) = (WriteThrottle::default(), Instant::now());
        for round in 0..1000 {
            throttle.record(&key("a"), if round % 2 == 0 { "1" } else { "2" }, start + Duration::from_secs(round));
        }
        assert!(!throttle.is_conflicting(&key("a"), start + Duration::from_secs(1000)));
    }

    #[test]
    fn rare_edits_are_always_reverted() {
        let (mut throttle, start) = (WriteThrottle::default(), Instant::now());
        assert_eq!(revert(&mut throttle, start, Duration::from_mins(1), 1000), 1000);
        assert!(!throttle.is_conflicting(&key("a"), start + Duration::from_mins(1000)));
    }

    #[test]
    fn budgets_are_per_object_and_refill() {
        let (mut throttle, start) = (WriteThrottle::default(), Instant::now());
        revert(&mut throttle, start, Duration::ZERO, 100);
        assert!(throttle.retry_after(&key("a"), start).is_some());
        assert_eq!(throttle.retry_after(&key("b"), start), None);
        let later = start + Duration::from_hours(1);
        assert!(!throttle.is_conflicting(&key("a"), later));
        throttle.record(&key("b"), "1", later);
        assert_eq!(throttle.objects.len(), 1);
    }
}
