//! Formats a plan as text. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::super::field_diff::format_change;
use super::super::text::{BAD, GOOD, LABEL, TITLE, WARNING, WIDTH, clean, format_counts, paint, wrap};
use crate::mesh::fields::FieldChange;
use crate::mesh::object::ObjectKey;
use crate::planning::objects::{ObjectAction, ObjectChange};
use crate::planning::rollouts::{PodsAction, Rollout};
use crate::planning::{PlanReport, PlanVerdict};

/// A label or annotation change that at least this many objects share is shown once.
const MIN_SHARED: usize = 4;

/// Formats the report.
pub(super) fn text(report: &PlanReport) -> String {
    let mut text = format!("{}\n", paint(TITLE, &header(report)));
    for refusal in &report.refusals {
        let _ = writeln!(
            text,
            "{} {}",
            paint(BAD, "REFUSED"),
            paragraph(&format!("{}: {}", refusal.reason.as_str(), refusal.message), 8)
        );
    }
    for note in &report.notes {
        let _ = writeln!(text, "{} {}", paint(WARNING, "NOTE"), paragraph(note, 5));
    }
    if !report.changes.is_empty() {
        text.push('\n');
        write_objects(&report.changes, &mut text);
    }
    if !report.rollouts.is_empty() {
        let _ = writeln!(text, "\n{}", paint(TITLE, "Pods"));
        for rollout in &report.rollouts {
            let _ = writeln!(text, "  {}", paragraph(&rollout_text(rollout), 4));
        }
    }
    if !report.steps.is_empty() {
        let _ = writeln!(text, "\n{}", paint(TITLE, "Upgrade steps (each waits until its changes are ready)"));
        for (number, step) in report.steps.iter().enumerate() {
            let writes = if step.writes.is_empty() {
                "checks with a dry-run pod that sidecars are injected".to_owned()
            } else {
                step.writes.join(", ")
            };
            let note = step.note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
            let _ = writeln!(text, "  {}. {}", number + 1, paragraph(&format!("{}: {writes}{note}", step.step), 5));
        }
    }
    let _ = writeln!(text, "\n{}", paint(TITLE, &summary(report)));
    text
}

fn header(report: &PlanReport) -> String {
    let PlanReport { installation, running, wanted, platform, .. } = report;
    let from = running.as_ref().filter(|running| *running != wanted).map(|running| format!("{running} -> "));
    clean(&format!("MeshInstallation {installation}, Istio {}{wanted}, platform {platform}", from.unwrap_or_default()))
}

fn paragraph(text: &str, indent: usize) -> String {
    wrap(&clean(text), WIDTH - indent).join(&format!("\n{:indent$}", ""))
}

fn key_text(key: &ObjectKey) -> String {
    clean(&key.to_string())
}

fn write_objects(changes: &[ObjectChange], text: &mut String) {
    let shared_changes = shared_changes(changes);
    let is_shared = |field: &FieldChange| shared_changes.contains_key(&change_id(field));
    let mut only_shared: Vec<&ObjectKey> = Vec::new();
    for change in changes {
        let (sign, style) = match change.action {
            ObjectAction::Create => ("+", GOOD),
            ObjectAction::Update => ("~", WARNING),
            ObjectAction::Delete => ("-", BAD),
        };
        if change.action == ObjectAction::Update && change.fields.iter().all(is_shared) {
            only_shared.push(&change.key);
            continue;
        }
        let _ = writeln!(text, "{} {}", paint(style, sign), paint(TITLE, &key_text(&change.key)));
        for line in change.fields.iter().filter(|field| !is_shared(field)).flat_map(format_change) {
            let _ = writeln!(text, "    {line}");
        }
    }
    if shared_changes.is_empty() {
        return;
    }
    let _ = writeln!(text, "{} {}", paint(WARNING, "~"), paint(TITLE, "changes shared by many objects"));
    for (field, count) in shared_changes.values() {
        for line in format_change(field) {
            let _ = writeln!(text, "    {line} {}", paint(LABEL, &format!("({count} objects)")));
        }
    }
    if !only_shared.is_empty() {
        let _ = writeln!(text, "    {}", paragraph(&format!("no other changes: {}", group_by_kind(only_shared)), 4));
    }
}

