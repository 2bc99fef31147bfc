//! Merges the user's values over the chart's by Helm's rules: maps merge, null removes a key, other values replace.

use serde_json::{Map, Value};

/// Returns the values for a chart's templates.
pub fn coalesce(user: Map<String, Value>, chart: &Map<String, Value>) -> Map<String, Value> {
    let mut result = user;
    for (key, default) in chart {
        match result.get_mut(key) {
            Some(Value::Null) => drop(result.remove(key)),
            Some(Value::Object(given)) => {
                if let Value::Object(default) = default {
                    coalesce_tables(given, &without_nulls(default));
                }
            }
            Some(_) => {}
            None if default.is_null() => {}
            None => drop(result.insert(key.clone(), clean(default))),
        }
    }
    result
}

/// A null in the user's values removes the chart's key, and is kept if the chart has no such key.
fn coalesce_tables(given: &mut Map<String, Value>, defaults: &Map<String, Value>) {
    for (key, default) in defaults {
        match (given.get_mut(key), default) {
            (Some(Value::Null), _) => drop(given.remove(key)),
            (Some(Value::Object(given)), Value::Object(default)) => coalesce_tables(given, default),
            (Some(_), _) => {}
            (None, default) => drop(given.insert(key.clone(), default.clone())),
        }
    }
}

fn clean(value: &Value) -> Value {
    match value {
        Value::Object(entries) => Value::Object(without_nulls(entries)),
        other => other.clone(),
    }
}

/// Removes nulls, which in a chart's values mean "not set". Lists are not changed.
fn without_nulls(entries: &Map<String, Value>) -> Map<String, Value> {
    entries.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.clone(), clean(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn coalesced(user: &Value, chart: &Value) -> Value {
        Value::Object(coalesce(user.as_object().unwrap().clone(), chart.as_object().unwrap()))
    }

    #[test]
    fn maps_merge_and_lists_replace() {
        assert_eq!(
            coalesced(&json!({"a": {"b": 1}, "l": [1]}), &json!({"a": {"b": 2, "c": 3}, "l": [2, 3], "d": 4})),
            json!({"a": {"b": 1, "c": 3}, "l": [1], "d": 4})
        );
    }

    #[test]
    fn null_removes_keys_of_the_chart_only() {
        assert_eq!(
            coalesced(
                &json!({"a": null, "b": {"c": null, "e": null}, "x": null}),
                &json!({"a": {"k": 1}, "b": {"c": 1, "d": 2}})
            ),
            json!({"b": {"d": 2, "e": null}, "x": null})
        );
    }

    #[test]
    fn nulls_in_chart_values_are_unset() {
        assert_eq!(
            coalesced(&json!({"b": {}}), &json!({"a": null, "b": {"c": null, "d": [null]}, "e": {"f": null}})),
            json!({"b": {"d": [null]}, "e": {}})
        );
    }

    #[test]
    fn maps_and_scalars_replace_each_other() {
        assert_eq!(
            coalesced(&json!({"a": 1, "b": {"x": 1}}), &json!({"a": {"k": 1}, "b": 2})),
            json!({"a": 1, "b": {"x": 1}})
        );
    }
}
