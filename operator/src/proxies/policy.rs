//! The validated `spec.proxy.update`.

use std::num::NonZeroUsize;

use meshwright_api::{ProxyUpdate, ProxyUpdateMode};

use super::window::{TimeWindow, WindowState, window_state};
use crate::mesh::problem::Problem;

/// Policy for restarts of workloads with outdated proxies.
#[derive(Clone, Debug, PartialEq)]
pub struct RestartPolicy {
    /// Whether restarts are enabled.
    pub restart: bool,
    windows: Vec<TimeWindow>,
    /// Maximum number of restarts per minute.
    pub per_minute: usize,
    /// Number of failed restarts at which no other workload is restarted.
    pub max_failures: NonZeroUsize,
}

const FIELD: &str = "spec.proxy.update";

impl RestartPolicy {
    /// Validates the spec and returns the policy or all problems.
    pub fn parse(update: &ProxyUpdate) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut windows = Vec::new();
        for (index, window) in update.windows.iter().enumerate() {
            match TimeWindow::parse(window, &format!("{FIELD}.windows[{index}]")) {
                Ok(window) => windows.push(window),
                Err(found) => problems.extend(found),
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

    /// Returns whether restarts may start now.
    #[must_use]
    pub fn window_state(&self, now: jiff::Timestamp) -> WindowState {
        window_state(&self.windows, now)
    }
}

fn positive(number: i32, field: &str, problems: &mut Vec<Problem>) -> Option<NonZeroUsize> {
    let positive = usize::try_from(number).ok().and_then(NonZeroUsize::new);
    if positive.is_none() {
        problems.push(Problem::new(format!("{FIELD}.{field}"), format!("{number} is too small; use 1 or more")));
    }
    positive
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::mesh::problem::sentence;

    fn parse(update: Value) -> Result<RestartPolicy, String> {
        let update: ProxyUpdate = serde_json::from_value(update).unwrap();
        RestartPolicy::parse(&update).map_err(|problems| sentence(&problems))
    }

    #[test]
    fn restarts_are_disabled_by_default() {
        let default = parse(json!({})).unwrap();
        assert_eq!((default.restart, default.per_minute, default.max_failures.get()), (false, 6, 3));
        assert_eq!(ProxyUpdate::default(), serde_json::from_value(json!({})).unwrap());
        assert!(parse(json!({"mode": "Restart"})).unwrap().restart);
    }

    #[test]
    fn reports_all_problems() {
        let window = json!({"start": "22:00", "end": "23:00", "timeZone": "Mars/Olympus"});
        let valid = json!({"start": "22:00", "end": "23:00"});
        let error = parse(json!({"windows": [valid, window], "restartsPerMinute": 0, "maxFailures": -1})).unwrap_err();
        for part in ["windows[1].timeZone", "restartsPerMinute: 0", "maxFailures: -1"] {
            assert!(error.contains(&format!("{FIELD}.{part}")), "{part} in {error}");
        }
    }
}
