//! Decision logic of the leader election. Pure; the time is an argument.

use std::fmt;
use std::time::{Duration, Instant};

use super::Timing;

/// Content of a Lease. The renewal time is kept as text, because it is only compared for equality.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LeaseRecord {
    pub(super) holder: Option<String>,
    pub(super) duration: Option<Duration>,
    pub(super) renewed: Option<String>,
    pub(super) transitions: i32,
}

/// Result of reading the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ObservedLease {
    Absent,
    Present {
        record: LeaseRecord,
        version: String,
    },
    /// The API server did not respond.
    Unknown,
}

/// Next action of a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LeaseDecision {
    /// Create the lease with this candidate as holder.
    Create,
    /// Update holder and renewal time, if the lease still has this resourceVersion.
    Update { version: String, transitions: i32 },
    /// Wait until the given time or a change of the lease.
    Wait { until: Instant },
    /// Stop, because this candidate is no longer the leader.
    Stop(LossReason),
}

/// Why the leader lost the lease.
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
            Self::TakenBy(holder) => write!(f, "{holder} is the holder now"),
            Self::NotRenewedFor(time) => write!(f, "it could not be renewed for {} s", time.as_secs()),
        }
    }
}

/// State of a candidate.
#[derive(Clone, Debug)]
pub(super) struct LeaseCandidate {
    identity: String,
    timing: Timing,
    /// Last record written by another process, and the time since which it is unchanged.
    last_seen: Option<(LeaseRecord, Instant)>,
    /// Start time of the last successful renewal while leading. Other candidates measure from a later time.
    renewed: Option<Instant>,
}

impl LeaseCandidate {
    pub(super) fn new(identity: String, timing: Timing) -> Self {
        Self { identity, timing, last_seen: None, renewed: None }
    }

    pub(super) fn is_leading(&self) -> bool {
        self.renewed.is_some()
    }

    /// Holder of the last observed record.
    pub(super) fn holder(&self) -> Option<&str> {
        self.last_seen.as_ref().and_then(|(record, _)| record.holder.as_deref())
    }

