//! Rollups of pretended findings.

use meshwright_api::conditions::get;

use std::sync::Arc;

use super::*;
use crate::mesh::kind::Kind;
use crate::mesh::object::{Component, Desired, Owner};
use crate::mesh::plan::{Action, Step};

fn now() -> Time {
    Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH)
}

fn health(blockers: Vec<Blocker>) -> Health {
    Health {
        components: vec![],
        gateways: vec![],
        node_ports: vec![],
        lagging: std::collections::BTreeMap::new(),
        blockers,
        available: true,
        platform: PlatformStatus { name: Some("kind".into()), ..PlatformStatus::default() },
        warnings: None,
        kept: None,
    }
}

fn plan() -> Plan<Applied> {
    let state = Applied { failures: vec![], waiting: None, written: vec![] };
    Plan {
        steps: vec![],
        make_way: vec![],
        prune: vec![],
        leaving: vec![],
        agents_leaving: vec![],
        refusals: vec![],
        gateways_may_start: true,
        state,
    }
}

fn about<'a>(previous: &'a MeshInstallationStatus, generation: i64, course: Course<'a>) -> Report<'a> {
    let (ca, gateway_api, node_port_range, proxies) = (None, None, None, None);
    Report {
        previous,
        generation,
        desired_version: "1.31",
        course,
        ca,
        progress: None,
        revision: None,
        gateway_api,
        node_port_range,
        proxies,
    }
}

fn follow(previous: &MeshInstallationStatus, health: &Health, proved: bool) -> MeshInstallationStatus {
    let version = semver::Version::new(1, 31, 2);
    let course = Course::Followed { plan: &plan(), health, version: &version, proved };
    rollup(&about(previous, 3, course), &now())
}

fn ready(status: &MeshInstallationStatus) -> (&str, &str) {
    let ready = get(&status.conditions, ConditionType::Ready).unwrap();
    (&ready.status, &ready.reason)
}

fn blocked(reason: Reason) -> Health {
    health(vec![Blocker { reason, message: "x".into() }])
}

#[test]
fn proxies_are_outdated_when_the_version_that_runs_is_another() {
    let version = semver::Version::new(1, 31, 2);
    let seen = |previous: &MeshInstallationStatus, versions: &[&str], blockers| {
        let health = health(blockers);
        let course = Course::Followed { plan: &plan(), health: &health, version: &version, proved: false };
        let versions = versions.iter().map(|v| (*v).to_owned()).collect();
        let proxies = Some(Seen { versions, message: None });
        rollup(&Report { proxies, ..about(previous, 3, course) }, &now())
    };
    let new = MeshInstallationStatus::default();
    let outdated = |status: &MeshInstallationStatus| status.proxies.as_ref().map(|proxies| proxies.outdated);
    let waiting = vec![Blocker { reason: Reason::WaitingForRollout, message: String::new() }];
    assert_eq!(outdated(&seen(&new, &["1.30.0"], waiting)), Some(false), "nothing runs that they could be behind");
    assert_eq!(outdated(&seen(&new, &["1.30.0", "1.31.2"], vec![])), Some(true));
    let ready = seen(&new, &["1.31.2", "Unknown"], vec![]);
    assert_eq!(outdated(&ready), Some(false), "what isn't known is not called outdated");
    assert_eq!(outdated(&follow(&ready, &health(vec![]), true)), Some(false), "and stands until somebody looks again");
}

#[test]
fn an_installation_in_progress_is_unknown_and_then_ready_with_its_version() {
    let first = follow(&MeshInstallationStatus::default(), &blocked(Reason::WaitingForRollout), false);
    assert_eq!(ready(&first), ("Unknown", "WaitingForRollout"));
    assert_eq!(first.phase, Some(Phase::Installing));
    assert_eq!(first.version.running, None);
    let second = follow(&first, &health(vec![]), false);
    assert_eq!(ready(&second), ("True", "Healthy"));
    assert_eq!(second.version.running.as_deref(), Some("1.31.2"));
    assert_eq!(second.observed_generation, 3);
}

