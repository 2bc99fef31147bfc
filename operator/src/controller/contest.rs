//! Fights over an object: whoever changes it back as soon as it is put right must not make the operator write for ever.
//! What is written because something else is desired is no part of a fight, however often that is. Pure; the clock is an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::mesh::object::ObjectKey;

/// So many writes in a row are healing; what is left below half of it is a fight.
const CAPACITY: f64 = 20.0;
/// In a fight one write is left in this time.
const REFILL: Duration = Duration::from_secs(30);

/// What an object's writes have left of its allowance.
#[derive(Clone, Debug)]
struct Allowance {
    left: f64,
    at: Instant,
    /// Hash of what was written last.
    hash: String,
}

impl Allowance {
    fn now(&self, now: Instant) -> f64 {
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
    /// Notes that an object was written, as desired with that hash. Whatever is desired for the first time was not put
    /// right.
    pub fn note(&mut self, key: &ObjectKey, hash: &str, now: Instant) {
        let full = |allowance: &Allowance| allowance.now(now) >= CAPACITY;
        self.objects.retain(|_, known| !full(known) || now.saturating_duration_since(known.at) < REFILL);
        let known = self.objects.get(key);
        let cost = if known.is_some_and(|known| known.hash == hash) { 1.0 } else { 0.0 };
        let left = (known.map_or(CAPACITY, |known| known.now(now)) - cost).max(0.0);
        self.objects.insert(key.clone(), Allowance { left, at: now, hash: hash.to_owned() });
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
                contest.note(&key("a"), "1", now);
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
    fn a_mesh_that_is_changed_over_and_over_fights_with_nobody() {
        let (mut contest, start) = (Contest::default(), Instant::now());
        for round in 0..1000 {
            contest.note(&key("a"), if round % 2 == 0 { "1" } else { "2" }, start + Duration::from_secs(round));
        }
        assert!(!contest.is_contested(&key("a"), start + Duration::from_secs(1000)));
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
        contest.note(&key("b"), "1", later);
        assert_eq!(contest.objects.len(), 1);
    }
}
