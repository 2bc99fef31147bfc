//! Preserves the changes that istioctl makes to the charts' webhooks, so that adoption doesn't change which one is
//! active.

use meshwright_api::Adoption;
use serde_json::{Value, json};

use super::mesh::ExistingMesh;
use super::{is_empty, mesh_objects};
use crate::mesh::kind::Kind;
use crate::mesh::merge::get;
use crate::mesh::object::ObjectKey;
use crate::mesh::revisions::{DEFAULT, REVISION_LABEL, Revision, TAG_LABEL};
use crate::mesh::tags::DEACTIVATED_LABEL;
use crate::planning::objects::LiveObjects;

const SELECTORS: [&str; 2] = ["namespaceSelector", "objectSelector"];
/// Name prefix of the validating webhook for Istio resources without a revision label.
const DEFAULT_VALIDATOR: &str = "istiod-default-validator";

/// Patches that keep the selectors set by istioctl.
pub(super) fn patches(
    found: &ExistingMesh<'_>,
    objects: &LiveObjects,
    adoption: Adoption,
    notes: &mut Vec<String>,
) -> Vec<Value> {
    let mut patches = Vec::new();
    let is_default = found.revision == Revision::Default || found.tags.contains(DEFAULT);
    for (key, webhooks) in mesh_objects(found, objects) {
        let kept: &[&str] = match key.kind {
            Kind::MutatingWebhookConfiguration if is_deactivated(webhooks) => {
                let (keeps_selectors, note) = deactivated(found, key, objects, adoption);
                notes.push(note);
                if keeps_selectors { &SELECTORS } else { &[] }
            }
            Kind::ValidatingWebhookConfiguration if is_default && key.name.starts_with(DEFAULT_VALIDATOR) => {
                &["objectSelector"]
            }
            _ => &[],
        };
        let steps: Vec<Value> =
            entries(webhooks).enumerate().flat_map(|(at, entry)| selector_patch(at, entry, kept)).collect();
        if !steps.is_empty() {
            patches.push(json!({"target": {"kind": key.kind.name(), "name": key.name}, "patch": steps}));
        }
    }
    patches
}

fn entries(webhooks: &Value) -> impl Iterator<Item = &Value> {
    get(webhooks, "webhooks").and_then(Value::as_array).into_iter().flatten()
}

fn is_deactivated(webhooks: &Value) -> bool {
    let never = |entry: &Value| {
        get(entry, "namespaceSelector.matchLabels").is_some_and(|labels| labels.get(DEACTIVATED_LABEL).is_some())
    };
    entries(webhooks).count() > 0 && entries(webhooks).all(never)
}

fn selector_patch<'a>(at: usize, entry: &'a Value, selectors: &'a [&'a str]) -> impl Iterator<Item = Value> + 'a {
    let existing = selectors.iter().filter_map(|name| Some((name, entry.get(name).filter(|value| !is_empty(value))?)));
    existing.map(move |(name, value)| json!({"op": "add", "path": format!("/webhooks/{at}/{name}"), "value": value}))
}

/// Whether a deactivated webhook stays deactivated, and a note about the active one.
fn deactivated(found: &ExistingMesh<'_>, key: &ObjectKey, objects: &LiveObjects, adoption: Adoption) -> (bool, String) {
    let label = |object: &Value, name: &str| -> Option<String> {
        Some(get(object, "metadata.labels")?.get(name)?.as_str()?.to_owned())
    };
    let of_default = |object: &Value| label(object, TAG_LABEL).as_deref() == Some(DEFAULT);
    let mut webhooks = objects.iter().filter(|(key, _)| key.kind == Kind::MutatingWebhookConfiguration);
    let active = webhooks.find(|(_, object)| of_default(object));
    let its = |object: &Value| label(object, REVISION_LABEL).as_deref() == Some(found.revision.label());
    if let Some((other, _)) = active.filter(|(_, object)| !its(object)) {
        return (true, format!("{key} is deactivated and a patch keeps that: {other} of another revision is active"));
    }
    let instead = active.map_or_else(
        || "no webhook is active for the default revision".to_owned(),
        |(other, _)| format!("{other}, created by istioctl, is active instead"),
    );
    let cleanup = active.map_or_else(String::new, |(other, _)| {
        format!(", then delete {other} and Service istiod-revision-tag-{DEFAULT}")
    });
    if adoption == Adoption::Overwrite {
        (false, format!("{key} is deactivated and gets activated: {instead}. Wait until the mesh is Ready{cleanup}"))
    } else {
        let patch = "is deactivated and a patch keeps that";
        let steps = format!("When the mesh is Ready, remove the patch, wait until it is applied{cleanup}");
        (true, format!("{key} {patch}: {instead}. {steps}"))
    }
}
