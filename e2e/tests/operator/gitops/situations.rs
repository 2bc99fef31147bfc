//! The situations of a mesh's life, each gone through, and judged in every state that was seen.

use std::collections::BTreeSet;

use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams};
use meshwright_api::conditions::ConditionType;
use meshwright_e2e::mesh::{LAB_1_31, LAB_1_32, Mesh, NAME, VERSION, small};
use meshwright_e2e::witness::{Seen, Witness};
use meshwright_e2e::{Fault, Lab, LabOptions, TestResult, run};
use serde_json::{Value, json};

use super::{judge, situation, table};
use crate::upgrades::rolled_out;

const MESHES: &str = "MeshInstallation";
const DEPLOYMENTS: &str = "Deployment";

/// What a mesh goes through that isn't upgraded.
const LIFE: [&str; 9] = [
    "applied, not looked at yet",
    "being installed",
    "healthy",
    "a person must act",
    "was healthy, is broken",
    "paused, all in place",
    "paused, and broken",
    "paused before the spec was in place",
    "being removed",
];
/// What it goes through when it is.
const UPGRADE: [&str; 4] = ["a change is rolled out", "going back to what ran before", "rolled back", "halted"];

#[test]
fn every_row_of_the_documents_table_is_gone_through() {
    let rows: BTreeSet<String> = table().unwrap().into_iter().map(|[situation, ..]| situation).collect();
    assert_eq!(rows, LIFE.into_iter().chain(UPGRADE).map(str::to_owned).collect());
}

#[test]
fn flux_and_argo_cd_see_a_meshs_life_as_the_document_says() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let (mesh, witness) = begin(lab).await?;
        let paused = |mut spec: Value, paused: bool| {
            spec["paused"] = paused.into();
            spec
        };
        let goes_to = async |spec: Value, ready: &str, reason: Option<&str>| -> TestResult {
            mesh.apply(NAME, spec).await?;
            mesh.wait_for(NAME, ConditionType::Ready, ready, reason).await?;
            Ok(())
        };
        goes_to(paused(small(), true), "Unknown", Some("Paused")).await?;
        goes_to(small(), "True", None).await?;
        goes_to(json!({"version": "1.31.7"}), "False", Some("VersionNotInCatalog")).await?;
        goes_to(small(), "True", None).await?;

        lab.break_istiod(VERSION, Fault::NeverReady)?;
        let pods = mesh.api("v1", "Pod", Some("istio-system"));
        let istiods = pods.list(&ListParams::default().labels("app=istiod")).await?;
        for istiod in istiods {
            pods.delete(&istiod.name_any(), &DeleteParams::default().grace_period(0)).await?;
        }
        mesh.wait_for(NAME, ConditionType::Ready, "False", None).await?;
        goes_to(paused(small(), true), "False", None).await?;
        lab.mend_istiod(VERSION)?;
        mesh.wait_for(NAME, ConditionType::Ready, "True", Some("Paused")).await?;
        goes_to(small(), "True", Some("Healthy")).await?;
        mesh.delete(NAME, &DeleteParams::default()).await?;
        check(&witness, &LIFE).await
    });
}

#[test]
fn flux_and_argo_cd_see_upgrades_as_the_document_says() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let (mesh, witness) = begin(lab).await?;
        let spec = |version: &str, on_failure: &str, deadline: &str| {
            json!({
                "version": version, "profile": "demo",
                "upgrade": {"onFailure": on_failure, "progressDeadline": deadline},
            })
        };
        mesh.apply(NAME, spec(LAB_1_31, "Rollback", "90s")).await?;
        mesh.wait_ready(NAME).await?;
        lab.break_istiod(LAB_1_32, Fault::NeverStarts)?;
        mesh.apply(NAME, spec(LAB_1_32, "Halt", "10s")).await?;
        mesh.wait_for(NAME, ConditionType::Ready, "False", Some("Halted")).await?;
        mesh.apply(NAME, spec(LAB_1_32, "Rollback", "15s")).await?;
        mesh.wait_for(NAME, ConditionType::Ready, "False", Some("RolledBack")).await?;
        lab.mend_istiod(LAB_1_32)?;
        mesh.apply(NAME, spec(LAB_1_32, "Rollback", "90s")).await?;
        mesh.wait_for(NAME, ConditionType::Ready, "True", Some("Healthy")).await?;
        check(&witness, &UPGRADE).await
    });
}

async fn begin(lab: &Lab) -> TestResult<(Mesh, Witness)> {
    let mesh = Mesh::operator(lab).await?;
    let apis = [
        (MESHES, mesh.api("meshwright.dev/v1alpha1", "MeshInstallation", None)),
        (DEPLOYMENTS, mesh.api("apps/v1", "Deployment", Some("istio-system"))),
    ];
    Ok((mesh, Witness::of(apis).await?))
}

/// Has every state judged that was seen; checks the verdicts against the document's table, that the situations named were
/// among them, and that nobody says too early that the mesh is as it should be.
async fn check(witness: &Witness, through: &[&str]) -> TestResult {
    witness.caught_up().await?;
    let states: Vec<Seen> = witness.states(MESHES, NAME);
    let there: Vec<(&Seen, Value)> = states.iter().filter_map(|seen| Some((seen, seen.object.clone()?))).collect();
    let mut named = Vec::new();
    for (_, object) in &there {
        named.push((situation(object)?.to_owned(), object.clone()));
    }
    let rows = table()?;
    let (mut seen, mut was_good) = (BTreeSet::new(), false);
    for ((state, object), verdict) in there.iter().zip(judge(&named)?) {
        let row = [verdict.situation.clone(), verdict.flux.clone(), verdict.argo.clone()];
        assert!(rows.contains(&row), "{verdict:?} of {object:#}");
        assert!(!verdict.flux_message.is_empty() && !verdict.argo_message.is_empty(), "{verdict:?}");
        let good = verdict.flux == "Current" || verdict.argo == "Healthy";
        if good && !was_good {
            let istiod = witness.before(DEPLOYMENTS, "istiod", state.version).ok_or("no istiod")?;
            let version = object["spec"]["version"].as_str().unwrap_or_default();
            assert!(rolled_out(&istiod, version), "{verdict:?} too early: {istiod:?}");
        }
        was_good = good;
        if seen.insert(row) {
            println!("{:40} {:12} {:12} {}", verdict.situation, verdict.flux, verdict.argo, verdict.argo_message);
        }
    }
    let missed: Vec<&&str> = through.iter().filter(|name| !seen.iter().any(|row| row[0] == **name)).collect();
    assert!(missed.is_empty(), "never seen: {missed:?}");
    Ok(())
}
