//! Property tests: simulates restarts of workloads that become ready, fail or are changed by other clients. The
//! operator keeps no state between rounds.

use std::collections::{BTreeMap, BTreeSet};

use meshwright_api::{MaintenanceWindow, ProxyUpdate, ProxyUpdateMode};
use proptest::prelude::*;

use super::tests::{TARGET, VERSION, at, outdated};
use super::*;
use crate::proxies::workload::{LastRestart, WorkloadKind};

/// An event of a workload in a round.
#[derive(Clone, Copy, Debug)]
enum WorkloadEvent {
    Completes,
    Fails,
    IsPaused,
    Nothing,
}

fn event() -> impl Strategy<Value = WorkloadEvent> {
    prop_oneof![
        3 => Just(WorkloadEvent::Completes),
        1 => Just(WorkloadEvent::Fails),
        1 => Just(WorkloadEvent::IsPaused),
        2 => Just(WorkloadEvent::Nothing),
    ]
}

fn candidates_strategy() -> impl Strategy<Value = Vec<RestartCandidate>> {
    let candidate = (0..3_u8, any::<bool>(), any::<bool>(), 0..4_u8);
    prop::collection::vec(candidate, 1..12).prop_map(|all| {
        let made = all.into_iter().enumerate().map(|(n, (namespace, allowed, outdated_now, kind))| {
            let kind = match kind {
                0 => WorkloadKind::StatefulSet,
                1 => WorkloadKind::DaemonSet,
                _ => WorkloadKind::Deployment,
            };
            let candidate = outdated(kind, &format!("n{namespace}"), &format!("w{n}"));
            RestartCandidate { allowed, outdated: outdated_now, ..candidate }
        });
        made.collect()
    })
}

fn apply_event(candidate: &mut RestartCandidate, event: WorkloadEvent) {
    let workload = &mut candidate.workload;
    match event {
        WorkloadEvent::Completes => {
            workload.rollout = RolloutState::Complete;
            if workload.restarted.is_some() {
                candidate.outdated = false;
            }
        }
        WorkloadEvent::Fails if workload.rollout != RolloutState::Complete => workload.rollout = RolloutState::Failed,
        WorkloadEvent::IsPaused => workload.rollout = RolloutState::Paused,
        WorkloadEvent::Fails | WorkloadEvent::Nothing => {}
    }
}

proptest! {
    #[test]
    fn plans_respect_all_limits(
        mut candidates in candidates_strategy(),
        rounds in prop::collection::vec((prop::collection::vec(event(), 12), 1..90_i64, prop::bool::weighted(0.2)), 1..12),
        per_minute in 1..4_i32,
        max_failures in 1..4_i32,
        windowed in any::<bool>(),
    ) {
        let window =
            MaintenanceWindow { days: vec![], start: "10:00".into(), end: "10:05".into(), time_zone: "UTC".into() };
        let windows = if windowed { vec![window] } else { vec![] };
        let mode = ProxyUpdateMode::Restart;
        let update = ProxyUpdate { mode, windows, restarts_per_minute: per_minute, max_failures };
        let policy = RestartPolicy::parse(&update).unwrap();
        let (mut now, mut target) = (at(0), TARGET);
        let mut restarts: BTreeMap<WorkloadId, usize> = BTreeMap::new();
        let mut times: Vec<Timestamp> = Vec::new();
        for (events, seconds, upgraded_again) in rounds {
            if upgraded_again {
                // A rollback and an upgrade to the same version: all pods may have been recreated meanwhile.
                now += MINUTE;
                target.since = Some(now);
                for candidate in &mut candidates {
                    candidate.outdated = true;
                }
                restarts.clear();
            }
            let plan = plan_restarts(now, &policy, target, &candidates);
            prop_assert_eq!(&plan, &plan_restarts(now, &policy, target, &candidates), "the plan is deterministic");
            let mut reversed = candidates.clone();
            reversed.reverse();
            let same = plan_restarts(now, &policy, target, &reversed);
            prop_assert_eq!(&plan.restart, &same.restart, "the order of candidates is irrelevant");

            let busy: BTreeSet<String> = candidates.iter()
                .filter(|c| target.restart_of(&c.workload).is_some() && c.workload.rollout != RolloutState::Complete)
                .map(|c| c.workload.id.namespace.clone())
                .collect();
            let mut taken = BTreeSet::new();
            let failed = plan.failed.len();
            for id in &plan.restart {
                prop_assert!(!busy.contains(&id.namespace) && taken.insert(id.namespace.clone()), "one per namespace");
                prop_assert!(policy.window_state(now) == WindowState::Open, "in a window");
                prop_assert!(failed < usize::try_from(max_failures).unwrap(), "not after too many failures");
                let candidate = candidates.iter_mut().find(|c| c.workload.id == *id).unwrap();
                prop_assert!(candidate.allowed && candidate.outdated && candidate.budget.is_none());
                prop_assert_eq!(&candidate.workload.rollout, &RolloutState::Complete, "only complete rollouts");
                *restarts.entry(id.clone()).or_default() += 1;
                times.push(now);
                // Apply the effect of the restart.
                candidate.workload.restarted = Some(LastRestart { version: VERSION.into(), at: Some(now) });
                candidate.workload.rollout = RolloutState::InProgress("0 of 2 pods available".into());
            }
            prop_assert!(restarts.values().all(|count| *count == 1), "never twice for one rollout");
            let in_a_minute = times.iter().filter(|time| now.duration_since(**time) < MINUTE).count();
            prop_assert!(in_a_minute <= usize::try_from(per_minute).unwrap(), "rate limit");
            for (candidate, event) in candidates.iter_mut().zip(events) {
                apply_event(candidate, event);
            }
            now += SignedDuration::from_secs(seconds);
        }
    }

    /// If all restarts succeed, all opted-in workloads are restarted eventually.
    #[test]
    fn restarts_all_opted_in_workloads(mut candidates in candidates_strategy()) {
        let policy = super::tests::policy(2, 1);
        let wanted = candidates.iter().filter(|c| c.allowed && c.outdated).count();
        let mut done = 0;
        for minute in 0..30 {
            for id in plan_restarts(at(minute), &policy, TARGET, &candidates).restart {
                let candidate = candidates.iter_mut().find(|c| c.workload.id == id).unwrap();
                candidate.workload.restarted = Some(LastRestart { version: VERSION.into(), at: Some(at(minute)) });
                candidate.outdated = false;
                done += 1;
            }
        }
        prop_assert_eq!(done, wanted);
    }
}
