//! Status computed from synthetic outcomes.

use meshwright_api::conditions::get;

use std::sync::Arc;

use super::*;
use crate::mesh::kind::Kind;
use crate::mesh::object::{Component, DesiredObject, Owner};
use crate::mesh::plan::{PlanAction, PlanStep};
use crate::mesh::problem::Problem;

fn now() -> Time {
    Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH)
}

fn health(blockers: Vec<Blocker>) -> Health {
    Health {
        components: vec![],
        gateways: vec![],
        node_ports: vec![],
        unready_add_ons: std::collections::BTreeMap::new(),
        blockers,
        available: true,
        platform: PlatformStatus { name: Some("kind".into()), ..PlatformStatus::default() },
        warnings: None,
        unknown_keys: vec![],
        retiring: None,
        obstacles: vec![],
    }
}

fn plan() -> Plan<Applied> {
    let state = Applied { failures: vec![], waiting: None, written: vec![] };
    Plan {
        steps: vec![],
        delete_first: vec![],
        prune: vec![],
        terminating: vec![],
        daemon_sets_terminating: vec![],
        conflicts: vec![],
        gateways_may_start: true,
        state,
    }
}

fn input<'a>(previous: &'a MeshInstallationStatus, generation: i64, outcome: ReconcileOutcome<'a>) -> StatusInput<'a> {
    let (ca, gateway_api, node_port_range, proxies) = (None, None, None, None);
    StatusInput {
        previous,
        generation,
        desired_version: "1.31",
        outcome,
        ca,
        progress: None,
        revision: None,
        gateway_api,
        node_port_range,
        proxies,
    }
}

fn reconciled(previous: &MeshInstallationStatus, health: &Health, was_ready: bool) -> MeshInstallationStatus {
    let version = semver::Version::new(1, 31, 2);
    let outcome = ReconcileOutcome::Reconciled { plan: &plan(), health, version: &version, was_ready };
    rollup(&input(previous, 3, outcome), &now())
}

fn ready(status: &MeshInstallationStatus) -> (&str, &str) {
    let ready = get(&status.conditions, ConditionType::Ready).unwrap();
    (&ready.status, &ready.reason)
}

fn blocked_by(reason: Reason) -> Health {
    health(vec![Blocker { reason, message: "x".into() }])
}

#[test]
fn compares_proxies_with_active_version() {
    let version = semver::Version::new(1, 31, 2);
    let seen = |previous: &MeshInstallationStatus, versions: &[&str], blockers| {
        let health = health(blockers);
        let outcome =
            ReconcileOutcome::Reconciled { plan: &plan(), health: &health, version: &version, was_ready: false };
        let versions = versions.iter().map(|v| (*v).to_owned()).collect();
        let proxies = Some(ReportedProxies { versions, ..ReportedProxies::default() });
        rollup(&StatusInput { proxies, ..input(previous, 3, outcome) }, &now())
    };
    let new = MeshInstallationStatus::default();
    let outdated = |status: &MeshInstallationStatus| status.proxies.as_ref().map(|proxies| proxies.outdated);
    let waiting = vec![Blocker { reason: Reason::WaitingForRollout, message: String::new() }];
    assert_eq!(outdated(&seen(&new, &["1.30.0"], waiting)), Some(false), "no version is active");
    assert_eq!(outdated(&seen(&new, &["1.30.0", "1.31.2"], vec![])), Some(true));
    let ready = seen(&new, &["1.31.2", "Unknown"], vec![]);
    assert_eq!(outdated(&ready), Some(false), "an unknown version is not outdated");
    assert_eq!(outdated(&reconciled(&ready, &health(vec![]), true)), Some(false), "stays until the next check");
}

#[test]
fn reports_stale_configuration_apart_from_versions() {
    let seen = |previous: &MeshInstallationStatus, stale: Option<&[&str]>| {
        let configuration = stale.map(|_| "c1".to_owned());
        let stale = stale.map(|versions| versions.iter().map(|version| (*version).to_owned()).collect());
        let versions = vec!["1.30.0".to_owned(), "1.31.2".to_owned()];
        let proxies = Some(ReportedProxies { versions, configuration, stale, ..ReportedProxies::default() });
        let (version, health) = (semver::Version::new(1, 31, 2), health(vec![]));
        let outcome =
            ReconcileOutcome::Reconciled { plan: &plan(), health: &health, version: &version, was_ready: false };
        rollup(&StatusInput { proxies, ..input(previous, 3, outcome) }, &now())
    };
    let shown = |status: &MeshInstallationStatus| {
        let proxies = status.proxies.clone().unwrap();
        (proxies.outdated, proxies.stale_configuration, proxies.configuration)
    };
    let hash = || Some("c1".to_owned());
    let new = MeshInstallationStatus::default();
    assert_eq!(shown(&seen(&new, None)), (true, false, None), "unknown");
    assert_eq!(shown(&seen(&new, Some(&["1.30.0"]))), (true, false, hash()), "outdated, and therefore not stale");
    let stale = seen(&new, Some(&["1.31.2"]));
    assert_eq!(shown(&stale), (true, true, hash()));
    assert_eq!(shown(&seen(&stale, None)), (true, true, hash()), "stays while the current one is unknown");
    assert_eq!(shown(&seen(&stale, Some(&[]))), (true, false, hash()));
}

