//! Health of a MeshInstallation in Flux and Argo CD: every recorded state is evaluated with Flux's kstatus library and
//! with the health script in Argo CD's Lua interpreter, and compared with the table in docs/gitops.md.

mod examples;
mod states;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use meshwright_api::conditions::{ConditionType, get, is_true};
use meshwright_api::{MeshInstallation, Phase};
use meshwright_e2e::{Programs, TestResult};
use serde::Deserialize;
use serde_json::{Value, json};

/// Path of a file in the repository.
pub(crate) fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Health of one state.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HealthResult {
    state: String,
    /// Status of kstatus.
    flux: String,
    flux_message: String,
    /// Health status of Argo CD.
    argo: String,
    argo_message: String,
}

/// Evaluates the health of recorded objects, each with the name of its state.
fn evaluate_health(states: &[(String, Value)]) -> TestResult<Vec<HealthResult>> {
    let mut program = Command::new(Programs::find()?.path("gitops-health"))
        .arg("health")
        .arg(file("config/gitops/argocd/health.lua"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = program.stdin.take().ok_or("no input")?;
    let lines: Vec<String> =
        states.iter().map(|(state, object)| json!({"state": state, "object": object}).to_string()).collect();
    // The program writes while it reads, so the pipes need separate threads.
    let writer = std::thread::spawn(move || input.write_all(lines.join("\n").as_bytes()));
    let output = program.wait_with_output()?;
    writer.join().map_err(|_| "the writer panicked")??;
    assert!(output.status.success(), "gitops-health failed");
    let results: Vec<HealthResult> =
        serde_json::Deserializer::from_slice(&output.stdout).into_iter::<HealthResult>().collect::<Result<_, _>>()?;
    assert_eq!(results.len(), states.len());
    Ok(results)
}

/// Rows of the documented table: state, Flux, Argo CD.
fn documented_health() -> TestResult<BTreeSet<[String; 3]>> {
    let text = std::fs::read_to_string(file("docs/gitops.md"))?;
    let lines = text.lines().skip_while(|line| !line.starts_with("| state | Flux | Argo CD |")).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|')).map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
        [(); 3].map(|()| cells.next().unwrap_or_default())
    });
    Ok(rows.collect())
}

/// The documented state of an installation, derived from its status.
fn state(object: &Value) -> TestResult<&'static str> {
    let installation: MeshInstallation = serde_json::from_value(object.clone())?;
    let status = installation.status.unwrap_or_default();
    if installation.metadata.deletion_timestamp.is_some() {
        return Ok("uninstalling");
    }
    if Some(status.observed_generation) != installation.metadata.generation {
        return Ok("not reconciled yet");
    }
    let ready = get(&status.conditions, ConditionType::Ready).ok_or("status has no Ready condition")?;
    let stalled = is_true(&status.conditions, ConditionType::Stalled);
    Ok(match (status.phase, ready.status.as_str(), ready.reason.as_str()) {
        (_, "False", "RolledBack") => "rolled back",
        (_, "False", "Halted") => "halted",
        (_, "False", _) if stalled => "action required",
        (Some(Phase::Paused), "True", _) => "paused, healthy",
        (Some(Phase::Paused), "False", _) => "paused, degraded",
        (Some(Phase::Paused), "Unknown", _) => "paused, spec not applied",
        (Some(Phase::Pending | Phase::Installing), "Unknown", _) => "installing",
        (Some(Phase::Updating), "Unknown", _) => "rollout in progress",
        (Some(Phase::RollingBack), "Unknown", _) => "rolling back",
        (Some(Phase::Degraded), "False", _) => "degraded",
        (Some(Phase::Ready), "True", _) => "healthy",
        _ => return Err(format!("undocumented state: {:?} {ready:?}", status.phase).into()),
    })
}
