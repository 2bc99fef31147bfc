//! The user's values over the chart's, by Helm's rules: maps merge, null takes a key away, anything else replaces.

use serde_json::{Map, Value};

/// The values that a chart's templates see. Consumes the user's values and reads the chart's.
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

/// A null that the user gives removes the chart's key, and stays where the chart has none.
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

/// A chart's own nulls mean "not set" and never reach the templates; lists are left as they are.
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
    fn null_removes_the_charts_key_and_stays_elsewhere() {
        assert_eq!(
            coalesced(
                &json!({"a": null, "b": {"c": null, "e": null}, "x": null}),
                &json!({"a": {"k": 1}, "b": {"c": 1, "d": 2}})
            ),
            json!({"b": {"d": 2, "e": null}, "x": null})
        );
    }

    #[test]
    fn the_charts_own_nulls_are_not_set() {
        assert_eq!(
            coalesced(&json!({"b": {}}), &json!({"a": null, "b": {"c": null, "d": [null]}, "e": {"f": null}})),
            json!({"b": {"d": [null]}, "e": {}})
        );
    }

    #[test]
    fn what_is_no_map_replaces_a_map_and_the_other_way_round() {
        assert_eq!(
            coalesced(&json!({"a": 1, "b": {"x": 1}}), &json!({"a": {"k": 1}, "b": 2})),
            json!({"a": 1, "b": {"x": 1}})
        );
    }
}
