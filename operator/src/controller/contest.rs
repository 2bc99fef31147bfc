//! Fights over an object: whoever changes it back as soon as it is put right must not make the operator write for ever.
//! Pure; the clock is an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::mesh::object::ObjectKey;

/// So many writes in a row are healing; what is left below half of it is a fight.
const CAPACITY: f64 = 20.0;
/// In a fight one write is left in this time.
const REFILL: Duration = Duration::from_secs(30);

/// What an object's writes have left of its allowance.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    fn now(self, now: Instant) -> f64 {
        let regained = now.saturating_duration_since(self.at).as_secs_f64() / REFILL.as_secs_f64();
        (self.left + regained).min(CAPACITY)
    }
}

/// Allowances of the objects that were put right lately.
#[derive(Debug, Default)]
pub struct Contest {
    objects: HashMap<ObjectKey, Allowance>,
}

impl Contest {
    /// Notes that an object was put right.
    pub fn note(&mut self, key: &ObjectKey, now: Instant) {
        self.objects.retain(|_, allowance| allowance.now(now) < CAPACITY);
        let allowance = self.objects.entry(key.clone()).or_insert(Allowance { left: CAPACITY, at: now });
        *allowance = Allowance { left: (allowance.now(now) - 1.0).max(0.0), at: now };
    }

    /// Whether others keep changing the object.
    #[must_use]
    pub fn is_contested(&self, key: &ObjectKey, now: Instant) -> bool {
        self.objects.get(key).is_some_and(|allowance| allowance.now(now) < CAPACITY / 2.0)
    }

    /// How long the object has to wait for its next write; `None` when it may be written.
    #[must_use]
    pub fn wait(&self, key: &ObjectKey, now: Instant) -> Option<Duration> {
        let left = self.objects.get(key)?.now(now);
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

    /// Puts an object right as often as it may be, every `pause`; how often that was.
    fn fight(contest: &mut Contest, start: Instant, pause: Duration, rounds: u32) -> usize {
        let mut writes = 0;
        for round in 0..rounds {
            let now = start + pause * round;
            if contest.wait(&key("a"), now).is_none() {
                contest.note(&key("a"), now);
                writes += 1;
            }
        }
        writes
    }

    #[test]
    fn a_fight_costs_two_writes_a_minute_after_a_first_burst() {
        let (mut contest, start) = (Contest::default(), Instant::now());
        let writes = fight(&mut contest, start, Duration::from_millis(50), 20 * 60 * 10);
        assert!((38..=41).contains(&writes), "{writes} writes in ten minutes");
        assert!(contest.is_contested(&key("a"), start + Duration::from_mins(10)));
    }

    #[test]
    fn rare_edits_are_healed_every_time_and_are_no_fight() {
        let (mut contest, start) = (Contest::default(), Instant::now());
        assert_eq!(fight(&mut contest, start, Duration::from_mins(1), 1000), 1000);
        assert!(!contest.is_contested(&key("a"), start + Duration::from_mins(1000)));
    }

    #[test]
    fn a_fight_over_one_object_leaves_others_alone_and_is_forgotten() {
        let (mut contest, start) = (Contest::default(), Instant::now());
        fight(&mut contest, start, Duration::ZERO, 100);
        assert!(contest.wait(&key("a"), start).is_some());
        assert_eq!(contest.wait(&key("b"), start), None);
        let later = start + Duration::from_hours(1);
        assert!(!contest.is_contested(&key("a"), later));
        contest.note(&key("b"), later);
        assert_eq!(contest.objects.len(), 1);
    }
}