    /// Time at which this candidate stops leading without another renewal; `None` if it does not lead.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.renewed.map(|renewed| renewed + self.timing.renew_deadline)
    }

    /// Records a successful write that started at `started`.
    pub(super) fn renewed_at(&mut self, started: Instant) {
        self.renewed = Some(started);
        self.last_seen = None;
    }

    /// Returns the next action after `observed` was read at `now`.
    pub(super) fn step(&mut self, observed: &ObservedLease, now: Instant) -> LeaseDecision {
        self.update_last_seen(observed, now);
        match self.renewed {
            Some(renewed) => self.step_as_leader(observed, renewed, now),
            None => self.step_as_standby(observed, now),
        }
    }

    fn update_last_seen(&mut self, observed: &ObservedLease, now: Instant) {
        match observed {
            ObservedLease::Unknown => {}
            ObservedLease::Absent => self.last_seen = None,
            ObservedLease::Present { record, .. } => {
                if self.last_seen.as_ref().is_none_or(|(seen, _)| seen != record) {
                    self.last_seen = Some((record.clone(), now));
                }
            }
        }
    }

    fn step_as_leader(&self, observed: &ObservedLease, renewed: Instant, now: Instant) -> LeaseDecision {
        let since = now.saturating_duration_since(renewed);
        if since >= self.timing.renew_deadline {
            return LeaseDecision::Stop(LossReason::NotRenewedFor(since));
        }
        if let ObservedLease::Present { record, .. } = observed
            && let Some(other) = self.other_holder(record)
        {
            return LeaseDecision::Stop(LossReason::TakenBy(other.to_owned()));
        }
        let due = renewed + self.timing.retry_period;
        if now < due {
            return LeaseDecision::Wait { until: due };
        }
        match observed {
            ObservedLease::Absent => LeaseDecision::Create,
            ObservedLease::Present { record, version } => self.update(record, version),
            ObservedLease::Unknown => {
                LeaseDecision::Wait { until: self.retry(now).min(renewed + self.timing.renew_deadline) }
            }
        }
    }

    fn step_as_standby(&self, observed: &ObservedLease, now: Instant) -> LeaseDecision {
        match observed {
            ObservedLease::Absent => LeaseDecision::Create,
            ObservedLease::Unknown => LeaseDecision::Wait { until: self.retry(now) },
            ObservedLease::Present { record, version } => match self.expiry(record) {
                Some(expiry) if now < expiry => LeaseDecision::Wait { until: expiry.min(self.retry(now)) },
                _ => self.update(record, version),
            },
        }
    }

    /// Expiry time of another holder's record; `None` if the lease has no holder, or is ours from before a restart.
    fn expiry(&self, record: &LeaseRecord) -> Option<Instant> {
        self.other_holder(record)?;
        let (_, since) = self.last_seen.as_ref()?;
        Some(*since + record.duration.unwrap_or(self.timing.lease_duration))
    }

    fn other_holder<'r>(&self, record: &'r LeaseRecord) -> Option<&'r str> {
        record.holder.as_deref().filter(|holder| !holder.is_empty() && *holder != self.identity)
    }

    fn update(&self, record: &LeaseRecord, version: &str) -> LeaseDecision {
        let ours = record.holder.as_deref() == Some(self.identity.as_str());
        let transitions = record.transitions.saturating_add(i32::from(!ours));
        LeaseDecision::Update { version: version.to_owned(), transitions }
    }

    fn retry(&self, now: Instant) -> Instant {
        now + self.timing.retry_period
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct CandidateTest {
        start: Instant,
        candidate: LeaseCandidate,
    }

    impl CandidateTest {
        fn standby() -> Self {
            Self { start: Instant::now(), candidate: LeaseCandidate::new("us".to_owned(), Timing::of_lease(15)) }
        }

        fn leading() -> Self {
            let mut test = Self::standby();
            let start = test.start;
            test.candidate.renewed_at(start);
            test
        }

        fn at(&self, seconds: f64) -> Instant {
            self.start + Duration::from_secs_f64(seconds)
        }

        fn step(&mut self, seconds: f64, observed: &ObservedLease) -> LeaseDecision {
            let now = self.at(seconds);
            self.candidate.step(observed, now)
        }

        fn wait(&self, seconds: f64) -> LeaseDecision {
            LeaseDecision::Wait { until: self.at(seconds) }
        }
    }

    fn lease(holder: &str, renewed: &str) -> ObservedLease {
        let record = LeaseRecord {
            holder: Some(holder.to_owned()).filter(|holder| !holder.is_empty()),
            duration: Some(Duration::from_secs(15)),
            renewed: Some(renewed.to_owned()),
            transitions: 4,
        };
        ObservedLease::Present { record, version: format!("v-{renewed}") }
    }

    fn update(renewed: &str, transitions: i32) -> LeaseDecision {
        LeaseDecision::Update { version: format!("v-{renewed}"), transitions }
    }

    #[test]
    fn creates_missing_lease() {
        assert_eq!(CandidateTest::standby().step(0.0, &ObservedLease::Absent), LeaseDecision::Create);
    }

    #[test]
    fn acquires_released_lease_immediately() {
        let mut test = CandidateTest::standby();
        assert_eq!(test.step(0.0, &lease("them", "a")), test.wait(2.0));
        assert_eq!(test.step(0.1, &lease("", "a")), update("a", 5));
        let blank = ObservedLease::Present {
            record: LeaseRecord { holder: Some(String::new()), ..LeaseRecord::default() },
            version: "v-a".to_owned(),
        };
        assert_eq!(CandidateTest::standby().step(0.0, &blank), update("a", 1));
    }

    #[test]
    fn never_takes_over_renewed_lease() {
        let mut test = CandidateTest::standby();
        for round in 0..100_u32 {
            let now = f64::from(round) * 14.0;
            let decision = test.step(now, &lease("them", &round.to_string()));
            assert_eq!(decision, test.wait(now + 2.0));
        }
    }

    #[test]
    fn takes_over_lease_after_its_duration() {
        let mut test = CandidateTest::standby();
        assert_eq!(test.step(0.0, &lease("them", "a")), test.wait(2.0));
        assert_eq!(test.step(14.5, &lease("them", "a")), test.wait(15.0));
        assert_eq!(test.step(15.0, &lease("them", "a")), update("a", 5));
    }

    #[test]
    fn renewal_resets_expiry() {
        let mut test = CandidateTest::standby();
        test.step(0.0, &lease("them", "a"));
        test.step(14.0, &lease("them", "b"));
        assert_eq!(test.step(28.0, &lease("them", "b")), test.wait(29.0));
        assert_eq!(test.step(29.0, &lease("them", "b")), update("b", 5));
    }

    #[test]
    fn ignores_clock_skew_of_holder() {
        for renewed in ["1971-01-01T00:00:00.000000Z", "2199-01-01T00:00:00.000000Z"] {
            let mut test = CandidateTest::standby();
            assert_eq!(test.step(0.0, &lease("them", renewed)), test.wait(2.0));
            assert_eq!(test.step(15.0, &lease("them", renewed)), update(renewed, 5));
        }
    }

    #[test]
    fn uses_lease_duration_of_holder() {
        let mut test = CandidateTest::standby();
        let ObservedLease::Present { mut record, version } = lease("them", "a") else { unreachable!() };
        record.duration = Some(Duration::from_mins(1));
        let long = ObservedLease::Present { record, version };
        test.step(0.0, &long);
        assert_eq!(test.step(59.0, &long), test.wait(60.0));
        assert_eq!(test.step(60.0, &long), update("a", 5));
    }

    #[test]
    fn expiry_continues_while_server_is_unreachable() {
        let mut test = CandidateTest::standby();
        assert_eq!(test.step(0.0, &ObservedLease::Unknown), test.wait(2.0));
        test.step(1.0, &lease("them", "a"));
        assert_eq!(test.step(15.5, &ObservedLease::Unknown), test.wait(17.5));
        assert_eq!(test.step(16.0, &lease("them", "a")), update("a", 5));
    }

    #[test]
    fn reacquires_own_lease_after_restart() {
        assert_eq!(CandidateTest::standby().step(0.0, &lease("us", "a")), update("a", 4));
    }

    #[test]
    fn leader_renews_after_retry_period() {
        let mut test = CandidateTest::leading();
        assert_eq!(test.step(1.0, &lease("us", "a")), test.wait(2.0));
        assert_eq!(test.step(2.0, &lease("us", "a")), update("a", 4));
        let now = test.at(2.0);
        test.candidate.renewed_at(now);
        assert_eq!(test.step(3.0, &lease("us", "b")), test.wait(4.0));
    }

    #[test]
    fn leader_retries_until_deadline() {
        let mut test = CandidateTest::leading();
        assert_eq!(test.step(2.0, &ObservedLease::Unknown), test.wait(4.0));
        assert_eq!(test.step(9.0, &ObservedLease::Unknown), test.wait(10.0));
        let stop = LeaseDecision::Stop(LossReason::NotRenewedFor(Duration::from_secs(10)));
        assert_eq!(test.step(10.0, &ObservedLease::Unknown), stop);
    }

    #[test]
    fn leader_stops_after_deadline() {
        let stop = LeaseDecision::Stop(LossReason::NotRenewedFor(Duration::from_secs(11)));
        assert_eq!(CandidateTest::leading().step(11.0, &lease("us", "a")), stop);
    }

    #[test]
    fn leader_stops_when_lease_is_taken() {
        let stop = LeaseDecision::Stop(LossReason::TakenBy("them".to_owned()));
        assert_eq!(CandidateTest::leading().step(0.5, &lease("them", "b")), stop);
    }

    #[test]
    fn leader_rewrites_deleted_or_cleared_lease() {
        assert_eq!(CandidateTest::leading().step(2.0, &ObservedLease::Absent), LeaseDecision::Create);
        assert_eq!(CandidateTest::leading().step(2.0, &lease("", "b")), update("b", 5));
    }

    #[test]
    fn deadline_starts_at_last_renewal() {
        let mut test = CandidateTest::leading();
        assert_eq!(test.candidate.deadline(), Some(test.at(10.0)));
        let renewed = test.at(2.0);
        test.candidate.renewed_at(renewed);
        assert_eq!(test.candidate.deadline(), Some(test.at(12.0)));
        assert!(test.candidate.is_leading());
        assert_eq!(CandidateTest::standby().candidate.deadline(), None);
    }
}
