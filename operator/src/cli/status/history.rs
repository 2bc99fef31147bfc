//! `meshwright status --history`: the revision history, from the operator's ControllerRevisions, with outcome and changes
//! of each revision. The operator deletes the oldest ones.

use std::fmt::Write as _;

use jiff::Timestamp;
use kube::{Client, ResourceExt as _};
use meshwright_api::MeshInstallation;
use serde::Serialize;
use serde_json::{Value, json};

use super::super::field_diff::format_change;
use super::super::text::{BAD, GOOD, LABEL, PLAIN, TITLE, WARNING, clean, paint};
use super::StatusError;
use crate::apply::RevisionHistory;
use crate::mesh::fields::FieldChange;
use crate::mesh::revision::{RevisionRecord, RevisionVerdict};
use crate::planning::inputs::input_changes;

/// Version of the JSON format; incremented when a field changes its meaning or is removed.
const FORMAT: u8 = 1;

/// The revision history of one MeshInstallation, oldest first.
#[derive(Debug, Serialize)]
pub(super) struct MeshHistory {
    name: String,
    history: Vec<HistoryEntry>,
}

/// A revision of the history.
#[derive(Debug, Serialize)]
struct HistoryEntry {
    /// Revision number, incremented with each change.
    number: i64,
    /// Name of the ControllerRevision.
    record: String,
    /// When the operator first accepted it.
    accepted: Option<Timestamp>,
    /// Exact Istio release.
    version: String,
    /// Outcome of the rollout.
    verdict: RevisionVerdict,
    /// The error, if the rollout failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    /// Whether it belongs to a deleted MeshInstallation with the same name.
    earlier: bool,
    /// Changes since the previous revision.
    changes: Vec<FieldChange>,
}

/// Reads the history of these MeshInstallations.
pub(super) async fn read(
    client: &Client,
    operator_namespace: &str,
    meshes: &[MeshInstallation],
) -> Result<Vec<MeshHistory>, StatusError> {
    let revisions = RevisionHistory::new(client.clone(), operator_namespace);
    let mut all = Vec::new();
    for mesh in meshes {
        let name = mesh.name_any();
        let records = revisions.history(&name).await.map_err(StatusError::History)?;
        all.push(MeshHistory { name, history: entries(&records, &mesh.uid().unwrap_or_default()) });
    }
    Ok(all)
}

fn entries(records: &[(RevisionRecord, Option<Timestamp>)], uid: &str) -> Vec<HistoryEntry> {
    let before = std::iter::once(None).chain(records.iter().map(|(record, _)| Some(record)));
    let entry =
        |((record, accepted), before): (&(RevisionRecord, Option<Timestamp>), Option<&RevisionRecord>)| HistoryEntry {
            number: record.number,
            record: record.name.clone(),
            accepted: *accepted,
            version: record.inputs.version.to_string(),
            verdict: record.verdict,
            failure: record.failure.clone(),
            earlier: record.uid != uid,
            changes: before.map(|before| input_changes(&before.inputs, &record.inputs)).unwrap_or_default(),
        };
    records.iter().zip(before).map(entry).collect()
}

/// The JSON output.
pub(super) fn object(histories: &[MeshHistory]) -> Value {
    json!({"format": FORMAT, "installations": histories})
}

/// The text output.
pub(super) fn text(histories: &[MeshHistory]) -> String {
    let mut text = String::new();
    for MeshHistory { name, history } in histories {
        let gap = if text.is_empty() { "" } else { "\n" };
        let _ = writeln!(text, "{gap}{}", paint(TITLE, &format!("MeshInstallation {name}")));
        if history.is_empty() {
            text.push_str("  no revisions found; is --operator-namespace the operator's namespace?\n");
        }
        let widest = |of: fn(&HistoryEntry) -> usize| history.iter().map(of).max().unwrap_or_default();
        let (number, version) = (widest(|entry| entry.number.to_string().len()), widest(|entry| entry.version.len()));
        for entry in history {
            let style = match entry.verdict {
                RevisionVerdict::Deployed => GOOD,
                RevisionVerdict::Superseded => PLAIN,
                RevisionVerdict::Pending => WARNING,
                RevisionVerdict::Failed | RevisionVerdict::RolledBack => BAD,
            };
            let accepted = entry.accepted.map(|at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()).unwrap_or_default();
            let earlier = if entry.earlier { " (deleted MeshInstallation with the same name)" } else { "" };
            let failure = entry.failure.as_ref().map(|error| format!(": {}", clean(error))).unwrap_or_default();
            let verdict = format!("{}{earlier}{failure}", entry.verdict.as_str());
            let _ = writeln!(
                text,
                "  {:>number$}  {}  {:version$}  {}",
                entry.number,
                paint(LABEL, &accepted),
                entry.version,
                paint(style, &verdict)
            );
            for line in entry.changes.iter().flat_map(format_change) {
                let _ = writeln!(text, "      {line}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use meshwright_api::MeshInstallationSpec;

    use super::*;

    fn record(number: i64, version: &str, verdict: RevisionVerdict) -> (RevisionRecord, Option<Timestamp>) {
        let spec: MeshInstallationSpec = serde_json::from_value(json!({"version": version})).unwrap();
        let mut record = RevisionRecord::sample(number, spec, version.parse().unwrap());
        record.inputs.charts = [("istiod".to_owned(), format!("sha256:{number}"))].into();
        record.verdict = verdict;
        record.failure = (verdict == RevisionVerdict::RolledBack).then(|| "no image".to_owned());
        (record, Timestamp::from_second(1_795_255_200 + 60 * number).ok())
    }

    #[test]
    fn shows_changes_since_previous_revision() {
        let records =
            [record(9, "1.31.1", RevisionVerdict::Superseded), record(10, "1.31.2", RevisionVerdict::Deployed)];
        let histories = [MeshHistory { name: "mesh".into(), history: entries(&records, "u") }];
        let expected = "\
MeshInstallation mesh
   9  2026-11-21 10:09:00Z  1.31.1  superseded
  10  2026-11-21 10:10:00Z  1.31.2  deployed
      ~ charts.istiod: sha256:9 -> sha256:10
      ~ spec.version: 1.31.1 -> 1.31.2
      ~ version: 1.31.1 -> 1.31.2
";
        assert_eq!(anstream::adapter::strip_str(&text(&histories)).to_string(), expected);
        let shown = object(&histories);
        assert_eq!(shown["installations"][0]["history"][1]["changes"][1]["path"], "spec.version");
    }

    #[test]
    fn shows_failures_and_earlier_installations() {
        let histories = [MeshHistory {
            name: "mesh".into(),
            history: entries(&[record(1, "1.31.1", RevisionVerdict::Deployed)], "v"),
        }];
        assert!(text(&histories).contains("deleted MeshInstallation"));
        let failed = [MeshHistory {
            name: "mesh".into(),
            history: entries(&[record(1, "1.31.1", RevisionVerdict::RolledBack)], "u"),
        }];
        assert!(anstream::adapter::strip_str(&text(&failed)).to_string().ends_with("rolled-back: no image\n"));
        let none = [MeshHistory { name: "mesh".into(), history: Vec::new() }];
        assert!(text(&none).contains("--operator-namespace"));
    }
}
