//! Single rules.

use std::collections::BTreeMap;

use meshwright_api::{MaintenanceWindow, ProxyUpdate, ProxyUpdateMode};

use super::*;
use crate::proxies::workload::{Restarted, WorkloadKind};

pub(super) const VERSION: &str = "1.32.0";

pub(super) fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(1_763_719_200 + 60 * minute).unwrap()
}

pub(super) fn policy(per_minute: i32, max_failures: i32) -> Policy {
    let mode = ProxyUpdateMode::Restart;
    let update = ProxyUpdate { mode, windows: vec![], restarts_per_minute: per_minute, max_failures };
    Policy::read(&update).unwrap()
}

pub(super) fn outdated(kind: WorkloadKind, namespace: &str, name: &str) -> Candidate {
    let id = WorkloadId { namespace: namespace.into(), kind, name: name.into() };
    let workload = Workload {
        id,
        resource_version: "1".into(),
        consent: None,
        of_mesh: false,
        restarted: None,
        rollout: Rollout::Complete,
        pinned: None,
        labels: BTreeMap::new(),
        pods: 2,
    };
    Candidate { workload, allowed: true, outdated: true, budget: None }
}

fn web(namespace: &str, name: &str) -> Candidate {
    outdated(WorkloadKind::Deployment, namespace, name)
}

fn restarted(mut candidate: Candidate, version: &str, minute: i64, rollout: Rollout) -> Candidate {
    candidate.workload.restarted = Some(Restarted { version: version.into(), at: Some(at(minute)) });
    candidate.workload.rollout = rollout;
    candidate
}

fn under_way() -> Rollout {
    Rollout::UnderWay("1 of 2 pods available".into())
}

fn names(ids: &[WorkloadId]) -> Vec<String> {
    ids.iter().map(|id| format!("{}/{}", id.namespace, id.name)).collect()
}

fn decided(candidates: &[Candidate]) -> Decision {
    decide(at(0), &policy(10, 3), VERSION, candidates)
}

#[test]
fn one_workload_of_each_namespace_is_restarted_and_the_others_wait_for_their_turn() {
    let decision = decided(&[web("b", "z"), web("a", "y"), web("a", "x")]);
    assert_eq!(names(&decision.restart), ["a/x", "b/z"]);
    assert_eq!(decision.queued, 1);
}

#[test]
fn a_namespace_is_busy_until_the_rollout_is_complete_whoever_began_it_for_us() {
    let busy = restarted(web("a", "x"), VERSION, -1, under_way());
    let decision = decided(&[busy, web("a", "y"), web("b", "z")]);
    assert_eq!((names(&decision.restart), names(&decision.under_way)), (vec!["b/z".into()], vec!["a/x".into()]));
    let done = restarted(web("a", "x"), VERSION, -2, Rollout::Complete);
    assert_eq!(names(&decided(&[done, web("a", "y")]).restart), ["a/y"]);
}

#[test]
fn nothing_is_restarted_twice_for_a_version_even_in_vain() {
    let fresh = restarted(web("a", "x"), VERSION, -1, Rollout::Complete);
    assert_eq!(decided(&[fresh]), Decision::default(), "its last old pods are leaving");
    let vain = restarted(web("a", "x"), VERSION, -60, Rollout::Complete);
    let decision = decided(std::slice::from_ref(&vain));
    assert_eq!(decision.skipped, [(vain.workload.id, Skip::StillOutdated)]);
    assert_eq!(decision.restart, []);
    let before = restarted(web("a", "x"), "1.31.2", -60, Rollout::Complete);
    assert_eq!(names(&decided(&[before]).restart), ["a/x"], "another version is another matter");
}

#[test]
fn what_nobody_allowed_or_what_is_the_meshs_own_stays_as_it_is() {
    let not_allowed = Candidate { allowed: false, ..web("a", "x") };
    let mut gateway = web("a", "y");
    gateway.workload.of_mesh = true;
    let decision = decided(&[not_allowed, gateway, Candidate { outdated: false, ..web("a", "z") }]);
    assert_eq!(decision, Decision { not_allowed: 1, ..Decision::default() });
}

#[test]
fn what_a_restart_would_not_help_is_skipped_with_the_reason() {
    let with = |rollout: Rollout| {
        let mut candidate = web("a", "x");
        candidate.workload.rollout = rollout;
        candidate
    };
    let mut pinned = web("a", "x");
    pinned.workload.pinned = Some("my/proxy:1".into());
    for (candidate, why) in [
        (with(Rollout::Paused), Skip::Paused),
        (with(Rollout::Stuck), Skip::Stuck),
        (with(Rollout::ByHand), Skip::ByHand),
        (pinned, Skip::Pinned("my/proxy:1".into())),
    ] {
        let decision = decided(&[candidate, web("a", "y")]);
        assert_eq!(decision.skipped.first().map(|(_, why)| why), Some(&why));
        assert_eq!(names(&decision.restart), ["a/y"], "{why:?} holds nobody up");
    }
}

