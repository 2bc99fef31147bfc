//! Custom resource definitions: shared by all meshes, and never taken back to what an older release knows.

use std::collections::BTreeSet;

use serde_json::Value;

/// Whether a live definition that doesn't say of which release it is knows all that is desired, and more. One that lacks
/// something is older, whatever else it has.
#[must_use]
pub fn is_ahead(desired: &Value, live: &Value) -> bool {
    let (wanted, found) = (known(desired), known(live));
    wanted.is_subset(&found) && wanted != found
}

/// Versions that are served, and the fields of their schemas.
fn known(definition: &Value) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for version in definition.pointer("/spec/versions").and_then(Value::as_array).into_iter().flatten() {
        let name = version.get("name").and_then(Value::as_str).unwrap_or_default();
        if version.get("served").and_then(Value::as_bool) == Some(true) {
            all.insert(name.to_owned());
            fields(version.pointer("/schema/openAPIV3Schema"), name, &mut all);
        }
    }
    all
}

fn fields(schema: Option<&Value>, at: &str, all: &mut BTreeSet<String>) {
    let Some(schema) = schema else { return };
    for inner in ["items", "additionalProperties"] {
        fields(schema.get(inner), at, all);
    }
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let place = format!("{at}.{name}");
        fields(Some(property), &place, all);
        all.insert(place);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn definition(versions: &[&str], fields: &[&str]) -> Value {
        let properties: serde_json::Map<String, Value> =
            fields.iter().map(|name| ((*name).to_owned(), json!({"type": "string"}))).collect();
        let hosts = json!({"type": "array", "items": {"type": "object", "properties": properties}});
        let schema = json!({"openAPIV3Schema": {"properties": {"spec": {"properties": {"hosts": hosts}}}}});
        let of = |name: &&str| json!({"name": name, "served": true, "schema": schema});
        json!({"spec": {"versions": versions.iter().map(of).collect::<Vec<_>>()}})
    }

    #[test]
    fn a_definition_with_more_fields_or_versions_is_ahead_and_one_that_lacks_any_is_not() {
        let ours = definition(&["v1"], &["name"]);
        assert!(is_ahead(&ours, &definition(&["v1"], &["name", "tls"])));
        assert!(is_ahead(&ours, &definition(&["v1", "v2"], &["name"])));
        assert!(!is_ahead(&ours, &ours));
        assert!(!is_ahead(&ours, &definition(&["v1"], &["tls"])), "another set");
        assert!(!is_ahead(&definition(&["v1"], &["name", "tls"]), &ours), "older");
        let mut unserved = definition(&["v1", "v2"], &["name"]);
        unserved["spec"]["versions"][1]["served"] = false.into();
        assert!(!is_ahead(&ours, &unserved));
    }
}
