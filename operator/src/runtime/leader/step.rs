//! The decision: what to do about a lease, given what is known of it. Pure; the time is an argument.

use std::fmt;
use std::time::{Duration, Instant};

use super::Timing;

/// What a Lease says. Times are kept as text: they only tell one renewal from another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) holder: Option<String>,
    pub(super) duration: Option<Duration>,
    pub(super) renewed: Option<String>,
    pub(super) transitions: i32,
}

/// What was found when the lease was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Observed {
    Absent,
    Present {
        record: Record,
        version: String,
    },
    /// The API server did not answer; nothing new is known.
    Unknown,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Create the lease in our name.
    Create,
    /// Write our name and the time into the lease, if it still has this version.
    Hold { version: String, transitions: i32 },
    /// Nothing until then, unless the lease changes.
    Wait { until: Instant },
    /// We led and don't any more.
    Stop(LossReason),
}

/// Why a leader stopped leading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LossReason {
    /// The lease names another holder.
    TakenBy(String),
    /// The lease could not be renewed in time.
    NotRenewedFor(Duration),
}

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TakenBy(holder) => write!(f, "{holder} holds it now"),
            Self::NotRenewedFor(time) => write!(f, "it could not be renewed for {} s", time.as_secs()),
        }
    }
}

/// What one candidate remembers.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    identity: String,
    timing: Timing,
    /// The last record that somebody else wrote, and since when we have seen it unchanged.
    seen: Option<(Record, Instant)>,
    /// While we lead: when the last successful renewal was *begun*. Others count from later.
    renewed: Option<Instant>,
}

impl Candidate {
    pub(super) fn new(identity: String, timing: Timing) -> Self {
        Self { identity, timing, seen: None, renewed: None }
    }

    pub(super) fn is_leading(&self) -> bool {
        self.renewed.is_some()
    }

    /// Who led when the lease was last seen.
    pub(super) fn holder(&self) -> Option<&str> {
        self.seen.as_ref().and_then(|(record, _)| record.holder.as_deref())
    }