#[test]
fn a_rollout_of_others_and_a_budget_are_waited_for() {
    let mut moving = web("a", "x");
    moving.workload.rollout = under_way();
    let held = Candidate { budget: Some("keep".into()), ..web("b", "y") };
    let decision = decided(&[moving, held]);
    let whys: Vec<&Wait> = decision.waiting.iter().map(|(_, wait)| wait).collect();
    assert_eq!(whys, [&Wait::Rollout("1 of 2 pods available".into()), &Wait::Budget("keep".into())]);
    assert_eq!(decision.restart, []);
}

#[test]
fn a_budget_doesnt_stop_what_has_begun() {
    let begun = Candidate { budget: Some("keep".into()), ..restarted(web("a", "x"), VERSION, -1, under_way()) };
    let decision = decided(&[begun]);
    assert_eq!((decision.waiting.len(), decision.under_way.len()), (0, 1));
}

#[test]
fn so_many_failures_stop_everything_until_one_of_them_has_come_up() {
    let failed = |namespace: &str| restarted(web(namespace, "x"), VERSION, -20, Rollout::Stuck);
    let two = [failed("a"), failed("b"), web("c", "y")];
    let decide = |candidates: &[Candidate]| decide(at(0), &policy(10, 2), VERSION, candidates);
    let decision = decide(&two);
    assert_eq!((decision.stopped, decision.failed.len(), decision.queued, decision.restart.len()), (true, 2, 1, 0));
    let [a, _, c] = two;
    let decision = decide(&[a, restarted(web("b", "x"), VERSION, -20, Rollout::Complete), c]);
    assert_eq!((decision.stopped, names(&decision.restart)), (false, vec!["c/y".into()]));
    let older = restarted(web("a", "x"), "1.31.2", -20, Rollout::Stuck);
    assert_eq!(decide(&[older]).failed, [], "failures for another version count no longer");
}

#[test]
fn a_set_that_takes_too_long_has_failed_and_a_deployment_is_left_to_its_controller() {
    let fails = |kind, minutes: i64| {
        let candidate = restarted(outdated(kind, "a", "x"), VERSION, -minutes, under_way());
        !decided(&[candidate]).failed.is_empty()
    };
    assert!(!fails(WorkloadKind::StatefulSet, 14));
    assert!(fails(WorkloadKind::StatefulSet, 15));
    assert!(!fails(WorkloadKind::Deployment, 600));
}

#[test]
fn no_more_are_restarted_in_a_minute_than_the_rate_allows() {
    let lately = restarted(web("a", "x"), "1.31.2", 0, Rollout::Complete);
    let longer = restarted(web("z", "x"), VERSION, -1, Rollout::Complete);
    let candidates = [Candidate { outdated: false, ..lately }, longer, web("b", "y"), web("c", "y"), web("d", "y")];
    let decision = decide(at(0), &policy(2, 3), VERSION, &candidates);
    assert_eq!((names(&decision.restart), decision.queued), (vec!["b/y".into()], 2));
}

#[test]
fn outside_the_windows_nothing_begins_and_it_is_told_when_one_opens() {
    let window =
        MaintenanceWindow { days: vec![], start: "22:00".into(), end: "23:00".into(), time_zone: "UTC".into() };
    let update = ProxyUpdate { mode: ProxyUpdateMode::Restart, windows: vec![window], ..ProxyUpdate::default() };
    let policy = Policy::read(&update).unwrap();
    let noon = "2026-11-21T12:00:00Z".parse().unwrap();
    let evening: Timestamp = "2026-11-21T22:00:00Z".parse().unwrap();
    let decision = decide(noon, &policy, VERSION, &[web("a", "x")]);
    assert_eq!((decision.restart.len(), decision.queued, decision.closed_until), (0, 1, Some(evening)));
    assert_eq!(names(&decide(evening, &policy, VERSION, &[web("a", "x")]).restart), ["a/x"]);
    assert_eq!(decide(noon, &policy, VERSION, &[]).closed_until, None, "nobody waits for it");
}

#[test]
fn what_becomes_of_a_workload_later_is_not_the_restarts_doing() {
    let day = 24 * 60;
    let later = restarted(web("a", "x"), VERSION, -day - 1, Rollout::Stuck);
    assert_eq!(decided(std::slice::from_ref(&later)).failed.len(), 1, "its old pods are still there");
    assert_eq!(decided(&[Candidate { outdated: false, ..later }]), Decision::default());
}
