//! Why a plan can't be followed at all, in words.

use kube::runtime::events::EventType;
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::Reason;

use super::context::Context;
use crate::mesh::fields::{FieldAction, FieldChange, lies_in};
use crate::mesh::health::Blocker;
use crate::mesh::object::ObjectKey;
use crate::mesh::plan::{Action, Applied, Plan, Prepared, Refusal};
use crate::mesh::words::{count, few};

/// Values are told up to this many characters.
const LONGEST: usize = 80;

/// What objects that are there already have against the plan: those of others before those that would change by becoming
/// ours. `None` where there is nothing, or only a namespace that is going.
#[must_use]
pub fn in_the_way(prepared: &Plan<Prepared>) -> Option<Blocker> {
    let (mut foreign, mut changes, mut unchangeable) = (Vec::new(), Vec::new(), Vec::new());
    for refusal in &prepared.refusals {
        match refusal {
            Refusal::Foreign { key, holder: Some(holder) } => foreign.push(format!("{key} (of installation {holder})")),
            Refusal::Foreign { key, holder: None } => foreign.push(key.to_string()),
            Refusal::Differs { key, changes: of } => changes.extend(of.iter().map(|change| (key, change))),
            Refusal::OtherRelease { key, release } => unchangeable.push(other_release(key, &release.to_string())),
            Refusal::Selects { key, changes: of } => unchangeable.push(selects(key, of)),
            Refusal::Terminating(_) => {}
        }
    }
    // What replaces pods is what people ask for first.
    changes.sort_by_key(|(_, change)| !lies_in(&change.path, POD_TEMPLATE));
    let changes: Vec<String> = changes.into_iter().map(|(key, change)| field(key, change)).collect();
    let (reason, message) = match (foreign.as_slice(), unchangeable.as_slice(), changes.as_slice()) {
        ([], [], []) => return None,
        ([], [], _) => (Reason::AdoptionDiffers, format!("adoption would change {}; {DIFFERS_REMEDY}", few(&changes))),
        ([], _, _) => (Reason::AdoptionDiffers, format!("{}; nothing was written", few(&unchangeable))),
        _ => (
            Reason::ForeignObject,
            format!(
                "not ours: {}; delete or rename what is in the way, or take it over (spec.adoption); nothing was written",
                few(&foreign)
            ),
        ),
    };
    Some(Blocker { reason, message })
}

const POD_TEMPLATE: &str = "spec.template";

/// What to do where adoption would change something.
const DIFFERS_REMEDY: &str = "nothing was written: say so in the spec (meshwright adopt prints one that does), or set \
                              spec.adoption to Overwrite, which changes it";

/// That pods are of another release than the spec's.
#[must_use]
pub fn other_release(key: &ObjectKey, release: &str) -> String {
    format!("{key} is of release {release}: take it over with that in spec.version, and upgrade then")
}

/// That a workload selects other pods than the spec's.
#[must_use]
pub fn selects(key: &ObjectKey, changes: &[FieldChange]) -> String {
    let told: Vec<String> = changes.iter().map(|change| field(key, change)).collect();
    format!("no workload's selector can be changed ({SELECTS_REMEDY}): {}", few(&told))
}

/// What to do where a workload selects other pods.
pub const SELECTS_REMEDY: &str = "say it in the spec, of a gateway with values.labels; or take another name, or delete the \
                                  workload first";

/// One change of one field.
#[must_use]
pub fn field(key: &ObjectKey, FieldChange { path, action, old, new }: &FieldChange) -> String {
    let shown = |value: &Option<serde_json::Value>| {
        let text = value.as_ref().map(ToString::to_string).unwrap_or_default();
        if text.len() <= LONGEST { text } else { format!("{}...", &text.chars().take(LONGEST).collect::<String>()) }
    };
    match action {
        FieldAction::Added => format!("{key} {path}: none -> {}", shown(new)),
        FieldAction::Removed => format!("{key} {path}: {} -> none", shown(old)),
        FieldAction::Changed => format!("{key} {path}: {} -> {}", shown(old), shown(new)),
    }
}

/// An Event for what became ours.
pub fn tell_of_adoption(context: &Context, installation: &MeshInstallation, plan: &Plan<Applied>) {
    let is_adopted = |action: &Action| matches!(action, Action::Adopt(_) | Action::Overwrite(_));
    let adopted = plan.state.written.iter().filter(|(_, action)| is_adopted(action)).count();
    if adopted > 0 {
        let note = format!("{} that somebody else had made became the installation's", count(adopted, "object"));
        context.events.publish(installation, EventType::Normal, Reason::Adopted, "Adopt", &note);
    }
}
