//! Describes what prevents a plan from being applied.

use kube::runtime::events::EventType;
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::Reason;

use super::context::Context;
use crate::mesh::fields::{FieldAction, FieldChange, is_within};
use crate::mesh::health::Blocker;
use crate::mesh::object::ObjectKey;
use crate::mesh::plan::{Applied, Plan, PlanAction, PlanConflict, Prepared};
use crate::mesh::text::{abbreviate, pluralize};

/// Longer values are truncated to this many characters.
const VALUE_LENGTH: usize = 80;

/// The blocker for a plan with conflicts: unmanaged resources first, then changes that adoption would make. `None` if
/// there are none besides a terminating namespace.
#[must_use]
pub fn plan_conflict(prepared: &Plan<Prepared>) -> Option<Blocker> {
    let (mut unmanaged, mut changes, mut immutable) = (Vec::new(), Vec::new(), Vec::new());
    let mut creations = Vec::new();
    for conflict in &prepared.conflicts {
        match conflict {
            PlanConflict::Unmanaged { key, installation: Some(installation) } => {
                unmanaged.push(format!("{key} (managed by installation {installation})"));
            }
            PlanConflict::Unmanaged { key, installation: None } => unmanaged.push(key.to_string()),
            PlanConflict::Adoption { key, changes: of } => changes.extend(of.iter().map(|change| (key, change))),
            PlanConflict::Creation(key) => creations.push(format!("{key} (it would be created)")),
            PlanConflict::Release { key, release } => immutable.push(release_mismatch(key, &release.to_string())),
            PlanConflict::Selector { key, changes: of } => immutable.push(selector_conflict(key, of)),
            PlanConflict::NamespaceTerminating(_) => {}
        }
    }
    // Changes that replace pods come first.
    changes.sort_by_key(|(_, change)| !is_within(&change.path, POD_TEMPLATE));
    let changes = changes.into_iter().map(|(key, change)| describe_change(key, change));
    let changes: Vec<String> = changes.chain(creations).collect();
    let (reason, message) = match (unmanaged.as_slice(), immutable.as_slice(), changes.as_slice()) {
        ([], [], []) => return None,
        ([], [], _) => {
            (Reason::AdoptionConflict, format!("adoption would change {}. {ADOPTION_REMEDY}", abbreviate(&changes)))
        }
        ([], _, _) => (Reason::AdoptionConflict, format!("{}. Nothing was written", abbreviate(&immutable))),
        _ => (
            Reason::UnmanagedResource,
            format!(
                "not managed by this installation: {}. Nothing was written; adopt these resources (spec.adoption), or \
                 rename or delete them",
                abbreviate(&unmanaged)
            ),
        ),
    };
    Some(Blocker { reason, message })
}

const POD_TEMPLATE: &str = "spec.template";

/// How to resolve changes that adoption would make.
const ADOPTION_REMEDY: &str = "Nothing was written; declare the current values in the spec (meshwright adopt generates \
                               one), or set spec.adoption to Overwrite to change them";

/// Describes a workload of another release than the spec's.
#[must_use]
pub fn release_mismatch(key: &ObjectKey, release: &str) -> String {
    format!("{key} is of release {release}: adopt it with that spec.version, then upgrade")
}

/// Describes a workload whose selector differs from the spec's.
#[must_use]
pub fn selector_conflict(key: &ObjectKey, changes: &[FieldChange]) -> String {
    let changes: Vec<String> = changes.iter().map(|change| describe_change(key, change)).collect();
    format!("a workload's selector is immutable: {}; {SELECTOR_REMEDY}", abbreviate(&changes))
}

/// How to resolve a selector that differs.
pub const SELECTOR_REMEDY: &str = "declare the labels in the spec (for a gateway: values.labels), choose another name, \
                                   or delete the workload first";

/// One field change as `OBJECT PATH: OLD -> NEW`.
#[must_use]
pub fn describe_change(key: &ObjectKey, FieldChange { path, action, old, new }: &FieldChange) -> String {
    let shown = |value: &Option<serde_json::Value>| {
        let text = value.as_ref().map(ToString::to_string).unwrap_or_default();
        if text.len() <= VALUE_LENGTH {
            text
        } else {
            format!("{}...", &text.chars().take(VALUE_LENGTH).collect::<String>())
        }
    };
    match action {
        FieldAction::Added => format!("{key} {path}: none -> {}", shown(new)),
        FieldAction::Removed => format!("{key} {path}: {} -> none", shown(old)),
        FieldAction::Changed => format!("{key} {path}: {} -> {}", shown(old), shown(new)),
    }
}

/// Publishes an Event for adopted objects.
pub fn report_adoption(context: &Context, installation: &MeshInstallation, plan: &Plan<Applied>) {
    let is_adopted = |action: &PlanAction| matches!(action, PlanAction::Adopt(_) | PlanAction::Overwrite(_));
    let adopted = plan.state.written.iter().filter(|(_, action)| is_adopted(action)).count();
    if adopted > 0 {
        let note = format!("adopted {} that another tool had created", pluralize(adopted, "object"));
        context.events.publish(installation, EventType::Normal, Reason::Adopted, "Adopt", &note);
    }
}