#[test]
fn a_spec_that_was_ready_before_is_not_ready_when_something_breaks() {
    let status = follow(&MeshInstallationStatus::default(), &blocked(Reason::WaitingForRollout), true);
    assert_eq!(ready(&status), ("False", "WaitingForRollout"));
    assert_eq!(status.phase, Some(Phase::Degraded));
}

#[test]
fn a_missing_right_stalls_a_spec_that_was_never_ready_and_degrades_one_that_was() {
    let first = follow(&MeshInstallationStatus::default(), &blocked(Reason::Forbidden), false);
    assert_eq!((ready(&first), first.phase), (("False", "Forbidden"), Some(Phase::Stalled)));
    assert!(get(&first.conditions, ConditionType::Stalled).is_some());
    let later = follow(&MeshInstallationStatus::default(), &blocked(Reason::Forbidden), true);
    assert_eq!((ready(&later), later.phase), (("False", "Forbidden"), Some(Phase::Degraded)));
    assert!(get(&later.conditions, ConditionType::Reconciling).is_some());
}

#[test]
fn a_probe_under_way_takes_nothing_back_from_a_ready_mesh() {
    let before = follow(&MeshInstallationStatus::default(), &health(vec![]), true);
    assert_eq!(follow(&before, &blocked(Reason::Applying), true), before);
    let lost = follow(&MeshInstallationStatus::default(), &blocked(Reason::Applying), true);
    assert_eq!(ready(&lost).0, "Unknown", "a lost status is measured anew");
    let broken = follow(&MeshInstallationStatus::default(), &blocked(Reason::WaitingForRollout), true);
    assert_eq!(ready(&follow(&broken, &blocked(Reason::Applying), true)).0, "False", "nor does it mend one");
}

#[test]
fn what_the_spec_no_longer_asks_for_is_progress_until_it_is_gone() {
    let key = crate::mesh::object::ObjectKey { kind: Kind::Service, namespace: Some("edge".into()), name: "g".into() };
    let going = Plan { leaving: vec![key], ..plan() };
    let (previous, version, fine) = (MeshInstallationStatus::default(), semver::Version::new(1, 31, 2), health(vec![]));
    let course = Course::Followed { plan: &going, health: &fine, version: &version, proved: true };
    let report = about(&previous, 3, course);
    let status = rollup(&report, &now());
    assert_eq!(ready(&status), ("Unknown", "Pruning"));
    assert!(status.message.unwrap().contains("Service edge/g"));
}

#[test]
fn a_refused_probe_is_unknown_and_no_failure_of_the_mesh() {
    let status = follow(&MeshInstallationStatus::default(), &blocked(Reason::ProbeRefused), true);
    assert_eq!(ready(&status), ("Unknown", "ProbeRefused"));
    assert_eq!(get(&status.conditions, ConditionType::Available).unwrap().status, "True");
}

#[test]
fn a_stalled_spec_keeps_the_running_mesh_available() {
    let running = health(vec![]);
    let blocker = Blocker { reason: Reason::VersionNotInCatalog, message: "no".into() };
    let course = Course::Stalled { blocker, running: Some(&running) };
    let previous = MeshInstallationStatus::default();
    let report = about(&previous, 4, course);
    let status = rollup(&report, &now());
    assert_eq!(ready(&status), ("False", "VersionNotInCatalog"));
    assert_eq!(get(&status.conditions, ConditionType::Available).unwrap().status, "True");
    assert!(get(&status.conditions, ConditionType::Reconciling).is_none());
}