/// `ConfigMap a, b; Service x/c`
fn group_by_kind(mut keys: Vec<&ObjectKey>) -> String {
    keys.sort();
    let of_kind = |keys: &[&ObjectKey]| {
        let kind = keys.first().map(|key| key.kind.name()).unwrap_or_default();
        let names = keys.iter().map(|key| match &key.namespace {
            Some(namespace) => format!("{namespace}/{}", key.name),
            None => key.name.clone(),
        });
        format!("{kind} {}", names.collect::<Vec<_>>().join(", "))
    };
    keys.chunk_by(|a, b| a.kind == b.kind).map(of_kind).collect::<Vec<_>>().join("; ")
}

/// Identifies a change of a label or annotation.
fn change_id(field: &FieldChange) -> (String, String) {
    (field.path.clone(), format!("{:?} {:?}", field.old, field.new))
}

/// Label and annotation changes that many objects share, with the number of objects.
fn shared_changes(changes: &[ObjectChange]) -> BTreeMap<(String, String), (&FieldChange, usize)> {
    let mut counted: BTreeMap<(String, String), (&FieldChange, usize)> = BTreeMap::new();
    for field in changes.iter().flat_map(|change| &change.fields) {
        if ["metadata.labels", "metadata.annotations"].iter().any(|table| field.path.starts_with(table)) {
            counted.entry(change_id(field)).or_insert((field, 0)).1 += 1;
        }
    }
    counted.retain(|_, (_, count)| *count >= MIN_SHARED);
    counted
}

fn rollout_text(rollout: &Rollout) -> String {
    let what = match rollout.action {
        PodsAction::Start => "starts",
        PodsAction::Roll => "rolls, replacing all pods",
        PodsAction::Scale => "scales without replacing pods",
        PodsAction::End => "is deleted",
    };
    format!("{} {}/{} {what}: {}", rollout.kind, rollout.namespace, rollout.name, rollout.because)
}

/// `1 to create, 2 to change, 1 to delete; 1 workload rolls`.
fn summary(report: &PlanReport) -> String {
    let count = |action| report.changes.iter().filter(|change| change.action == action).count();
    let mut summary = format_counts([
        (count(ObjectAction::Create), "to create"),
        (count(ObjectAction::Update), "to change"),
        (count(ObjectAction::Delete), "to delete"),
    ]);
    if summary.is_empty() {
        "no changes".clone_into(&mut summary);
    }
    let rolling = report.rollouts.iter().filter(|rollout| rollout.action == PodsAction::Roll).count();
    match rolling {
        0 => {}
        1 => summary.push_str("; 1 workload rolls"),
        many => {
            let _ = write!(summary, "; {many} workloads roll");
        }
    }
    if report.metadata_only > 0 {
        let _ = write!(summary, "; {} with changed ownership labels only", report.metadata_only);
    }
    match report.verdict {
        PlanVerdict::Refused => format!("rejected, the operator would change nothing: {summary}"),
        PlanVerdict::Nothing | PlanVerdict::Changes => summary,
    }
}

#[cfg(test)]
mod tests {
    use meshwright_api::conditions::Reason;
    use serde_json::json;

    use super::*;
    use crate::mesh::fields::FieldAction;
    use crate::mesh::health::Blocker;
    use crate::mesh::kind::Kind;
    use crate::planning::steps::PlannedStep;

    fn field(path: &str, old: i32, new: i32) -> FieldChange {
        FieldChange { path: path.into(), action: FieldAction::Changed, old: Some(json!(old)), new: Some(json!(new)) }
    }

    fn change(action: ObjectAction, kind: Kind, name: &str, fields: Vec<FieldChange>) -> ObjectChange {
        let key = ObjectKey { kind, namespace: Some("istio-system".into()), name: name.into() };
        ObjectChange { action, key, component: None, fields }
    }

