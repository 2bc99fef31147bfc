//! Additions by other clients that the operator removes, since they would run, intercept or configure as part of the
//! mesh: containers of pod templates, entries of webhook configurations, keys of `ConfigMap`s. Server-side apply keeps
//! them.

use json_patch::jsonptr::{PointerBuf, Token};
use json_patch::{Patch, PatchOperation, RemoveOperation, TestOperation};
use serde_json::Value;

use super::path::KindSchema;
use super::{Difference, DifferenceKind};

/// Appends the extras of `live` to `out`.
pub(super) fn find(desired: &Value, live: &Value, out: &mut Vec<Difference>) {
    match KindSchema::of(desired) {
        KindSchema::ConfigMap => {
            keys("data", desired, live, out);
            keys("binaryData", desired, live, out);
        }
        KindSchema::Webhooks => elements(&["webhooks"], desired, live, out),
        KindSchema::Workload => {
            let cron = desired.get("kind").is_some_and(|kind| kind == "CronJob");
            let pod: &[&str] =
                if cron { &["spec", "jobTemplate", "spec", "template", "spec"] } else { &["spec", "template", "spec"] };
            elements(&[pod, &["containers"]].concat(), desired, live, out);
            elements(&[pod, &["initContainers"]].concat(), desired, live, out);
        }
        _ => {}
    }
}

fn keys(table: &str, desired: &Value, live: &Value, out: &mut Vec<Difference>) {
    let wanted = desired.get(table).and_then(Value::as_object);
    let Some(found) = live.get(table).and_then(Value::as_object) else { return };
    let mut extra: Vec<_> =
        found.iter().filter(|(key, _)| wanted.is_none_or(|wanted| !wanted.contains_key(*key))).collect();
    extra.sort_unstable_by_key(|(key, _)| *key);
    for (key, value) in extra {
        let at = PointerBuf::from_tokens([Token::new(table), Token::new(key.as_str())]);
        out.push(extra_at(format!("{table}[{key:?}]"), at, value));
    }
}

fn elements(list: &[&str], desired: &Value, live: &Value, out: &mut Vec<Difference>) {
    let at = PointerBuf::from_tokens(list.iter().copied());
    let wanted = list_at(&at, desired);
    for (index, element) in list_at(&at, live).iter().enumerate() {
        let name = element.get("name");
        if wanted.iter().any(|wanted| wanted.get("name") == name) {
            continue;
        }
        let mut at = at.clone();
        at.push_back(index);
        let name = name.and_then(Value::as_str).unwrap_or_default();
        out.push(extra_at(format!("{}[name={name}]", list.join(".")), at, element));
    }
}

fn list_at<'v>(at: &PointerBuf, object: &'v Value) -> &'v [Value] {
    at.resolve(object).ok().and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn extra_at(path: String, at: PointerBuf, value: &Value) -> Difference {
    let live = Some(value.clone());
    Difference { path, kind: DifferenceKind::Extra, desired: None, live, extra_at: Some(at) }
}

/// A JSON patch that removes the extras among `differences`, in the order of [`drift`](super::drift), from `live`;
/// `None` if there are none. The patch tests the name of each element before it removes it, so that it fails as a whole
/// if a list has changed meanwhile.
#[must_use]
pub fn extras_patch(differences: &[Difference], live: &Value) -> Option<Patch> {
    let mut operations = Vec::new();
    // From the end of each list, so that a removal doesn't change the indexes of later ones.
    for at in differences.iter().rev().filter_map(|found| found.extra_at.as_ref()) {
        let name = at.with_trailing_token("name");
        if let Ok(value) = name.resolve(live) {
            operations.push(PatchOperation::Test(TestOperation { value: value.clone(), path: name }));
        }
        operations.push(PatchOperation::Remove(RemoveOperation { path: at.clone() }));
    }
    if operations.is_empty() { None } else { Some(Patch(operations)) }
}
