//! The walk through a desired object and the live one beside it.

use serde_json::{Map, Value};

use super::canonical::{Canonical, canonical, is_empty};
use super::place::{MergeKey, Place, Schema, Step, is_same_element};

/// Takes a place, what is desired there, and what is there.
type Visit<'f> = dyn FnMut(&Place<'_>, &Value, Option<&Value>) + 'f;

/// Calls `visit` for every place where the two sides can be compared as a whole: values, and maps or lists of which
/// one side is missing, of another type, of another length or with keys that it must not have. The order depends on
/// `desired` alone.
pub(super) fn walk(desired: &Value, live: &Value, visit: &mut Visit<'_>) {
    value(&Place::root(Schema::of(desired)), desired, Some(live), visit);
}

fn value(place: &Place<'_>, desired: &Value, live: Option<&Value>, visit: &mut Visit<'_>) {
    match (desired, live.filter(|live| !live.is_null())) {
        // Null is no opinion.
        (Value::Null, _) => {}
        (Value::Object(wanted), None) if is_nothing(place, desired) => map(place, wanted, &Map::new(), visit),
        (Value::Object(wanted), Some(Value::Object(found))) if !is_overruled(place, wanted, found) => {
            map(place, wanted, found, visit);
        }
        (Value::Array(wanted), found @ (None | Some(Value::Array(_)))) => {
            let found = found.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            match place.merge_keys() {
                Some(keys) => merged(place, keys, wanted, found, visit),
                None if wanted.len() == found.len() => replaced(place, wanted, found, visit),
                None => visit(place, desired, live),
            }
        }
        (_, live) => visit(place, desired, live),
    }
}

fn map(place: &Place<'_>, desired: &Map<String, Value>, live: &Map<String, Value>, visit: &mut Visit<'_>) {
    let mut fields: Vec<_> = desired.iter().filter(|(key, _)| is_judged(place, desired, key)).collect();
    fields.sort_unstable_by_key(|(key, _)| *key);
    for (key, desired) in fields {
        value(&place.then(Step::Key(key)), desired, live.get(key), visit);
    }
}

/// A list that the API server merges: elements that others added are theirs.
fn merged(place: &Place<'_>, keys: &'static [MergeKey], desired: &[Value], live: &[Value], visit: &mut Visit<'_>) {
    for element in desired {
        let place = place.then(Step::Element { keys, element });
        match live.iter().find(|found| is_same_element(keys, element, found)) {
            Some(found) => value(&place, element, Some(found), visit),
            None => visit(&place, element, None),
        }
    }
}

/// A list that the API server replaces: the same elements in the same order, each with what the server adds to it.
fn replaced(place: &Place<'_>, desired: &[Value], live: &[Value], visit: &mut Visit<'_>) {
    for (index, (desired, live)) in desired.iter().zip(live).enumerate() {
        value(&place.then(Step::Index(index)), desired, Some(live), visit);
    }
}

/// Whether a map that is ours as a whole holds a key that we didn't write.
fn is_overruled(place: &Place<'_>, desired: &Map<String, Value>, live: &Map<String, Value>) -> bool {
    place.is_atomic_map() && live.iter().any(|(key, value)| !desired.contains_key(key) && !is_empty(value))
}

/// Whether the API server may leave this out with all that lies in it.
fn is_nothing(place: &Place<'_>, desired: &Value) -> bool {
    match desired {
        Value::Object(fields) => fields.iter().all(|(key, value)| is_nothing(&place.then(Step::Key(key)), value)),
        value => canonical(place, Some(value)) == Canonical::Nothing,
    }
}

/// Whether a field is ours to judge: not what identifies the object, nor what the server or a controller keeps.
fn is_judged(place: &Place<'_>, siblings: &Map<String, Value>, key: &str) -> bool {
    if place.is_metadata() {
        return matches!(key, "labels" | "annotations");
    }
    match key {
        "apiVersion" | "kind" | "status" => !place.is_root(),
        // The rules of an aggregated role are put together by a controller.
        "rules" => !(place.is_root() && siblings.contains_key("aggregationRule")),
        _ => true,
    }
}
