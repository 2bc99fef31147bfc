//! Tests of single rules.

use std::collections::BTreeMap;

use meshwright_api::{MaintenanceWindow, ProxyUpdate, ProxyUpdateMode};

use super::*;
use crate::proxies::workload::{LastRestart, WorkloadKind};

pub(super) const VERSION: &str = "1.32.0";

pub(super) fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(1_763_719_200 + 60 * minute).unwrap()
}

/// The version of the mesh, whose rollout started long ago.
pub(super) const TARGET: ProxyTarget<'static> = ProxyTarget { version: VERSION, since: None };

pub(super) fn policy(per_minute: i32, max_failures: i32) -> RestartPolicy {
    let mode = ProxyUpdateMode::Restart;
    let update = ProxyUpdate { mode, windows: vec![], restarts_per_minute: per_minute, max_failures };
    RestartPolicy::parse(&update).unwrap()
}

pub(super) fn outdated(kind: WorkloadKind, namespace: &str, name: &str) -> RestartCandidate {
    let id = WorkloadId { namespace: namespace.into(), kind, name: name.into() };
    let workload = ProxyWorkload {
        id,
        resource_version: "1".into(),
        opt_in: None,
        managed: false,
        restarted: None,
        rollout: RolloutState::Complete,
        pinned_image: None,
        labels: BTreeMap::new(),
        pods: 2,
    };
    RestartCandidate { workload, allowed: true, outdated: true, budget: None }
}

fn web(namespace: &str, name: &str) -> RestartCandidate {
    outdated(WorkloadKind::Deployment, namespace, name)
}

fn restarted(mut candidate: RestartCandidate, version: &str, minute: i64, rollout: RolloutState) -> RestartCandidate {
    candidate.workload.restarted = Some(LastRestart { version: version.into(), at: Some(at(minute)) });
    candidate.workload.rollout = rollout;
    candidate
}

fn in_progress() -> RolloutState {
    RolloutState::InProgress("1 of 2 pods available".into())
}

fn names(ids: &[WorkloadId]) -> Vec<String> {
    ids.iter().map(|id| format!("{}/{}", id.namespace, id.name)).collect()
}

fn planned(candidates: &[RestartCandidate]) -> RestartPlan {
    plan_restarts(at(0), &policy(10, 3), TARGET, candidates)
}

#[test]
fn restarts_one_workload_per_namespace() {
    let plan = planned(&[web("b", "z"), web("a", "y"), web("a", "x")]);
    assert_eq!(names(&plan.restart), ["a/x", "b/z"]);
    assert_eq!(plan.queued, 1);
}

#[test]
fn waits_for_rollouts_in_the_namespace() {
    let busy = restarted(web("a", "x"), VERSION, -1, in_progress());
    let plan = planned(&[busy, web("a", "y"), web("b", "z")]);
    assert_eq!((names(&plan.restart), names(&plan.in_progress)), (vec!["b/z".into()], vec!["a/x".into()]));
    let done = restarted(web("a", "x"), VERSION, -2, RolloutState::Complete);
    assert_eq!(names(&planned(&[done, web("a", "y")]).restart), ["a/y"]);
}

#[test]
fn restarts_once_per_version() {
    let fresh = restarted(web("a", "x"), VERSION, -1, RolloutState::Complete);
    assert_eq!(planned(&[fresh]), RestartPlan::default(), "old pods are terminating");
    let ineffective = restarted(web("a", "x"), VERSION, -60, RolloutState::Complete);
    let plan = planned(std::slice::from_ref(&ineffective));
    assert_eq!(plan.skipped, [(ineffective.workload.id, SkipReason::StillOutdated)]);
    assert_eq!(plan.restart, []);
    let before = restarted(web("a", "x"), "1.31.2", -60, RolloutState::Complete);
    assert_eq!(names(&planned(&[before]).restart), ["a/x"], "restarted for another version");
}

#[test]
fn restarts_again_after_rollback_and_upgrade() {
    // Restarted for this version an hour ago; then the mesh was rolled back, and upgraded again 10 minutes ago.
    let target = ProxyTarget { since: Some(at(-10)), ..TARGET };
    let planned =
        |candidate: &RestartCandidate| plan_restarts(at(0), &policy(10, 3), target, std::slice::from_ref(candidate));
    let earlier = restarted(web("a", "x"), VERSION, -60, RolloutState::Complete);
    assert_eq!(names(&planned(&earlier).restart), ["a/x"]);
    let mut without_time = earlier.clone();
    without_time.workload.restarted = Some(LastRestart { version: VERSION.into(), at: None });
    assert_eq!(names(&planned(&without_time).restart), ["a/x"], "an annotation from a Git repository");
    let failed = restarted(web("a", "x"), VERSION, -60, RolloutState::Failed);
    assert_eq!(planned(&failed).failed, [], "failures of the earlier rollout don't count");
    for minute in [-10, -6] {
        let ineffective = restarted(web("a", "x"), VERSION, minute, RolloutState::Complete);
        let plan = planned(&ineffective);
        assert_eq!((plan.restart.len(), plan.skipped.len()), (0, 1), "never in a loop");
    }
}

#[test]
fn reports_pinned_image_after_ineffective_restart() {
    let mut ineffective = restarted(web("a", "x"), VERSION, -60, RolloutState::Complete);
    ineffective.workload.pinned_image = Some("my/proxy:1".into());
    let plan = planned(&[ineffective]);
    assert_eq!(plan.skipped.first().map(|(_, reason)| reason), Some(&SkipReason::PinnedImage("my/proxy:1".into())));
}