    /// Until when the lease is ours without another renewal; `None` if it isn't.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.renewed.map(|renewed| renewed + self.timing.renew_deadline)
    }

    /// A write in our name, begun at `begun`, was accepted.
    pub(super) fn held(&mut self, begun: Instant) {
        self.renewed = Some(begun);
        self.seen = None;
    }

    /// The decision at `now`, with `observed` just learnt.
    pub(super) fn step(&mut self, observed: &Observed, now: Instant) -> Decision {
        self.remember(observed, now);
        match self.renewed {
            Some(renewed) => self.step_as_leader(observed, renewed, now),
            None => self.step_as_standby(observed, now),
        }
    }

    fn remember(&mut self, observed: &Observed, now: Instant) {
        match observed {
            Observed::Unknown => {}
            Observed::Absent => self.seen = None,
            Observed::Present { record, .. } => {
                if self.seen.as_ref().is_none_or(|(seen, _)| seen != record) {
                    self.seen = Some((record.clone(), now));
                }
            }
        }
    }

    fn step_as_leader(&self, observed: &Observed, renewed: Instant, now: Instant) -> Decision {
        let since = now.saturating_duration_since(renewed);
        if since >= self.timing.renew_deadline {
            return Decision::Stop(LossReason::NotRenewedFor(since));
        }
        if let Observed::Present { record, .. } = observed
            && let Some(other) = self.other_holder(record)
        {
            return Decision::Stop(LossReason::TakenBy(other.to_owned()));
        }
        let due = renewed + self.timing.retry_period;
        if now < due {
            return Decision::Wait { until: due };
        }
        match observed {
            Observed::Absent => Decision::Create,
            Observed::Present { record, version } => self.hold(record, version),
            Observed::Unknown => Decision::Wait { until: self.retry(now).min(renewed + self.timing.renew_deadline) },
        }
    }

    fn step_as_standby(&self, observed: &Observed, now: Instant) -> Decision {
        match observed {
            Observed::Absent => Decision::Create,
            Observed::Unknown => Decision::Wait { until: self.retry(now) },
            Observed::Present { record, version } => match self.expiry(record) {
                Some(expiry) if now < expiry => Decision::Wait { until: expiry.min(self.retry(now)) },
                _ => self.hold(record, version),
            },
        }
    }

    /// When a record that another holds may be taken over; `None` if it is free, or ours from before a restart.
    fn expiry(&self, record: &Record) -> Option<Instant> {
        self.other_holder(record)?;
        let (_, since) = self.seen.as_ref()?;
        Some(*since + record.duration.unwrap_or(self.timing.lease_duration))
    }

    fn other_holder<'r>(&self, record: &'r Record) -> Option<&'r str> {
        record.holder.as_deref().filter(|holder| !holder.is_empty() && *holder != self.identity)
    }

    fn hold(&self, record: &Record, version: &str) -> Decision {
        let ours = record.holder.as_deref() == Some(self.identity.as_str());
        let transitions = record.transitions.saturating_add(i32::from(!ours));
        Decision::Hold { version: version.to_owned(), transitions }
    }

    fn retry(&self, now: Instant) -> Instant {
        now + self.timing.retry_period
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        start: Instant,
        candidate: Candidate,
    }

    impl Case {
        fn standby() -> Self {
            Self { start: Instant::now(), candidate: Candidate::new("us".to_owned(), Timing::of_lease(15)) }
        }

        fn leading() -> Self {
            let mut case = Self::standby();
            let start = case.start;
            case.candidate.held(start);
            case
        }

        fn at(&self, seconds: f64) -> Instant {
            self.start + Duration::from_secs_f64(seconds)
        }

        fn step(&mut self, seconds: f64, observed: &Observed) -> Decision {
            let now = self.at(seconds);
            self.candidate.step(observed, now)
        }

        fn wait(&self, seconds: f64) -> Decision {
            Decision::Wait { until: self.at(seconds) }
        }
    }

    fn lease(holder: &str, renewed: &str) -> Observed {
        let record = Record {
            holder: Some(holder.to_owned()).filter(|holder| !holder.is_empty()),
            duration: Some(Duration::from_secs(15)),
            renewed: Some(renewed.to_owned()),
            transitions: 4,
        };
        Observed::Present { record, version: format!("v-{renewed}") }
    }

    fn hold(renewed: &str, transitions: i32) -> Decision {
        Decision::Hold { version: format!("v-{renewed}"), transitions }
    }

    #[test]
    fn an_absent_lease_is_created() {
        assert_eq!(Case::standby().step(0.0, &Observed::Absent), Decision::Create);
    }

    #[test]
    fn a_released_lease_is_taken_at_once() {
        let mut case = Case::standby();
        assert_eq!(case.step(0.0, &lease("them", "a")), case.wait(2.0));
        assert_eq!(case.step(0.1, &lease("", "a")), hold("a", 5));
        let blank = Observed::Present {
            record: Record { holder: Some(String::new()), ..Record::default() },
            version: "v-a".to_owned(),
        };
        assert_eq!(Case::standby().step(0.0, &blank), hold("a", 1));
    }

    #[test]
    fn a_lease_that_is_renewed_is_left_alone_for_ever() {
        let mut case = Case::standby();
        for round in 0..100_u32 {
            let now = f64::from(round) * 14.0;
            let decision = case.step(now, &lease("them", &round.to_string()));
            assert_eq!(decision, case.wait(now + 2.0));
        }
    }

    #[test]
    fn a_lease_that_stands_still_is_taken_after_its_duration_and_not_before() {
        let mut case = Case::standby();
        assert_eq!(case.step(0.0, &lease("them", "a")), case.wait(2.0));
        assert_eq!(case.step(14.5, &lease("them", "a")), case.wait(15.0));
        assert_eq!(case.step(15.0, &lease("them", "a")), hold("a", 5));
    }

    #[test]
    fn a_renewal_starts_the_wait_again() {
        let mut case = Case::standby();
        case.step(0.0, &lease("them", "a"));
        case.step(14.0, &lease("them", "b"));
        assert_eq!(case.step(28.0, &lease("them", "b")), case.wait(29.0));
        assert_eq!(case.step(29.0, &lease("them", "b")), hold("b", 5));
    }

    #[test]
    fn a_holder_whose_clock_is_wrong_neither_loses_nor_keeps_the_lease_by_it() {
        for renewed in ["1971-01-01T00:00:00.000000Z", "2199-01-01T00:00:00.000000Z"] {
            let mut case = Case::standby();
            assert_eq!(case.step(0.0, &lease("them", renewed)), case.wait(2.0));
            assert_eq!(case.step(15.0, &lease("them", renewed)), hold(renewed, 5));
        }
    }

    #[test]
    fn the_duration_that_the_holder_promised_counts() {
        let mut case = Case::standby();
        let Observed::Present { mut record, version } = lease("them", "a") else { unreachable!() };
        record.duration = Some(Duration::from_mins(1));
        let long = Observed::Present { record, version };
        case.step(0.0, &long);
        assert_eq!(case.step(59.0, &long), case.wait(60.0));
        assert_eq!(case.step(60.0, &long), hold("a", 5));
    }

    #[test]
    fn an_unreachable_server_is_asked_again_and_time_goes_on_meanwhile() {
        let mut case = Case::standby();
        assert_eq!(case.step(0.0, &Observed::Unknown), case.wait(2.0));
        case.step(1.0, &lease("them", "a"));
        assert_eq!(case.step(15.5, &Observed::Unknown), case.wait(17.5));
        assert_eq!(case.step(16.0, &lease("them", "a")), hold("a", 5));
    }

    #[test]
    fn our_own_lease_from_before_a_restart_is_taken_up_at_once() {
        assert_eq!(Case::standby().step(0.0, &lease("us", "a")), hold("a", 4));
    }

    #[test]
    fn a_leader_renews_when_it_is_due() {
        let mut case = Case::leading();
        assert_eq!(case.step(1.0, &lease("us", "a")), case.wait(2.0));
        assert_eq!(case.step(2.0, &lease("us", "a")), hold("a", 4));
        let now = case.at(2.0);
        case.candidate.held(now);
        assert_eq!(case.step(3.0, &lease("us", "b")), case.wait(4.0));
    }

    #[test]
    fn a_leader_that_cannot_renew_tries_until_the_deadline_and_then_stops() {
        let mut case = Case::leading();
        assert_eq!(case.step(2.0, &Observed::Unknown), case.wait(4.0));
        assert_eq!(case.step(9.0, &Observed::Unknown), case.wait(10.0));
        let stop = Decision::Stop(LossReason::NotRenewedFor(Duration::from_secs(10)));
        assert_eq!(case.step(10.0, &Observed::Unknown), stop);
    }

    #[test]
    fn a_leader_past_its_deadline_stops_even_if_the_lease_still_names_it() {
        let stop = Decision::Stop(LossReason::NotRenewedFor(Duration::from_secs(11)));
        assert_eq!(Case::leading().step(11.0, &lease("us", "a")), stop);
    }

    #[test]
    fn a_stolen_lease_stops_the_leader_at_once() {
        let stop = Decision::Stop(LossReason::TakenBy("them".to_owned()));
        assert_eq!(Case::leading().step(0.5, &lease("them", "b")), stop);
    }

    #[test]
    fn a_leader_writes_a_deleted_or_cleared_lease_again() {
        assert_eq!(Case::leading().step(2.0, &Observed::Absent), Decision::Create);
        assert_eq!(Case::leading().step(2.0, &lease("", "b")), hold("b", 5));
    }

    #[test]
    fn the_deadline_is_counted_from_the_last_renewal() {
        let mut case = Case::leading();
        assert_eq!(case.candidate.deadline(), Some(case.at(10.0)));
        let renewed = case.at(2.0);
        case.candidate.held(renewed);
        assert_eq!(case.candidate.deadline(), Some(case.at(12.0)));
        assert!(case.candidate.is_leading());
        assert_eq!(Case::standby().candidate.deadline(), None);
    }
}