    fn report(changes: Vec<ObjectChange>) -> PlanReport {
        PlanReport {
            installation: "mesh".into(),
            running: Some("1.31.2".into()),
            wanted: "1.31.2".into(),
            platform: "generic".into(),
            verdict: if changes.is_empty() { PlanVerdict::Nothing } else { PlanVerdict::Changes },
            refusals: Vec::new(),
            rollouts: crate::planning::rollouts::rollouts(&changes),
            changes,
            metadata_only: 0,
            steps: Vec::new(),
            objects: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn plain_text(report: &PlanReport) -> String {
        anstream::adapter::strip_str(&text(report)).to_string()
    }

    #[test]
    fn shows_objects_fields_pods_and_summary() {
        let changes = vec![
            change(ObjectAction::Create, Kind::PodDisruptionBudget, "istiod", vec![]),
            change(ObjectAction::Update, Kind::Deployment, "istiod", vec![field("spec.replicas", 1, 2)]),
            change(ObjectAction::Delete, Kind::Service, "old", vec![]),
        ];
        let expected = "\
MeshInstallation mesh, Istio 1.31.2, platform generic

+ PodDisruptionBudget istio-system/istiod
~ Deployment istio-system/istiod
    ~ spec.replicas: 1 -> 2
- Service istio-system/old

Pods
  Deployment istio-system/istiod scales without replacing pods: spec.replicas changes

1 to create, 1 to change, 1 to delete
";
        assert_eq!(plain_text(&report(changes)), expected);
    }

    #[test]
    fn shows_shared_label_changes_once() {
        let label = |name: &str, more: Vec<FieldChange>| {
            let fields = [vec![field("metadata.labels.version", 1, 2)], more].concat();
            change(ObjectAction::Update, Kind::ConfigMap, name, fields)
        };
        let mut changes: Vec<ObjectChange> = ["a", "b", "c"].into_iter().map(|name| label(name, vec![])).collect();
        changes.push(label("d", vec![field("data.x", 3, 4)]));
        let text = plain_text(&report(changes));
        assert_eq!(text.matches("metadata.labels.version: 1 -> 2 (4 objects)").count(), 1, "{text}");
        assert!(text.contains("~ ConfigMap istio-system/d\n    ~ data.x: 3 -> 4\n"), "{text}");
        assert!(text.contains("no other changes: ConfigMap istio-system/a, istio-system/b"), "{text}");
    }

    #[test]
    fn numbers_upgrade_steps() {
        let mut report =
            report(vec![change(ObjectAction::Update, Kind::Deployment, "istiod", vec![field("spec.x", 1, 2)])]);
        let step = |step: &str, writes: &[&str]| PlannedStep {
            step: step.into(),
            writes: writes.iter().map(|name| (*name).to_owned()).collect(),
            note: None,
        };
        report.steps = vec![step("ControlPlane", &["Deployment istio-system/istiod"]), step("InjectionCheck", &[])];
        report.steps[0].note = Some("for 5m".into());
        let text = plain_text(&report);
        let expected = "are ready)\n  1. ControlPlane: Deployment istio-system/istiod; for 5m\n  2. InjectionCheck: \
                        checks with a dry-run pod that sidecars are injected\n";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn shows_no_changes() {
        assert_eq!(
            plain_text(&report(vec![])),
            "MeshInstallation mesh, Istio 1.31.2, platform generic\n\nno changes\n"
        );
    }

    #[test]
    fn shows_rejection_first() {
        let mut report = report(vec![change(ObjectAction::Create, Kind::Service, "new", vec![])]);
        report.wanted = "1.33.0".into();
        report.verdict = PlanVerdict::Refused;
        report.refusals.push(Blocker { reason: Reason::VersionNotSupported, message: "one minor at a time".into() });
        let text = plain_text(&report);
        assert!(
            text.starts_with("MeshInstallation mesh, Istio 1.31.2 -> 1.33.0, platform generic\nREFUSED Version"),
            "{text}"
        );
        assert!(text.ends_with("rejected, the operator would change nothing: 1 to create\n"), "{text}");
    }
}
