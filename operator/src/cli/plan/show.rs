//! A plan as a person would like to read it. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::super::lines::lines;
use super::super::text::{BAD, CARE, GOOD, LABEL, TITLE, WIDTH, clean, paint, sum, wrap};
use crate::mesh::fields::FieldChange;
use crate::mesh::object::ObjectKey;
use crate::planning::objects::{ObjectAction, ObjectChange};
use crate::planning::rollouts::{PodsAction, Rollout};
use crate::planning::{Report, Verdict};

/// A change of a label or an annotation that so many objects have alike is told once.
const ALIKE: usize = 4;

/// The whole report.
pub(super) fn text(report: &Report) -> String {
    let mut text = format!("{}\n", paint(TITLE, &head(report)));
    for refused in &report.refusals {
        let _ = writeln!(
            text,
            "{} {}",
            paint(BAD, "REFUSED"),
            sentence(&format!("{}: {}", refused.reason.as_str(), refused.message), 8)
        );
    }
    for note in &report.notes {
        let _ = writeln!(text, "{} {}", paint(CARE, "NOTE"), sentence(note, 5));
    }
    if !report.changes.is_empty() {
        text.push('\n');
        objects(&report.changes, &mut text);
    }
    if !report.rollouts.is_empty() {
        let _ = writeln!(text, "\n{}", paint(TITLE, "Pods"));
        for rollout in &report.rollouts {
            let _ = writeln!(text, "  {}", sentence(&rolls(rollout), 4));
        }
    }
    if !report.steps.is_empty() {
        let _ = writeln!(text, "\n{}", paint(TITLE, "Steps, each of which waits until what it has changed is ready"));
        for (number, step) in report.steps.iter().enumerate() {
            let writes =
                if step.writes.is_empty() { "proves that pods get a proxy".to_owned() } else { step.writes.join(", ") };
            let note = step.note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
            let _ = writeln!(text, "  {}. {}", number + 1, sentence(&format!("{}: {writes}{note}", step.step), 5));
        }
    }
    let _ = writeln!(text, "\n{}", paint(TITLE, &outcome(report)));
    text
}

fn head(report: &Report) -> String {
    let Report { installation, running, wanted, platform, .. } = report;
    let from = running.as_ref().filter(|running| *running != wanted).map(|running| format!("{running} -> "));
    clean(&format!("MeshInstallation {installation}, Istio {}{wanted}, platform {platform}", from.unwrap_or_default()))
}

fn sentence(text: &str, indent: usize) -> String {
    wrap(&clean(text), WIDTH - indent).join(&format!("\n{:indent$}", ""))
}

fn named(key: &ObjectKey) -> String {
    clean(&key.to_string())
}

fn objects(changes: &[ObjectChange], text: &mut String) {
    let alike = alike(changes);
    let is_alike = |field: &FieldChange| alike.contains_key(&marked(field));
    let mut plain: Vec<&ObjectKey> = Vec::new();
    for change in changes {
        let (sign, style) = match change.action {
            ObjectAction::Create => ("+", GOOD),
            ObjectAction::Update => ("~", CARE),
            ObjectAction::Delete => ("-", BAD),
        };
        if change.action == ObjectAction::Update && change.fields.iter().all(is_alike) {
            plain.push(&change.key);
            continue;
        }
        let _ = writeln!(text, "{} {}", paint(style, sign), paint(TITLE, &named(&change.key)));
        for line in change.fields.iter().filter(|field| !is_alike(field)).flat_map(lines) {
            let _ = writeln!(text, "    {line}");
        }
    }
    if alike.is_empty() {
        return;
    }
    let _ = writeln!(text, "{} {}", paint(CARE, "~"), paint(TITLE, "alike on many objects"));
    for (field, count) in alike.values() {
        for line in lines(field) {
            let _ = writeln!(text, "    {line} {}", paint(LABEL, &format!("({count} objects)")));
        }
    }
    if !plain.is_empty() {
        let _ = writeln!(text, "    {}", sentence(&format!("and nothing else on {}", together(plain)), 4));
    }
}

