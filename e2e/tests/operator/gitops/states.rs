//! All documented states of a mesh, reached in tests and evaluated for every recorded object.

use std::collections::BTreeSet;

use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams};
use meshwright_api::conditions::ConditionType;
use meshwright_e2e::mesh::{LAB_1_31, LAB_1_32, Mesh, NAME, VERSION, demo_spec};
use meshwright_e2e::recorder::{RecordedState, StateRecorder};
use meshwright_e2e::{Fault, Lab, LabOptions, TestResult, run};
use serde_json::{Value, json};

use super::{documented_health, evaluate_health, state};
use crate::upgrades::rolled_out;

const MESHES: &str = "MeshInstallation";
const DEPLOYMENTS: &str = "Deployment";

/// States without upgrades.
const LIFECYCLE_STATES: [&str; 9] = [
    "not reconciled yet",
    "installing",
    "healthy",
    "action required",
    "degraded",
    "paused, healthy",
    "paused, degraded",
    "paused, spec not applied",
    "uninstalling",
];
/// States during and after upgrades.
const UPGRADE_STATES: [&str; 4] = ["rollout in progress", "rolling back", "rolled back", "halted"];

#[test]
fn documented_states_match_tested_states() {
    let rows: BTreeSet<String> = documented_health().unwrap().into_iter().map(|[state, ..]| state).collect();
    assert_eq!(rows, LIFECYCLE_STATES.into_iter().chain(UPGRADE_STATES).map(str::to_owned).collect());
}

#[test]
fn health_matches_documentation_during_lifecycle() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let (mesh, recorder) = start(lab).await?;
        let paused = |mut spec: Value, paused: bool| {
            spec["paused"] = paused.into();
            spec
        };
        let apply_and_wait = async |spec: Value, ready: &str, reason: Option<&str>| -> TestResult {
            mesh.apply(NAME, spec).await?;
            mesh.wait_for(NAME, ConditionType::Ready, ready, reason).await?;
            Ok(())
        };
        apply_and_wait(paused(demo_spec(), true), "Unknown", Some("Paused")).await?;
        apply_and_wait(demo_spec(), "True", None).await?;
        apply_and_wait(json!({"version": "1.31.7"}), "False", Some("VersionNotInCatalog")).await?;
        apply_and_wait(demo_spec(), "True", None).await?;

        lab.inject_istiod_fault(VERSION, Fault::NeverReady)?;
        let pods = mesh.api("v1", "Pod", Some("istio-system"));
        let istiods = pods.list(&ListParams::default().labels("app=istiod")).await?;
        for istiod in istiods {
            pods.delete(&istiod.name_any(), &DeleteParams::default().grace_period(0)).await?;
        }
        mesh.wait_for(NAME, ConditionType::Ready, "False", None).await?;
        apply_and_wait(paused(demo_spec(), true), "False", None).await?;
        lab.clear_istiod_fault(VERSION)?;
        mesh.wait_for(NAME, ConditionType::Ready, "True", Some("Paused")).await?;
        apply_and_wait(demo_spec(), "True", Some("Healthy")).await?;
        mesh.delete(NAME, &DeleteParams::default()).await?;
        check(&recorder, &LIFECYCLE_STATES).await
    });
}

#[test]
fn health_matches_documentation_during_upgrades() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let (mesh, recorder) = start(lab).await?;
        let spec = |version: &str, on_failure: &str, deadline: &str| {
            json!({
                "version": version, "profile": "demo",
                "upgrade": {"onFailure": on_failure, "progressDeadline": deadline},
            })
        };
        mesh.apply(NAME, spec(LAB_1_31, "Rollback", "90s")).await?;
        mesh.wait_ready(NAME).await?;
        lab.inject_istiod_fault(LAB_1_32, Fault::NeverStarts)?;
        mesh.apply(NAME, spec(LAB_1_32, "Halt", "10s")).await?;
        mesh.wait_for(NAME, ConditionType::Ready, "False", Some("Halted")).await?;
        mesh.apply(NAME, spec(LAB_1_32, "Rollback", "15s")).await?;
        mesh.wait_for(NAME, ConditionType::Ready, "False", Some("RolledBack")).await?;
        lab.clear_istiod_fault(LAB_1_32)?;
        mesh.apply(NAME, spec(LAB_1_32, "Rollback", "90s")).await?;
        mesh.wait_for(NAME, ConditionType::Ready, "True", Some("Healthy")).await?;
        check(&recorder, &UPGRADE_STATES).await
    });
}

async fn start(lab: &Lab) -> TestResult<(Mesh, StateRecorder)> {
    let mesh = Mesh::install_operator(lab).await?;
    let apis = [
        (MESHES, mesh.api("meshwright.dev/v1alpha1", "MeshInstallation", None)),
        (DEPLOYMENTS, mesh.api("apps/v1", "Deployment", Some("istio-system"))),
    ];
    Ok((mesh, StateRecorder::start(apis).await?))
}

/// Evaluates the health of every recorded state and compares it with the documentation. Checks that all `expected`
/// states occurred, and that the mesh was not reported as healthy before the rollout of istiod.
async fn check(recorder: &StateRecorder, expected: &[&str]) -> TestResult {
    recorder.wait_caught_up().await?;
    let states: Vec<RecordedState> = recorder.states(MESHES, NAME);
    let existing: Vec<(&RecordedState, Value)> =
        states.iter().filter_map(|recorded| Some((recorded, recorded.object.clone()?))).collect();
    let mut named_states = Vec::new();
    for (_, object) in &existing {
        named_states.push((state(object)?.to_owned(), object.clone()));
    }
    let rows = documented_health()?;
    let (mut seen, mut was_healthy) = (BTreeSet::new(), false);
    for ((recorded, object), health) in existing.iter().zip(evaluate_health(&named_states)?) {
        let row = [health.state.clone(), health.flux.clone(), health.argo.clone()];
        assert!(rows.contains(&row), "{health:?} of {object:#}");
        assert!(!health.flux_message.is_empty() && !health.argo_message.is_empty(), "{health:?}");
        let healthy = health.flux == "Current" || health.argo == "Healthy";
        if healthy && !was_healthy {
            let istiod = recorder.before(DEPLOYMENTS, "istiod", recorded.resource_version).ok_or("no istiod")?;
            let version = object["spec"]["version"].as_str().unwrap_or_default();
            assert!(rolled_out(&istiod, version), "{health:?} too early: {istiod:?}");
        }
        was_healthy = healthy;
        if seen.insert(row) {
            println!("{:40} {:12} {:12} {}", health.state, health.flux, health.argo, health.argo_message);
        }
    }
    let missed: Vec<&&str> = expected.iter().filter(|name| !seen.iter().any(|row| row[0] == **name)).collect();
    assert!(missed.is_empty(), "states that did not occur: {missed:?}");
    Ok(())
}
