//! Properties of drift detection that must be true of all objects.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::canonical::{Canonical, canonical};
use super::walk::walk;
use super::{drift, fingerprint};

/// Any JSON with few distinct keys, so that two trees overlap. The keys cover all special cases of lists and values.
fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..3).prop_map(Value::from),
        (-3_i32..3).prop_map(|n| json!(f64::from(n) / 2.0)),
        "[a-c]{0,2}".prop_map(Value::from),
        Just(json!("1Gi")),
        Just(json!("1024Mi")),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((key(), inner), 0..5).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "name",
        "containers",
        "env",
        "ports",
        "limits",
        "memory",
        "metadata",
        "labels",
        "template",
        "spec",
        "rules",
        "hostNetwork",
        "selector",
        "volumes",
        "mountPath",
        "data",
    ])
    .prop_map(str::to_owned)
}

fn object() -> impl Strategy<Value = Value> {
    let kinds = vec![
        ("apps/v1", "Deployment"),
        ("v1", "Service"),
        ("rbac.authorization.k8s.io/v1", "Role"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        ("networking.istio.io/v1", "Gateway"),
    ];
    (prop::sample::select(kinds), tree()).prop_map(|((version, kind), spec)| {
        json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x", "labels": {"a": "b"}}, "spec": spec})
    })
}

/// Adds a foreign key to each map, except for atomic maps.
fn add_keys(value: &mut Value, inside: &str) {
    match value {
        Value::Array(elements) if inside != "rules" => {
            for element in elements {
                add_keys(element, inside);
            }
        }
        Value::Object(fields) if inside != "selector" => {
            for (key, value) in fields.iter_mut() {
                add_keys(value, key);
            }
            fields.insert("foreign.example".to_owned(), json!("added"));
        }
        _ => {}
    }
}

fn has_unique_elements(elements: &[Value]) -> bool {
    // The API server rejects lists in which two elements have the same merge keys.
    let identity = |element: &Value| element.get("name").or_else(|| element.get("mountPath")).cloned();
    elements.iter().enumerate().all(|(at, element)| {
        element.is_object() && elements.iter().take(at).all(|earlier| identity(earlier) != identity(element))
    })
}

/// Whether the API server would accept every list.
fn is_plausible(value: &Value) -> bool {
    match value {
        Value::Array(elements) => {
            elements.iter().all(is_plausible) && (elements.len() < 2 || has_unique_elements(elements))
        }
        Value::Object(fields) => fields.values().all(is_plausible),
        _ => true,
    }
}

fn compared_fields(desired: &Value, live: &Value) -> Vec<String> {
    let mut paths = Vec::new();
    walk(desired, live, &mut |path, _, live| {
        let value = match canonical(path, live) {
            Canonical::Plain(value) => value.to_string(),
            other => format!("{other:?}"),
        };
        paths.push(format!("{path} {value}"));
    });
    paths
}

/// Pointers to all leaves below `spec` that are scalars.
fn leaves(value: &Value, at: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| leaves(value, &format!("{at}/{key}"), out)),
        Value::Array(list) => list.iter().enumerate().for_each(|(i, value)| leaves(value, &format!("{at}/{i}"), out)),
        Value::Null => {}
        _ => out.push(at.to_owned()),
    }
}

proptest! {
    #[test]
    fn object_never_differs_from_itself(object in object()) {
        prop_assume!(is_plausible(&object));
        prop_assert_eq!(drift(&object, &object), []);
    }

    #[test]
    fn foreign_keys_in_maps_are_no_difference(object in object()) {
        prop_assume!(is_plausible(&object));
        let mut live = object.clone();
        add_keys(&mut live["spec"], "spec");
        add_keys(&mut live["metadata"], "metadata");
        prop_assert_eq!(drift(&object, &live), []);
    }

    #[test]
    fn changed_value_is_always_a_difference(object in object(), pick in any::<prop::sample::Index>()) {
        prop_assume!(is_plausible(&object));
        let mut paths = Vec::new();
        leaves(&object["spec"], "/spec", &mut paths);
        prop_assume!(!paths.is_empty());
        let mut live = object.clone();
        *live.pointer_mut(&paths[pick.index(paths.len())]).unwrap() = json!("quite another value");
        prop_assert_ne!(drift(&object, &live), []);
        prop_assert_ne!(fingerprint(&object, &object), fingerprint(&object, &live));
    }

    #[test]
    fn fingerprints_match_if_compared_fields_do(object in object(), one in tree(), two in tree()) {
        let live = |spec: Value| json!({"spec": spec, "metadata": Map::new()});
        let (one, two) = (live(one), live(two));
        prop_assert_eq!(
            fingerprint(&object, &one) == fingerprint(&object, &two),
            compared_fields(&object, &one) == compared_fields(&object, &two)
        );
    }
}