/// `ConfigMap a, b; Service x/c`
fn together(mut keys: Vec<&ObjectKey>) -> String {
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

/// What tells changes of labels and annotations apart.
fn marked(field: &FieldChange) -> (String, String) {
    (field.path.clone(), format!("{:?} {:?}", field.old, field.new))
}

/// The changes of labels and annotations that many objects have alike, and how many have them.
fn alike(changes: &[ObjectChange]) -> BTreeMap<(String, String), (&FieldChange, usize)> {
    let mut counted: BTreeMap<(String, String), (&FieldChange, usize)> = BTreeMap::new();
    for field in changes.iter().flat_map(|change| &change.fields) {
        if ["metadata.labels", "metadata.annotations"].iter().any(|table| field.path.starts_with(table)) {
            counted.entry(marked(field)).or_insert((field, 0)).1 += 1;
        }
    }
    counted.retain(|_, (_, count)| *count >= ALIKE);
    counted
}

fn rolls(rollout: &Rollout) -> String {
    let what = match rollout.action {
        PodsAction::Start => "starts",
        PodsAction::Roll => "rolls, each of its pods is replaced",
        PodsAction::Scale => "scales, pods that stay are not touched",
        PodsAction::End => "ends",
    };
    format!("{} {}/{} {what}: {}", rollout.kind, rollout.namespace, rollout.name, rollout.because)
}

/// `1 to create, 2 to change, 1 to delete; 1 workload rolls`.
fn outcome(report: &Report) -> String {
    let count = |action| report.changes.iter().filter(|change| change.action == action).count();
    let mut told = sum([
        (count(ObjectAction::Create), "to create"),
        (count(ObjectAction::Update), "to change"),
        (count(ObjectAction::Delete), "to delete"),
    ]);
    if told.is_empty() {
        "nothing to change".clone_into(&mut told);
    }
    let rolling = report.rollouts.iter().filter(|rollout| rollout.action == PodsAction::Roll).count();
    match rolling {
        0 => {}
        1 => told.push_str("; 1 workload rolls"),
        many => {
            let _ = write!(told, "; {many} workloads roll");
        }
    }
    if report.marks_only > 0 {
        let _ = write!(told, "; {} get the operator's marks and nothing else", report.marks_only);
    }
    match report.verdict {
        Verdict::Refused => format!("the operator would write nothing of it: {told}"),
        Verdict::Nothing | Verdict::Changes => told,
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
    use crate::planning::path::PathStep;

    fn field(path: &str, old: i32, new: i32) -> FieldChange {
        FieldChange { path: path.into(), action: FieldAction::Changed, old: Some(json!(old)), new: Some(json!(new)) }
    }

    fn change(action: ObjectAction, kind: Kind, name: &str, fields: Vec<FieldChange>) -> ObjectChange {
        let key = ObjectKey { kind, namespace: Some("istio-system".into()), name: name.into() };
        ObjectChange { action, key, component: None, fields }
    }

    fn report(changes: Vec<ObjectChange>) -> Report {
        Report {
            installation: "mesh".into(),
            running: Some("1.31.2".into()),
            wanted: "1.31.2".into(),
            platform: "generic".into(),
            verdict: if changes.is_empty() { Verdict::Nothing } else { Verdict::Changes },
            refusals: Vec::new(),
            rollouts: crate::planning::rollouts::rollouts(&changes),
            changes,
            marks_only: 0,
            steps: Vec::new(),
            objects: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn shown(report: &Report) -> String {
        anstream::adapter::strip_str(&text(report)).to_string()
    }

    #[test]
    fn objects_fields_pods_and_a_sum_are_told_in_this_order() {
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
  Deployment istio-system/istiod scales, pods that stay are not touched: spec.replicas changes

1 to create, 1 to change, 1 to delete
";
        assert_eq!(shown(&report(changes)), expected);
    }

    #[test]
    fn a_label_that_changes_alike_on_many_objects_is_told_once() {
        let label = |name: &str, more: Vec<FieldChange>| {
            let fields = [vec![field("metadata.labels.version", 1, 2)], more].concat();
            change(ObjectAction::Update, Kind::ConfigMap, name, fields)
        };
        let mut changes: Vec<ObjectChange> = ["a", "b", "c"].into_iter().map(|name| label(name, vec![])).collect();
        changes.push(label("d", vec![field("data.x", 3, 4)]));
        let text = shown(&report(changes));
        assert_eq!(text.matches("metadata.labels.version: 1 -> 2 (4 objects)").count(), 1, "{text}");
        assert!(text.contains("~ ConfigMap istio-system/d\n    ~ data.x: 3 -> 4\n"), "{text}");
        assert!(text.contains("and nothing else on ConfigMap istio-system/a, istio-system/b"), "{text}");
    }

    #[test]
    fn the_steps_of_a_move_are_numbered() {
        let mut report =
            report(vec![change(ObjectAction::Update, Kind::Deployment, "istiod", vec![field("spec.x", 1, 2)])]);
        let step = |step: &str, writes: &[&str]| PathStep {
            step: step.into(),
            writes: writes.iter().map(|name| (*name).to_owned()).collect(),
            note: None,
        };
        report.steps = vec![step("ControlPlane", &["Deployment istio-system/istiod"]), step("Injection", &[])];
        report.steps[0].note = Some("for 5m".into());
        let text = shown(&report);
        let expected = "is ready\n  1. ControlPlane: Deployment istio-system/istiod; for 5m\n  2. Injection: proves that pods get a proxy\n";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn where_there_is_nothing_to_do_that_is_all_there_is_to_say() {
        assert_eq!(
            shown(&report(vec![])),
            "MeshInstallation mesh, Istio 1.31.2, platform generic\n\nnothing to change\n"
        );
    }

    #[test]
    fn a_move_and_why_it_is_refused_come_first() {
        let mut report = report(vec![change(ObjectAction::Create, Kind::Service, "new", vec![])]);
        report.wanted = "1.33.0".into();
        report.verdict = Verdict::Refused;
        report.refusals.push(Blocker { reason: Reason::VersionNotSupported, message: "one minor at a time".into() });
        let text = shown(&report);
        assert!(
            text.starts_with("MeshInstallation mesh, Istio 1.31.2 -> 1.33.0, platform generic\nREFUSED Version"),
            "{text}"
        );
        assert!(text.ends_with("the operator would write nothing of it: 1 to create\n"), "{text}");
    }
}
