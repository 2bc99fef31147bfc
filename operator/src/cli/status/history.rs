//! `meshwright status --history`: the specs that the operator has accepted, what became of each, and what it changed. The
//! operator's ControllerRevisions are all that there is of it; the oldest are dropped.

use std::fmt::Write as _;

use jiff::Timestamp;
use kube::{Client, ResourceExt as _};
use meshwright_api::MeshInstallation;
use serde::Serialize;
use serde_json::{Value, json};

use super::super::lines::lines;
use super::super::text::{BAD, CARE, GOOD, LABEL, PLAIN, TITLE, clean, paint};
use super::StatusError;
use crate::apply::Revisions;
use crate::mesh::fields::FieldChange;
use crate::mesh::revision::{Record, Verdict};
use crate::planning::inputs::input_changes;

/// Of the JSON form; rises when a field changes its meaning or goes.
const FORMAT: u8 = 1;

/// What is remembered of one installation, oldest first.
#[derive(Debug, Serialize)]
pub(super) struct History {
    name: String,
    history: Vec<Entry>,
}

/// One accepted spec.
#[derive(Debug, Serialize)]
struct Entry {
    /// Rises by one with each change.
    number: i64,
    /// Name of the ControllerRevision.
    record: String,
    /// When it was accepted for the first time.
    accepted: Option<Timestamp>,
    /// The exact release.
    version: String,
    /// What became of it.
    verdict: Verdict,
    /// Why it failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    /// It belongs to an earlier installation of that name.
    earlier: bool,
    /// What it changed, compared with the one before it.
    changes: Vec<FieldChange>,
}

/// Reads what is remembered of these installations.
pub(super) async fn read(
    client: &Client,
    operator_namespace: &str,
    meshes: &[MeshInstallation],
) -> Result<Vec<History>, StatusError> {
    let revisions = Revisions::new(client.clone(), operator_namespace);
    let mut all = Vec::new();
    for mesh in meshes {
        let name = mesh.name_any();
        let records = revisions.history(&name).await.map_err(StatusError::History)?;
        all.push(History { name, history: entries(&records, &mesh.uid().unwrap_or_default()) });
    }
    Ok(all)
}

fn entries(records: &[(Record, Option<Timestamp>)], uid: &str) -> Vec<Entry> {
    let before = std::iter::once(None).chain(records.iter().map(|(record, _)| Some(record)));
    let entry = |((record, accepted), before): (&(Record, Option<Timestamp>), Option<&Record>)| Entry {
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

/// The JSON form.
pub(super) fn object(histories: &[History]) -> Value {
    json!({"format": FORMAT, "installations": histories})
}

/// As a person would like to read it.
pub(super) fn text(histories: &[History]) -> String {
    let mut text = String::new();
    for History { name, history } in histories {
        let gap = if text.is_empty() { "" } else { "\n" };
        let _ = writeln!(text, "{gap}{}", paint(TITLE, &format!("MeshInstallation {name}")));
        if history.is_empty() {
            text.push_str("  nothing is remembered of it; --operator-namespace names where the operator runs\n");
        }
        let widest = |of: fn(&Entry) -> usize| history.iter().map(of).max().unwrap_or_default();
        let (number, version) = (widest(|entry| entry.number.to_string().len()), widest(|entry| entry.version.len()));
        for entry in history {
            let style = match entry.verdict {
                Verdict::Proved => GOOD,
                Verdict::Superseded => PLAIN,
                Verdict::Pending => CARE,
                Verdict::Failed | Verdict::RolledBack => BAD,
            };
            let accepted = entry.accepted.map(|at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()).unwrap_or_default();
            let earlier = if entry.earlier { ", of an earlier MeshInstallation of that name" } else { "" };
            let failure = entry.failure.as_ref().map(|why| format!(": {}", clean(why))).unwrap_or_default();
            let verdict = format!("{}{earlier}{failure}", entry.verdict.as_str());
            let _ = writeln!(
                text,
                "  {:>number$}  {}  {:version$}  {}",
                entry.number,
                paint(LABEL, &accepted),
                entry.version,
                paint(style, &verdict)
            );
            for line in entry.changes.iter().flat_map(lines) {
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
    use crate::mesh::revision::ResolvedInputs;
    use crate::nodeports::Pins;
    use crate::platform::Detected;

    fn record(number: i64, version: &str, verdict: Verdict) -> (Record, Option<Timestamp>) {
        let spec: MeshInstallationSpec = serde_json::from_value(json!({"version": version})).unwrap();
        let inputs = ResolvedInputs {
            spec,
            version: version.parse().unwrap(),
            charts: [("istiod".to_owned(), format!("sha256:{number}"))].into(),
            kubernetes: "v1.33.0".into(),
            revision: None,
            platform: Detected::default(),
            node_ports: Pins::default(),
        };
        let failure = (verdict == Verdict::RolledBack).then(|| "no image".to_owned());
        let record = Record { name: format!("mesh-{number}"), number, inputs, verdict, failure, uid: "u".into() };
        (record, Timestamp::from_second(1_795_255_200 + 60 * number).ok())
    }

    #[test]
    fn each_spec_is_told_with_what_it_changed_since_the_one_before() {
        let records = [record(9, "1.31.1", Verdict::Superseded), record(10, "1.31.2", Verdict::Proved)];
        let histories = [History { name: "mesh".into(), history: entries(&records, "u") }];
        let expected = "\
MeshInstallation mesh
   9  2026-11-21 10:09:00Z  1.31.1  superseded
  10  2026-11-21 10:10:00Z  1.31.2  proved
      ~ charts.istiod: sha256:9 -> sha256:10
      ~ spec.version: 1.31.1 -> 1.31.2
      ~ version: 1.31.1 -> 1.31.2
";
        assert_eq!(anstream::adapter::strip_str(&text(&histories)).to_string(), expected);
        let shown = object(&histories);
        assert_eq!(shown["installations"][0]["history"][1]["changes"][1]["path"], "spec.version");
    }

    #[test]
    fn what_failed_says_why_and_what_belongs_to_an_earlier_installation_says_so() {
        let histories =
            [History { name: "mesh".into(), history: entries(&[record(1, "1.31.1", Verdict::Proved)], "v") }];
        assert!(text(&histories).contains("of an earlier MeshInstallation"));
        let failed =
            [History { name: "mesh".into(), history: entries(&[record(1, "1.31.1", Verdict::RolledBack)], "u") }];
        assert!(anstream::adapter::strip_str(&text(&failed)).to_string().ends_with("rolled-back: no image\n"));
        let none = [History { name: "mesh".into(), history: Vec::new() }];
        assert!(text(&none).contains("--operator-namespace"));
    }
}
