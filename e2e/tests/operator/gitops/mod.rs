//! What Flux and Argo CD make of a MeshInstallation: every state of it that a watch saw goes to Flux's own library and,
//! by our script, to Argo CD's interpreter. What they are to say is the table in docs/gitops.md.

mod examples;
mod situations;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use meshwright_api::conditions::{ConditionType, get, is_true};
use meshwright_api::{MeshInstallation, Phase};
use meshwright_e2e::{Programs, TestResult};
use serde::Deserialize;
use serde_json::{Value, json};

/// A file of the repository.
pub(crate) fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// What is said of one state.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Verdict {
    situation: String,
    /// Flux, as kstatus spells it.
    flux: String,
    flux_message: String,
    /// Argo CD.
    argo: String,
    argo_message: String,
}

/// Has states judged, each with the situation that it is.
fn judge(states: &[(String, Value)]) -> TestResult<Vec<Verdict>> {
    let mut judge = Command::new(Programs::find()?.path("gitops-judge"))
        .arg("health")
        .arg(file("config/gitops/argocd/health.lua"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = judge.stdin.take().ok_or("no input")?;
    let lines: Vec<String> =
        states.iter().map(|(of, object)| json!({"situation": of, "object": object}).to_string()).collect();
    // It answers while it reads.
    let writer = std::thread::spawn(move || input.write_all(lines.join("\n").as_bytes()));
    let output = judge.wait_with_output()?;
    writer.join().map_err(|_| "the writer panicked")??;
    assert!(output.status.success(), "gitops-judge failed");
    let verdicts: Vec<Verdict> =
        serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Verdict>().collect::<Result<_, _>>()?;
    assert_eq!(verdicts.len(), states.len());
    Ok(verdicts)
}

/// The rows of the document's table: situation, Flux, Argo CD.
fn table() -> TestResult<BTreeSet<[String; 3]>> {
    let text = std::fs::read_to_string(file("docs/gitops.md"))?;
    let lines = text.lines().skip_while(|line| !line.starts_with("| situation | Flux | Argo CD |")).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|')).map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
        [(); 3].map(|()| cells.next().unwrap_or_default())
    });
    Ok(rows.collect())
}

/// In which of the document's situations an installation is, by what the operator says of it.
fn situation(object: &Value) -> TestResult<&'static str> {
    let installation: MeshInstallation = serde_json::from_value(object.clone())?;
    let status = installation.status.unwrap_or_default();
    if installation.metadata.deletion_timestamp.is_some() {
        return Ok("being removed");
    }
    if Some(status.observed_generation) != installation.metadata.generation {
        return Ok("applied, not looked at yet");
    }
    let ready = get(&status.conditions, ConditionType::Ready).ok_or("a status without Ready")?;
    let stalled = is_true(&status.conditions, ConditionType::Stalled);
    Ok(match (status.phase, ready.status.as_str(), ready.reason.as_str()) {
        (_, "False", "RolledBack") => "rolled back",
        (_, "False", "Halted") => "halted",
        (_, "False", _) if stalled => "a person must act",
        (Some(Phase::Paused), "True", _) => "paused, all in place",
        (Some(Phase::Paused), "False", _) => "paused, and broken",
        (Some(Phase::Paused), "Unknown", _) => "paused before the spec was in place",
        (Some(Phase::Pending | Phase::Installing), "Unknown", _) => "being installed",
        (Some(Phase::Updating), "Unknown", _) => "a change is rolled out",
        (Some(Phase::RollingBack), "Unknown", _) => "going back to what ran before",
        (Some(Phase::Degraded), "False", _) => "was healthy, is broken",
        (Some(Phase::Ready), "True", _) => "healthy",
        _ => return Err(format!("a situation without a row: {:?} {ready:?}", status.phase).into()),
    })
}
