//! What others added and must not stay, since it would run, intercept or configure in our name: containers of pod
//! templates, entries of webhook configurations, keys of `ConfigMap`s. Server-side apply leaves it where it is.

use json_patch::jsonptr::{PointerBuf, Token};
use json_patch::{Patch, PatchOperation, RemoveOperation, TestOperation};
use serde_json::Value;

use super::place::Schema;
use super::{Difference, DifferenceKind};

/// Adds the extras of `live` to `out`.
pub(super) fn find(desired: &Value, live: &Value, out: &mut Vec<Difference>) {
    match Schema::of(desired) {
        Schema::ConfigMap => {
            keys("data", desired, live, out);
            keys("binaryData", desired, live, out);
        }
        Schema::Webhooks => elements(&["webhooks"], desired, live, out),
        Schema::Workload => {
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

/// A JSON patch that takes the extras among `differences`, in the order of [`drift`](super::drift), out of `live`;
/// `None` if there are none. It fails as a
/// whole when a list has changed meanwhile, since each element is tested for its name before it is removed.
#[must_use]
pub fn extras_patch(differences: &[Difference], live: &Value) -> Option<Patch> {
    let mut operations = Vec::new();
    // From the end of each list, so that what is removed first doesn't move what is removed later.
    for at in differences.iter().rev().filter_map(|found| found.extra_at.as_ref()) {
        let name = at.with_trailing_token("name");
        if let Ok(value) = name.resolve(live) {
            operations.push(PatchOperation::Test(TestOperation { value: value.clone(), path: name }));
        }
        operations.push(PatchOperation::Remove(RemoveOperation { path: at.clone() }));
    }
    if operations.is_empty() { None } else { Some(Patch(operations)) }
}
