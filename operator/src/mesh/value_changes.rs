//! Differences between two JSON values, by path. Lists whose elements have unique names are compared by element.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fields::{FieldAction, FieldChange};

/// The changes that turn `old` into `new`.
#[must_use]
pub fn value_changes(old: &Value, new: &Value) -> Vec<FieldChange> {
    let mut changes = Vec::new();
    compare("", old, new, &mut changes);
    for change in &mut changes {
        change.path = change.path.trim_start_matches('.').to_owned();
    }
    changes
}

fn compare(path: &str, old: &Value, new: &Value, changes: &mut Vec<FieldChange>) {
    if old == new {
        return;
    }
    if let (Some(old), Some(new)) = (members(old), members(new)) {
        for key in old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))) {
            let path = format!("{path}{key}");
            match (old.get(key), new.get(key)) {
                (Some(old), Some(new)) => compare(&path, old, new, changes),
                (old, new) => changes.push(change(&path, old.copied(), new.copied())),
            }
        }
        return;
    }
    changes.push(change(path, Some(old), Some(new)));
}

/// The members of an object, or of a list whose elements have unique names, each with its path segment.
fn members(value: &Value) -> Option<BTreeMap<String, &Value>> {
    match value {
        Value::Object(fields) => Some(fields.iter().map(|(name, value)| (segment(name), value)).collect()),
        Value::Array(elements) => {
            let named = elements.iter().map(|element| {
                let name = element.get("name").and_then(Value::as_str)?;
                Some((format!("[name={name}]"), element))
            });
            let members: BTreeMap<String, &Value> = named.collect::<Option<_>>()?;
            (members.len() == elements.len()).then_some(members)
        }
        _ => None,
    }
}

fn segment(name: &str) -> String {
    if name.contains(['.', '/', '[']) { format!("[{name:?}]") } else { format!(".{name}") }
}

fn change(path: &str, old: Option<&Value>, new: Option<&Value>) -> FieldChange {
    let action = match (old, new) {
        (None, _) => FieldAction::Added,
        (_, None) => FieldAction::Removed,
        _ => FieldAction::Changed,
    };
    FieldChange { path: path.to_owned(), action, old: old.cloned(), new: new.cloned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn paths_and_actions(old: &Value, new: &Value) -> Vec<(String, FieldAction)> {
        value_changes(&json!({"spec": old}), &json!({"spec": new}))
            .into_iter()
            .map(|change| (change.path, change.action))
            .collect()
    }

    #[test]
    fn equal_specs_have_no_changes() {
        let spec = json!({"version": "1.31.2", "gateways": [{"name": "a"}]});
        assert_eq!(paths_and_actions(&spec, &spec), []);
    }

    #[test]
    fn paths_use_names_of_list_elements() {
        let old = json!({"version": "1.31.2", "gateways": [{"name": "a", "replicas": 1}, {"name": "b"}]});
        let new = json!({"version": "1.31.3", "gateways": [{"name": "c"}, {"name": "a", "replicas": 2}], "tags": []});
        let expected = [
            ("spec.gateways[name=a].replicas".to_owned(), FieldAction::Changed),
            ("spec.gateways[name=b]".to_owned(), FieldAction::Removed),
            ("spec.gateways[name=c]".to_owned(), FieldAction::Added),
            ("spec.version".to_owned(), FieldAction::Changed),
            ("spec.tags".to_owned(), FieldAction::Added),
        ];
        assert_eq!(paths_and_actions(&old, &new), expected);
    }

    #[test]
    fn compares_unnamed_lists_as_a_whole() {
        let old = json!({"nodePorts": {"reserved": ["1"]}, "labels": {"a/b": "1"}});
        let new = json!({"nodePorts": {"reserved": ["2", "3"]}, "labels": {"a/b": "2"}});
        let expected = [
            ("spec.labels[\"a/b\"]".to_owned(), FieldAction::Changed),
            ("spec.nodePorts.reserved".to_owned(), FieldAction::Changed),
        ];
        assert_eq!(paths_and_actions(&old, &new), expected);
    }

    #[test]
    fn compares_resolved_inputs_beside_spec() {
        let old = json!({"spec": {"version": "1.31"}, "version": "1.31.1"});
        let new = json!({"spec": {"version": "1.31"}, "version": "1.31.2", "kubernetes": "v1.33.0"});
        let paths: Vec<String> = value_changes(&old, &new).into_iter().map(|change| change.path).collect();
        assert_eq!(paths, ["version", "kubernetes"]);
    }

    #[test]
    fn compares_lists_with_duplicate_names_as_a_whole() {
        let list = |values: [i32; 2]| json!({"x": values.map(|value| json!({"name": "a", "value": value}))});
        assert_eq!(paths_and_actions(&list([1, 2]), &list([1, 3])), [("spec.x".to_owned(), FieldAction::Changed)]);
    }
}
