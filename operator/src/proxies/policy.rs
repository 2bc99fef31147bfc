//! `spec.proxy.update`, found good.

use std::num::NonZeroUsize;

use meshwright_api::{ProxyUpdate, ProxyUpdateMode};

use super::window::{Opening, Window, opening};
use crate::mesh::problem::Problem;

/// When and how fast workloads are restarted.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Whether they are at all.
    pub restart: bool,
    windows: Vec<Window>,
    /// How many in a minute.
    pub per_minute: usize,
    /// How many may fail; with that many, nothing more is restarted.
    pub max_failures: NonZeroUsize,
}

const FIELD: &str = "spec.proxy.update";

impl Policy {
    /// Reads the spec, or tells all that is wrong with it.
    pub fn read(update: &ProxyUpdate) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut windows = Vec::new();
        for (index, window) in update.windows.iter().enumerate() {
            match Window::read(window, &format!("{FIELD}.windows[{index}]")) {
                Ok(window) => windows.push(window),
                Err(said) => problems.extend(said),
            }
        }
        let per_minute = positive(update.restarts_per_minute, "restartsPerMinute", &mut problems);
        let max_failures = positive(update.max_failures, "maxFailures", &mut problems);
        match (per_minute, max_failures) {
            (Some(per_minute), Some(max_failures)) if problems.is_empty() => Ok(Self {
                restart: update.mode == ProxyUpdateMode::Restart,
                windows,
                per_minute: per_minute.get(),
                max_failures,
            }),
            _ => Err(problems),
        }
    }

    /// Whether restarts may begin now.
    #[must_use]
    pub fn opening(&self, now: jiff::Timestamp) -> Opening {
        opening(&self.windows, now)
    }
}

fn positive(number: i32, field: &str, problems: &mut Vec<Problem>) -> Option<NonZeroUsize> {
    let positive = usize::try_from(number).ok().and_then(NonZeroUsize::new);
    if positive.is_none() {
        problems.push(Problem::new(format!("{FIELD}.{field}"), format!("{number} is too small; write 1 or more")));
    }
    positive
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::mesh::problem::sentence;

    fn read(update: Value) -> Result<Policy, String> {
        let update: ProxyUpdate = serde_json::from_value(update).unwrap();
        Policy::read(&update).map_err(|problems| sentence(&problems))
    }

    #[test]
    fn nothing_is_restarted_unless_that_is_asked_for() {
        let usual = read(json!({})).unwrap();
        assert_eq!((usual.restart, usual.per_minute, usual.max_failures.get()), (false, 6, 3));
        assert_eq!(ProxyUpdate::default(), serde_json::from_value(json!({})).unwrap());
        assert!(read(json!({"mode": "Restart"})).unwrap().restart);
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let window = json!({"start": "22:00", "end": "23:00", "timeZone": "Mars/Olympus"});
        let good = json!({"start": "22:00", "end": "23:00"});
        let error = read(json!({"windows": [good, window], "restartsPerMinute": 0, "maxFailures": -1})).unwrap_err();
        for part in ["windows[1].timeZone", "restartsPerMinute: 0", "maxFailures: -1"] {
            assert!(error.contains(&format!("{FIELD}.{part}")), "{part} in {error}");
        }
    }
}
