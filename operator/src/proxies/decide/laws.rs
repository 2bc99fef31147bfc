//! What holds whatever the cluster does: restarts are played to their end against workloads that come up, fail or are
//! changed by others, with the operator forgetting everything between any two looks.

use std::collections::{BTreeMap, BTreeSet};

use meshwright_api::{MaintenanceWindow, ProxyUpdate, ProxyUpdateMode};
use proptest::prelude::*;

use super::tests::{VERSION, at, outdated};
use super::*;
use crate::proxies::workload::{Restarted, WorkloadKind};

/// What happens to a workload in a round.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Completes,
    GetsStuck,
    IsPaused,
    Nothing,
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        3 => Just(Turn::Completes),
        1 => Just(Turn::GetsStuck),
        1 => Just(Turn::IsPaused),
        2 => Just(Turn::Nothing),
    ]
}

fn crowd() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (0..3_u8, any::<bool>(), any::<bool>(), 0..4_u8);
    prop::collection::vec(one, 1..12).prop_map(|all| {
        let made = all.into_iter().enumerate().map(|(n, (namespace, allowed, outdated_now, kind))| {
            let kind = match kind {
                0 => WorkloadKind::StatefulSet,
                1 => WorkloadKind::DaemonSet,
                _ => WorkloadKind::Deployment,
            };
            let candidate = outdated(kind, &format!("n{namespace}"), &format!("w{n}"));
            Candidate { allowed, outdated: outdated_now, ..candidate }
        });
        made.collect()
    })
}

fn live(candidate: &mut Candidate, turn: Turn) {
    let workload = &mut candidate.workload;
    match turn {
        Turn::Completes => {
            workload.rollout = Rollout::Complete;
            if workload.restarted.is_some() {
                candidate.outdated = false;
            }
        }
        Turn::GetsStuck if workload.rollout != Rollout::Complete => workload.rollout = Rollout::Stuck,
        Turn::IsPaused => workload.rollout = Rollout::Paused,
        Turn::GetsStuck | Turn::Nothing => {}
    }
}

proptest! {
    #[test]
    fn restarts_keep_to_the_rules_in_every_history(
        mut candidates in crowd(),
        rounds in prop::collection::vec((prop::collection::vec(turn(), 12), 1..90_i64), 1..12),
        per_minute in 1..4_i32,
        max_failures in 1..4_i32,
        windowed in any::<bool>(),
    ) {
        let window =
            MaintenanceWindow { days: vec![], start: "10:00".into(), end: "10:05".into(), time_zone: "UTC".into() };
        let windows = if windowed { vec![window] } else { vec![] };
        let mode = ProxyUpdateMode::Restart;
        let policy = Policy::read(&ProxyUpdate { mode, windows, restarts_per_minute: per_minute, max_failures }).unwrap();
        let mut now = at(0);
        let mut restarts: BTreeMap<WorkloadId, usize> = BTreeMap::new();
        let mut times: Vec<Timestamp> = Vec::new();
        for (turns, seconds) in rounds {
            let decision = decide(now, &policy, VERSION, &candidates);
            prop_assert_eq!(&decision, &decide(now, &policy, VERSION, &candidates), "it is a function");
            let mut reversed = candidates.clone();
            reversed.reverse();
            prop_assert_eq!(&decision.restart, &decide(now, &policy, VERSION, &reversed).restart, "order means nothing");

            let busy: BTreeSet<String> = candidates.iter()
                .filter(|c| c.workload.restarted.is_some() && c.workload.rollout != Rollout::Complete)
                .map(|c| c.workload.id.namespace.clone())
                .collect();
            let mut taken = BTreeSet::new();
            let failed = decision.failed.len();
            for id in &decision.restart {
                prop_assert!(!busy.contains(&id.namespace) && taken.insert(id.namespace.clone()), "one in a namespace");
                prop_assert!(policy.opening(now) == Opening::Open, "in a window");
                prop_assert!(failed < usize::try_from(max_failures).unwrap(), "not after too many failures");
                let candidate = candidates.iter_mut().find(|c| c.workload.id == *id).unwrap();
                prop_assert!(candidate.allowed && candidate.outdated && candidate.budget.is_none());
                prop_assert_eq!(&candidate.workload.rollout, &Rollout::Complete, "only what stands well");
                *restarts.entry(id.clone()).or_default() += 1;
                times.push(now);
                // What the patch does.
                candidate.workload.restarted = Some(Restarted { version: VERSION.into(), at: Some(now) });
                candidate.workload.rollout = Rollout::UnderWay("0 of 2 pods available".into());
            }
            prop_assert!(restarts.values().all(|count| *count == 1), "never twice for one version");
            let in_a_minute = times.iter().filter(|time| now.duration_since(**time) < MINUTE).count();
            prop_assert!(in_a_minute <= usize::try_from(per_minute).unwrap(), "the rate");
            for (candidate, turn) in candidates.iter_mut().zip(turns) {
                live(candidate, turn);
            }
            now += SignedDuration::from_secs(seconds);
        }
    }

    /// Where all comes up well, all that may be restarted is, in the end.
    #[test]
    fn everything_that_may_be_restarted_is_in_the_end(mut candidates in crowd()) {
        let policy = super::tests::policy(2, 1);
        let wanted = candidates.iter().filter(|c| c.allowed && c.outdated).count();
        let mut done = 0;
        for minute in 0..30 {
            for id in decide(at(minute), &policy, VERSION, &candidates).restart {
                let candidate = candidates.iter_mut().find(|c| c.workload.id == id).unwrap();
                candidate.workload.restarted = Some(Restarted { version: VERSION.into(), at: Some(at(minute)) });
                candidate.outdated = false;
                done += 1;
            }
        }
        prop_assert_eq!(done, wanted);
    }
}