#[test]
fn install_is_unknown_then_ready() {
    let first = reconciled(&MeshInstallationStatus::default(), &blocked_by(Reason::WaitingForRollout), false);
    assert_eq!(ready(&first), ("Unknown", "WaitingForRollout"));
    assert_eq!(first.phase, Some(Phase::Installing));
    assert_eq!(first.version.running, None);
    let second = reconciled(&first, &health(vec![]), false);
    assert_eq!(ready(&second), ("True", "Healthy"));
    assert_eq!(second.version.running.as_deref(), Some("1.31.2"));
    assert_eq!(second.observed_generation, 3);
}

#[test]
fn ready_turns_false_when_mesh_breaks() {
    let status = reconciled(&MeshInstallationStatus::default(), &blocked_by(Reason::WaitingForRollout), true);
    assert_eq!(ready(&status), ("False", "WaitingForRollout"));
    assert_eq!(status.phase, Some(Phase::Degraded));
}

#[test]
fn missing_permission_stalls_new_spec() {
    let first = reconciled(&MeshInstallationStatus::default(), &blocked_by(Reason::Forbidden), false);
    assert_eq!((ready(&first), first.phase), (("False", "Forbidden"), Some(Phase::Stalled)));
    assert!(get(&first.conditions, ConditionType::Stalled).is_some());
    let later = reconciled(&MeshInstallationStatus::default(), &blocked_by(Reason::Forbidden), true);
    assert_eq!((ready(&later), later.phase), (("False", "Forbidden"), Some(Phase::Degraded)));
    assert!(get(&later.conditions, ConditionType::Reconciling).is_some());
}

#[test]
fn pending_check_keeps_ready() {
    let previous_status = reconciled(&MeshInstallationStatus::default(), &health(vec![]), true);
    assert_eq!(reconciled(&previous_status, &blocked_by(Reason::Applying), true), previous_status);
    let lost = reconciled(&MeshInstallationStatus::default(), &blocked_by(Reason::Applying), true);
    assert_eq!(ready(&lost).0, "Unknown", "a lost status is measured again");
    let broken = reconciled(&MeshInstallationStatus::default(), &blocked_by(Reason::WaitingForRollout), true);
    assert_eq!(
        ready(&reconciled(&broken, &blocked_by(Reason::Applying), true)).0,
        "False",
        "a pending check does not set Ready"
    );
}

#[test]
fn pending_deletion_is_progress() {
    let key = crate::mesh::object::ObjectKey { kind: Kind::Service, namespace: Some("edge".into()), name: "g".into() };
    let plan_with_deletion = Plan { terminating: vec![key], ..plan() };
    let (previous, version, fine) = (MeshInstallationStatus::default(), semver::Version::new(1, 31, 2), health(vec![]));
    let outcome =
        ReconcileOutcome::Reconciled { plan: &plan_with_deletion, health: &fine, version: &version, was_ready: true };
    let report = input(&previous, 3, outcome);
    let status = rollup(&report, &now());
    assert_eq!(ready(&status), ("Unknown", "Pruning"));
    assert!(status.message.unwrap().contains("Service edge/g"));
}

#[test]
fn denied_check_leaves_ready_unknown() {
    let status = reconciled(&MeshInstallationStatus::default(), &blocked_by(Reason::InjectionCheckDenied), true);
    assert_eq!(ready(&status), ("Unknown", "InjectionCheckDenied"));
    assert_eq!(get(&status.conditions, ConditionType::Available).unwrap().status, "True");
}

#[test]
fn stalled_spec_keeps_mesh_available() {
    let running = health(vec![]);
    let blocker = Blocker { reason: Reason::VersionNotInCatalog, message: "no".into() };
    let outcome = ReconcileOutcome::Stalled { blocker, running: Some(&running) };
    let previous = MeshInstallationStatus::default();
    let report = input(&previous, 4, outcome);
    let status = rollup(&report, &now());
    assert_eq!(ready(&status), ("False", "VersionNotInCatalog"));
    assert_eq!(get(&status.conditions, ConditionType::Available).unwrap().status, "True");
    assert!(get(&status.conditions, ConditionType::Reconciling).is_none());
}