#[test]
fn a_warning_is_pointed_at_and_stands_until_somebody_has_looked_again() {
    let warned = Health { warnings: Some(vec!["x".into()]), ..health(vec![]) };
    let first = follow(&MeshInstallationStatus::default(), &warned, true);
    assert_eq!(first.platform.name.as_deref(), Some("kind"));
    assert_eq!(first.message.as_deref(), Some("Istio 1.31.2 is ready, but read status.platform.warnings"));
    assert_eq!(ready(&first), ("True", "Healthy"));
    let second = follow(&first, &health(vec![]), true);
    assert_eq!((&second.platform.warnings, &second.message), (&vec!["x".to_owned()], &first.message));
    let mended = Health { warnings: Some(vec![]), ..health(vec![]) };
    let third = follow(&second, &mended, true);
    assert_eq!(third.platform.warnings, [""; 0]);
    assert_eq!(third.message.as_deref(), Some("Istio 1.31.2 is ready"));
}

#[test]
fn an_add_on_that_lags_is_told_and_the_mesh_is_ready_all_the_same() {
    let mut lame = health(vec![]);
    lame.lagging.insert("kiali".into(), "kiali: its pod is not ready".into());
    lame.excuse("prometheus", "no right");
    let status = follow(&MeshInstallationStatus::default(), &lame, true);
    assert_eq!(ready(&status), ("True", "Healthy"));
    let message = "Istio 1.31.2 is ready; of its add-ons, kiali: its pod is not ready, prometheus: no right";
    assert_eq!(status.message.as_deref(), Some(message));
}

#[test]
fn a_write_that_failed_is_in_the_way_unless_it_is_an_add_ons() {
    let fails = |component: &Component| {
        let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 31, 2) };
        let object = serde_json::json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}});
        let desired = Arc::new(Desired::admit(object, component, &owner, "istio-system").unwrap());
        let failure = ApplyError::NotServed { key: desired.key.clone() };
        let mut plan = plan();
        plan.steps = vec![Step { desired, action: Action::Create }];
        plan.state.failures = vec![failure];
        (plan.failure().is_some(), plan.failed_add_ons().map(|(name, _)| name.to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(fails(&Component::Istiod), (true, vec![]));
    assert_eq!(fails(&Component::AddOn("kiali".into())), (false, vec!["kiali".to_owned()]));
}

#[test]
fn the_same_report_gives_the_same_status() {
    let once = follow(&MeshInstallationStatus::default(), &health(vec![]), true);
    assert_eq!(follow(&once, &health(vec![]), true), once);
}

#[test]
fn a_first_control_plane_that_begins_to_serve_is_progress_and_one_that_ceases_to_is_a_turn() {
    let starting = Health { available: false, ..blocked(Reason::WaitingForRollout) };
    let serving = blocked(Reason::WaitingForCaBundle);
    let first = follow(&MeshInstallationStatus::default(), &starting, false);
    assert!(is_turn(&MeshInstallationStatus::default(), &first));
    let second = follow(&first, &serving, false);
    assert!(first != second && !is_turn(&first, &second));
    let ready = follow(&second, &health(vec![]), false);
    assert!(is_turn(&second, &ready));
    let gone = MeshInstallationStatus { phase: ready.phase, ..follow(&ready, &starting, true) };
    assert!(is_turn(&ready, &gone));
}

#[test]
fn a_spec_whose_release_a_registry_withholds_waits_while_the_running_mesh_is_measured() {
    let before = follow(&MeshInstallationStatus::default(), &health(vec![]), true);
    let told = |proved, running| {
        let blocker = Blocker { reason: Reason::RegistryFailed, message: "x".into() };
        rollup(&about(&before, 4, Course::Hindered { blocker, proved, running }), &now())
    };
    let gone = Health { available: false, ..health(vec![]) };
    let new_spec = told(false, Some(&gone));
    assert_eq!((ready(&new_spec), new_spec.phase), (("Unknown", "RegistryFailed"), Some(Phase::Updating)));
    assert_eq!(get(&new_spec.conditions, ConditionType::Available).unwrap().status, "False");
    let old_spec = told(true, None);
    assert_eq!((ready(&old_spec), old_spec.phase), (("False", "RegistryFailed"), Some(Phase::Degraded)));
    assert_eq!(get(&old_spec.conditions, ConditionType::Available).unwrap().status, "True");
}
