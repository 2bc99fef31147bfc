//! Merging of Helm values, and access by dotted paths.

use serde_json::{Map, Value};

/// Merges `over` into `base` as Helm merges values files: maps merge, everything else replaces. A null is kept, since
/// it makes the renderer delete the chart's default.
pub fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

/// Sets the value at a dotted path, creating intermediate maps.
pub fn set(values: &mut Value, path: &str, value: impl Into<Value>) {
    let nested = path.rsplit('.').fold(value.into(), |inner, key| {
        let mut map = Map::new();
        map.insert(key.to_owned(), inner);
        Value::Object(map)
    });
    if values.is_null() {
        *values = Value::Object(Map::new());
    }
    merge(values, nested);
}

/// The value at a dotted path.
#[must_use]
pub fn get<'a>(values: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(values, |at, key| at.get(key))
}

/// Whether an entry can be added to the map at a dotted path: it lacks one of this name, and nothing else is there.
#[must_use]
pub fn lacks_entry(values: &Value, path: &str, name: &str) -> bool {
    let parents = path.match_indices('.').filter_map(|(end, _)| path.get(..end));
    let is_map = |path: &str| get(values, path).is_none_or(|value| value.is_object() || value.is_null());
    parents.chain([path]).all(is_map) && get(values, path).is_none_or(|map| map.get(name).is_none())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn maps_merge_and_lists_replace() {
        let mut base = json!({"a": {"b": 1, "c": [1, 2]}});
        merge(&mut base, json!({"a": {"c": [3], "d": 4}}));
        assert_eq!(base, json!({"a": {"b": 1, "c": [3], "d": 4}}));
    }

    #[test]
    fn keeps_null_to_delete_chart_default() {
        let mut base = json!({"a": {"b": 1}});
        merge(&mut base, json!({"a": {"b": null}}));
        assert_eq!(base, json!({"a": {"b": null}}));
    }

    #[test]
    fn setting_path_keeps_siblings() {
        let mut values = json!({"global": {"hub": "h"}});
        set(&mut values, "global.proxy.logLevel", "debug");
        assert_eq!(values, json!({"global": {"hub": "h", "proxy": {"logLevel": "debug"}}}));
        assert_eq!(get(&values, "global.proxy.logLevel"), Some(&json!("debug")));
    }

    #[test]
    fn adds_entries_to_maps_only() {
        let lacks = |values: Value| lacks_entry(&values, "a.b", "c");
        assert!(lacks(json!({})) && lacks(json!({"a": null})) && lacks(json!({"a": {"b": {"d": 1}}})));
        assert!(!lacks(json!({"a": {"b": {"c": 1}}})), "it is set");
        assert!(!lacks(json!({"a": []})) && !lacks(json!({"a": {"b": "text"}})), "not a map");
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<i32>().prop_map(Value::from), "[a-c]{1,3}".prop_map(Value::from)];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop::collection::btree_map("[a-d]", inner, 0..4).prop_map(|m| Value::Object(m.into_iter().collect()))
        })
    }

    proptest! {
        #[test]
        fn merging_a_value_into_itself_changes_nothing(value in values()) {
            let mut merged = value.clone();
            merge(&mut merged, value.clone());
            prop_assert_eq!(merged, value);
        }

        #[test]
        fn merged_value_contains_override(a in values(), b in values()) {
            fn contains_leaves(over: &Value, merged: &Value) -> bool {
                match over {
                    Value::Object(map) => map.iter().all(|(k, v)| merged.get(k).is_some_and(|m| contains_leaves(v, m))),
                    other => other == merged,
                }
            }
            let mut merged = a;
            merge(&mut merged, b.clone());
            prop_assert!(contains_leaves(&b, &merged));
        }
    }
}