#[test]
fn warnings_stay_until_next_check() {
    let warned = Health { warnings: Some(vec!["x".into()]), ..health(vec![]) };
    let first = reconciled(&MeshInstallationStatus::default(), &warned, true);
    assert_eq!(first.platform.name.as_deref(), Some("kind"));
    assert_eq!(first.message.as_deref(), Some("Istio 1.31.2 is ready. See status.platform.warnings"));
    assert_eq!(ready(&first), ("True", "Healthy"));
    let second = reconciled(&first, &health(vec![]), true);
    assert_eq!((&second.platform.warnings, &second.message), (&vec!["x".to_owned()], &first.message));
    let cleared = Health { warnings: Some(vec![]), ..health(vec![]) };
    let third = reconciled(&second, &cleared, true);
    assert_eq!(third.platform.warnings, [""; 0]);
    assert_eq!(third.message.as_deref(), Some("Istio 1.31.2 is ready"));
}

#[test]
fn unknown_keys_are_shown_until_removed() {
    let key = Problem::new("spec.meshConfig.x", "unknown key, it has no effect");
    let unknown = Health { unknown_keys: vec![key], warnings: Some(vec!["y".into()]), ..health(vec![]) };
    let first = reconciled(&MeshInstallationStatus::default(), &unknown, true);
    assert_eq!(first.platform.warnings, ["spec.meshConfig.x: unknown key, it has no effect", "y"]);
    let message = "Istio 1.31.2 is ready. Unknown keys: spec.meshConfig.x. See status.platform.warnings";
    assert_eq!((first.message.as_deref(), ready(&first)), (Some(message), ("True", "Healthy")));
    let second = reconciled(&first, &health(vec![]), true);
    assert_eq!(second.platform.warnings, ["y"], "warnings about the cluster stay until the next check");
}

#[test]
fn unready_add_on_does_not_block_ready() {
    let mut unready = health(vec![]);
    unready.unready_add_ons.insert("kiali".into(), "kiali: its pod is not ready".into());
    unready.add_add_on_failure("prometheus", "forbidden");
    let status = reconciled(&MeshInstallationStatus::default(), &unready, true);
    assert_eq!(ready(&status), ("True", "Healthy"));
    let message = "Istio 1.31.2 is ready. Add-ons not ready: kiali: its pod is not ready, prometheus: forbidden";
    assert_eq!(status.message.as_deref(), Some(message));
}

#[test]
fn failed_write_blocks_unless_of_add_on() {
    let fails = |component: &Component| {
        let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 31, 2) };
        let object = serde_json::json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}});
        let desired = Arc::new(DesiredObject::from_rendered(object, component, &owner, "istio-system").unwrap());
        let failure = ApplyError::NotServed { key: desired.key.clone() };
        let mut plan = plan();
        plan.steps = vec![PlanStep { desired, action: PlanAction::Create }];
        plan.state.failures = vec![failure];
        (plan.failure().is_some(), plan.failed_add_ons().map(|(name, _)| name.to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(fails(&Component::Istiod), (true, vec![]));
    assert_eq!(fails(&Component::AddOn("kiali".into())), (false, vec!["kiali".to_owned()]));
}

#[test]
fn same_input_gives_same_status() {
    let once = reconciled(&MeshInstallationStatus::default(), &health(vec![]), true);
    assert_eq!(reconciled(&once, &health(vec![]), true), once);
}

#[test]
fn first_available_control_plane_is_progress() {
    let starting = Health { available: false, ..blocked_by(Reason::WaitingForRollout) };
    let serving = blocked_by(Reason::WaitingForCABundle);
    let first = reconciled(&MeshInstallationStatus::default(), &starting, false);
    assert!(is_significant_change(&MeshInstallationStatus::default(), &first));
    let second = reconciled(&first, &serving, false);
    assert!(first != second && !is_significant_change(&first, &second));
    let ready = reconciled(&second, &health(vec![]), false);
    assert!(is_significant_change(&second, &ready));
    let gone = MeshInstallationStatus { phase: ready.phase, ..reconciled(&ready, &starting, true) };
    assert!(is_significant_change(&ready, &gone));
}

#[test]
fn registry_error_keeps_measuring_active_mesh() {
    let previous_status = reconciled(&MeshInstallationStatus::default(), &health(vec![]), true);
    let status_of = |was_ready, running| {
        let blocker = Blocker { reason: Reason::RegistryError, message: "x".into() };
        rollup(&input(&previous_status, 4, ReconcileOutcome::Blocked { blocker, was_ready, running }), &now())
    };
    let gone = Health { available: false, ..health(vec![]) };
    let new_spec = status_of(false, Some(&gone));
    assert_eq!((ready(&new_spec), new_spec.phase), (("Unknown", "RegistryError"), Some(Phase::Updating)));
    assert_eq!(get(&new_spec.conditions, ConditionType::Available).unwrap().status, "False");
    let old_spec = status_of(true, None);
    assert_eq!((ready(&old_spec), old_spec.phase), (("False", "RegistryError"), Some(Phase::Degraded)));
    assert_eq!(get(&old_spec.conditions, ConditionType::Available).unwrap().status, "True");
}