#[test]
fn ignores_managed_and_not_opted_in_workloads() {
    let not_opted_in = RestartCandidate { allowed: false, ..web("a", "x") };
    let mut gateway = web("a", "y");
    gateway.workload.managed = true;
    let plan = planned(&[not_opted_in, gateway, RestartCandidate { outdated: false, ..web("a", "z") }]);
    assert_eq!(plan, RestartPlan { not_opted_in: 1, ..RestartPlan::default() });
}

#[test]
fn skips_workloads_with_reason() {
    let with = |rollout: RolloutState| {
        let mut candidate = web("a", "x");
        candidate.workload.rollout = rollout;
        candidate
    };
    let mut pinned_image = web("a", "x");
    pinned_image.workload.pinned_image = Some("my/proxy:1".into());
    for (candidate, reason) in [
        (with(RolloutState::Paused), SkipReason::Paused),
        (with(RolloutState::Failed), SkipReason::RolloutFailed),
        (with(RolloutState::Manual), SkipReason::ManualUpdates),
        (with(RolloutState::Unreadable), SkipReason::Unreadable),
        (pinned_image, SkipReason::PinnedImage("my/proxy:1".into())),
    ] {
        let plan = planned(&[candidate, web("a", "y")]);
        assert_eq!(plan.skipped.first().map(|(_, reason)| reason), Some(&reason));
        assert_eq!(names(&plan.restart), ["a/y"], "{reason:?} blocks no other workload");
    }
}

#[test]
fn waits_for_rollouts_and_budgets() {
    let mut rolling = web("a", "x");
    rolling.workload.rollout = in_progress();
    let blocked = RestartCandidate { budget: Some("keep".into()), ..web("b", "y") };
    let plan = planned(&[rolling, blocked]);
    let reasons: Vec<&WaitReason> = plan.waiting.iter().map(|(_, wait)| wait).collect();
    assert_eq!(reasons, [&WaitReason::Rollout("1 of 2 pods available".into()), &WaitReason::Budget("keep".into())]);
    assert_eq!(plan.restart, []);
}

#[test]
fn budget_does_not_block_started_restarts() {
    let started =
        RestartCandidate { budget: Some("keep".into()), ..restarted(web("a", "x"), VERSION, -1, in_progress()) };
    let plan = planned(&[started]);
    assert_eq!((plan.waiting.len(), plan.in_progress.len()), (0, 1));
}

#[test]
fn stops_at_max_failures() {
    let failed = |namespace: &str| restarted(web(namespace, "x"), VERSION, -20, RolloutState::Failed);
    let two = [failed("a"), failed("b"), web("c", "y")];
    let plan_restarts = |candidates: &[RestartCandidate]| plan_restarts(at(0), &policy(10, 2), TARGET, candidates);
    let plan = plan_restarts(&two);
    assert_eq!((plan.stopped, plan.failed.len(), plan.queued, plan.restart.len()), (true, 2, 1, 0));
    let [a, _, c] = two;
    let plan = plan_restarts(&[a, restarted(web("b", "x"), VERSION, -20, RolloutState::Complete), c]);
    assert_eq!((plan.stopped, names(&plan.restart)), (false, vec!["c/y".into()]));
    let older = restarted(web("a", "x"), "1.31.2", -20, RolloutState::Failed);
    assert_eq!(plan_restarts(&[older]).failed, [], "failures for another version don't count");
}

#[test]
fn times_out_stateful_sets_but_not_deployments() {
    let fails = |kind, minutes: i64| {
        let candidate = restarted(outdated(kind, "a", "x"), VERSION, -minutes, in_progress());
        !planned(&[candidate]).failed.is_empty()
    };
    assert!(!fails(WorkloadKind::StatefulSet, 14));
    assert!(fails(WorkloadKind::StatefulSet, 15));
    assert!(!fails(WorkloadKind::Deployment, 600));
}

#[test]
fn limits_restarts_per_minute() {
    let recent = restarted(web("a", "x"), "1.31.2", 0, RolloutState::Complete);
    let earlier = restarted(web("z", "x"), VERSION, -1, RolloutState::Complete);
    let candidates =
        [RestartCandidate { outdated: false, ..recent }, earlier, web("b", "y"), web("c", "y"), web("d", "y")];
    let plan = plan_restarts(at(0), &policy(2, 3), TARGET, &candidates);
    assert_eq!((names(&plan.restart), plan.queued), (vec!["b/y".into()], 2));
}

#[test]
fn reports_next_window_when_closed() {
    let window =
        MaintenanceWindow { days: vec![], start: "22:00".into(), end: "23:00".into(), time_zone: "UTC".into() };
    let update = ProxyUpdate { mode: ProxyUpdateMode::Restart, windows: vec![window], ..ProxyUpdate::default() };
    let policy = RestartPolicy::parse(&update).unwrap();
    let noon = "2026-11-21T12:00:00Z".parse().unwrap();
    let evening: Timestamp = "2026-11-21T22:00:00Z".parse().unwrap();
    let plan = plan_restarts(noon, &policy, TARGET, &[web("a", "x")]);
    assert_eq!((plan.restart.len(), plan.queued, plan.closed_until), (0, 1, Some(evening)));
    assert_eq!(names(&plan_restarts(evening, &policy, TARGET, &[web("a", "x")]).restart), ["a/x"]);
    assert_eq!(plan_restarts(noon, &policy, TARGET, &[]).closed_until, None, "no workload waits");
}

#[test]
fn late_failures_are_not_attributed() {
    let day = 24 * 60;
    let later = restarted(web("a", "x"), VERSION, -day - 1, RolloutState::Failed);
    assert_eq!(planned(std::slice::from_ref(&later)).failed.len(), 1, "its old pods are still there");
    assert_eq!(planned(&[RestartCandidate { outdated: false, ..later }]), RestartPlan::default());
}
