//! What istioctl does to webhooks that charts made: which of them answers isn't changed by who looks after them.

use meshwright_api::Adoption;
use serde_json::{Value, json};

use super::mesh::Found;
use super::{is_empty, of_mesh};
use crate::mesh::kind::Kind;
use crate::mesh::merge::get;
use crate::mesh::object::ObjectKey;
use crate::mesh::revisions::{DEFAULT, REVISION_LABEL, Revision, TAG_LABEL};
use crate::mesh::tags::DEACTIVATED_LABEL;
use crate::planning::objects::Objects;

const SELECTORS: [&str; 2] = ["namespaceSelector", "objectSelector"];
/// What answers for Istio's resources that ask for no revision begins with this.
const DEFAULT_VALIDATOR: &str = "istiod-default-validator";

/// Patches that keep the selectors which istioctl gives to webhooks by itself.
pub(super) fn patches(found: &Found<'_>, objects: &Objects, adoption: Adoption, notes: &mut Vec<String>) -> Vec<Value> {
    let mut patches = Vec::new();
    let is_default = found.revision == Revision::Default || found.tags.contains(DEFAULT);
    for (key, webhooks) in of_mesh(found, objects) {
        let kept: &[&str] = match key.kind {
            Kind::MutatingWebhookConfiguration if is_deactivated(webhooks) => {
                let (stays, note) = deactivated(found, key, objects, adoption);
                notes.push(note);
                if stays { &SELECTORS } else { &[] }
            }
            Kind::ValidatingWebhookConfiguration if is_default && key.name.starts_with(DEFAULT_VALIDATOR) => {
                &["objectSelector"]
            }
            _ => &[],
        };
        let steps: Vec<Value> = entries(webhooks).enumerate().flat_map(|(at, entry)| keep(at, entry, kept)).collect();
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

fn keep<'a>(at: usize, entry: &'a Value, selectors: &'a [&'a str]) -> impl Iterator<Item = Value> + 'a {
    let said = selectors.iter().filter_map(|name| Some((name, entry.get(name).filter(|value| !is_empty(value))?)));
    said.map(move |(name, value)| json!({"op": "add", "path": format!("/webhooks/{at}/{name}"), "value": value}))
}

/// Whether such a webhook stays switched off, and what to know of it: which one answers instead.
fn deactivated(found: &Found<'_>, key: &ObjectKey, objects: &Objects, adoption: Adoption) -> (bool, String) {
    let label = |object: &Value, name: &str| -> Option<String> {
        Some(get(object, "metadata.labels")?.get(name)?.as_str()?.to_owned())
    };
    let of_default = |object: &Value| label(object, TAG_LABEL).as_deref() == Some(DEFAULT);
    let mut webhooks = objects.iter().filter(|(key, _)| key.kind == Kind::MutatingWebhookConfiguration);
    let answers = webhooks.find(|(_, object)| of_default(object));
    let its = |object: &Value| label(object, REVISION_LABEL).as_deref() == Some(found.revision.label());
    if let Some((other, _)) = answers.filter(|(_, object)| !its(object)) {
        return (true, format!("{key} is switched off, and a patch keeps that: {other} of another revision answers"));
    }
    let instead = answers.map_or_else(
        || "nothing answers for the default".to_owned(),
        |(other, _)| format!("{other} answers instead, which istioctl made"),
    );
    let end = answers.map_or_else(String::new, |(other, _)| {
        format!(", and then delete {other} and the Service istiod-revision-tag-{DEFAULT}")
    });
    if adoption == Adoption::Overwrite {
        (false, format!("{key} is switched off, and is switched on: {instead}. Wait until the mesh is Ready{end}"))
    } else {
        let patch = "is switched off, and a patch keeps that";
        (true, format!("{key} {patch}: {instead}. When the mesh is Ready, take the patch away, wait{end}"))
    }
}
