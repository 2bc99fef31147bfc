//! CRDs: all meshes share them, and the operator never downgrades them.

use std::collections::BTreeSet;

use serde_json::Value;

/// Whether a live CRD without a release annotation has all desired versions and fields, and more. A CRD that lacks a
/// desired one is older, regardless of what else it has.
#[must_use]
pub fn has_newer_schema(desired: &Value, live: &Value) -> bool {
    let (wanted, found) = (served_fields(desired), served_fields(live));
    wanted.is_subset(&found) && wanted != found
}

/// Served versions, and the fields of their schemas.
fn served_fields(crd: &Value) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for version in crd.pointer("/spec/versions").and_then(Value::as_array).into_iter().flatten() {
        let name = version.get("name").and_then(Value::as_str).unwrap_or_default();
        if version.get("served").and_then(Value::as_bool) == Some(true) {
            all.insert(name.to_owned());
            collect_fields(version.pointer("/schema/openAPIV3Schema"), name, &mut all);
        }
    }
    all
}

fn collect_fields(schema: Option<&Value>, prefix: &str, all: &mut BTreeSet<String>) {
    let Some(schema) = schema else { return };
    for inner in ["items", "additionalProperties"] {
        collect_fields(schema.get(inner), prefix, all);
    }
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = format!("{prefix}.{name}");
        collect_fields(Some(property), &path, all);
        all.insert(path);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn crd(versions: &[&str], fields: &[&str]) -> Value {
        let properties: serde_json::Map<String, Value> =
            fields.iter().map(|name| ((*name).to_owned(), json!({"type": "string"}))).collect();
        let hosts = json!({"type": "array", "items": {"type": "object", "properties": properties}});
        let schema = json!({"openAPIV3Schema": {"properties": {"spec": {"properties": {"hosts": hosts}}}}});
        let of = |name: &&str| json!({"name": name, "served": true, "schema": schema});
        json!({"spec": {"versions": versions.iter().map(of).collect::<Vec<_>>()}})
    }

    #[test]
    fn newer_crd_has_all_desired_fields_and_more() {
        let desired = crd(&["v1"], &["name"]);
        assert!(has_newer_schema(&desired, &crd(&["v1"], &["name", "tls"])));
        assert!(has_newer_schema(&desired, &crd(&["v1", "v2"], &["name"])));
        assert!(!has_newer_schema(&desired, &desired));
        assert!(!has_newer_schema(&desired, &crd(&["v1"], &["tls"])), "different fields");
        assert!(!has_newer_schema(&crd(&["v1"], &["name", "tls"]), &desired), "older");
        let mut unserved = crd(&["v1", "v2"], &["name"]);
        unserved["spec"]["versions"][1]["served"] = false.into();
        assert!(!has_newer_schema(&desired, &unserved));
    }
}
