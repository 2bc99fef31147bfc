//! Parallel traversal of a desired object and the live one.

use serde_json::{Map, Value};

use super::canonical::{Canonical, canonical, is_empty};
use super::path::{FieldPath, KindSchema, MergeKey, PathSegment, is_same_element};

/// Receives a path, the desired value and the live value.
type Visit<'f> = dyn FnMut(&FieldPath<'_>, &Value, Option<&Value>) + 'f;

/// Calls `visit` for every path whose two values are to be compared as a whole: scalars, and maps or lists of which one
/// side is missing, has another type or length, or has foreign keys in an atomic map. The order depends on `desired`
/// alone.
pub(super) fn walk(desired: &Value, live: &Value, visit: &mut Visit<'_>) {
    value(&FieldPath::root(KindSchema::of(desired)), desired, Some(live), visit);
}

fn value(path: &FieldPath<'_>, desired: &Value, live: Option<&Value>, visit: &mut Visit<'_>) {
    match (desired, live.filter(|live| !live.is_null())) {
        // The operator does not set a field whose desired value is null.
        (Value::Null, _) => {}
        (Value::Object(wanted), None) if is_effectively_empty(path, desired) => map(path, wanted, &Map::new(), visit),
        (Value::Object(wanted), Some(Value::Object(found))) if !has_foreign_keys(path, wanted, found) => {
            map(path, wanted, found, visit);
        }
        (Value::Array(wanted), found @ (None | Some(Value::Array(_)))) => {
            let found = found.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            match path.merge_keys() {
                Some(keys) => merged_list(path, keys, wanted, found, visit),
                None if wanted.len() == found.len() => atomic_list(path, wanted, found, visit),
                None => visit(path, desired, live),
            }
        }
        (_, live) => visit(path, desired, live),
    }
}

fn map(path: &FieldPath<'_>, desired: &Map<String, Value>, live: &Map<String, Value>, visit: &mut Visit<'_>) {
    let mut fields: Vec<_> = desired.iter().filter(|(key, _)| is_compared(path, desired, key)).collect();
    fields.sort_unstable_by_key(|(key, _)| *key);
    for (key, desired) in fields {
        value(&path.child(PathSegment::Key(key)), desired, live.get(key), visit);
    }
}

/// A list that the API server merges by keys: elements that other clients added are ignored.
fn merged_list(
    path: &FieldPath<'_>,
    keys: &'static [MergeKey],
    desired: &[Value],
    live: &[Value],
    visit: &mut Visit<'_>,
) {
    for element in desired {
        let path = path.child(PathSegment::Element { keys, element });
        match live.iter().find(|found| is_same_element(keys, element, found)) {
            Some(found) => value(&path, element, Some(found), visit),
            None => visit(&path, element, None),
        }
    }
}

/// An atomic list: the same elements in the same order, where the server may have set defaults in each of them.
fn atomic_list(path: &FieldPath<'_>, desired: &[Value], live: &[Value], visit: &mut Visit<'_>) {
    for (index, (desired, live)) in desired.iter().zip(live).enumerate() {
        value(&path.child(PathSegment::Index(index)), desired, Some(live), visit);
    }
}

/// Whether an atomic map has a key that the operator did not set.
fn has_foreign_keys(path: &FieldPath<'_>, desired: &Map<String, Value>, live: &Map<String, Value>) -> bool {
    path.is_atomic_map() && live.iter().any(|(key, value)| !desired.contains_key(key) && !is_empty(value))
}

/// Whether the API server may omit this value and everything below it.
fn is_effectively_empty(path: &FieldPath<'_>, desired: &Value) -> bool {
    match desired {
        Value::Object(fields) => {
            fields.iter().all(|(key, value)| is_effectively_empty(&path.child(PathSegment::Key(key)), value))
        }
        value => canonical(path, Some(value)) == Canonical::Empty,
    }
}

/// Whether a field is compared: not if it identifies the object, or if the server or a controller maintains it.
fn is_compared(path: &FieldPath<'_>, siblings: &Map<String, Value>, key: &str) -> bool {
    if path.is_metadata() {
        return matches!(key, "labels" | "annotations");
    }
    match key {
        "apiVersion" | "kind" | "status" => !path.is_root(),
        // A controller sets the rules of an aggregated ClusterRole.
        "rules" => !(path.is_root() && siblings.contains_key("aggregationRule")),
        _ => true,
    }
}
