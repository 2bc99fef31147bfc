use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::mesh::object::REPLACED_ANNOTATION;

const LIMITS: ItemLimits = ItemLimits { bytes: 2000, values: 500, depth: 16, managed_fields: true, is_reduced: false };

/// Scans a body; returns it with name and reason of each object that was replaced.
fn scanned(
    format: BodyFormat,
    limits: ItemLimits,
    budget: Option<ListBudget>,
    chunks: &[&[u8]],
) -> (String, Vec<(String, String)>) {
    let (mut scanner, mut output, mut seen) = (Scanner::new(format, limits, budget), Vec::new(), Vec::new());
    for chunk in chunks {
        scanner.scan(chunk, &mut output, &mut seen);
    }
    let replaced = seen.into_iter().filter_map(|seen| match seen {
        SeenObject::Replaced { identity, reason, .. } => Some((identity.name, reason)),
        SeenObject::Fits { .. } => None,
    });
    (String::from_utf8(output).unwrap(), replaced.collect())
}

fn list_of(limits: ItemLimits, text: &str) -> (Value, Vec<(String, String)>) {
    let (output, replaced) = scanned(BodyFormat::List, limits, None, &[text.as_bytes()]);
    (serde_json::from_str(&output).unwrap(), replaced)
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!("end"), |inner, _| json!({"f:a": inner}))
}

#[allow(clippy::needless_pass_by_value, reason = "tests read better without a reference to each literal")]
fn object(name: &str, more: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a\"{[": "]}\\\",", "b": more},
        "metadata": {"labels": {"name": "other"}, "managedFields": [{"manager": "x", "fieldsV1": {"f:data": {}}}],
            "name": name, "namespace": "n", "resourceVersion": "7", "uid": "u"}})
}

fn list(items: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"continue": "token", "resourceVersion": "9"},
        "items": items})
    .to_string()
}

#[test]
fn passes_usual_lists_unchanged() {
    for items in [vec![], vec![object("a", json!({}))], vec![object("a", json!([1, {}])), object("b", json!(null))]] {
        let text = list(&items);
        assert_eq!(scanned(BodyFormat::List, LIMITS, None, &[text.as_bytes()]), (text, vec![]));
    }
}

#[test]
fn replaces_only_objects_beyond_limits() {
    let deep = object("deep", nested(40));
    let large = object("large", "x".repeat(3000).into());
    let many = object("many", vec![json!({}); 300].into());
    let text = list(&[object("a", json!({})), deep.clone(), large, many, object("b", json!({}))]);
    let (read, replaced) = list_of(LIMITS, &text);
    assert_eq!(read["metadata"]["continue"], "token");
    assert_eq!(read["items"][0], object("a", json!({})));
    // The stub lacks only what exceeds the limit.
    let mut expected = deep;
    expected.as_object_mut().unwrap().remove("data");
    expected["metadata"]["annotations"] = json!({REPLACED_ANNOTATION: "nested deeper than 16 levels"});
    expected[REPLACED_ANNOTATION] = true.into();
    assert_eq!(read["items"][1], expected);
    assert_eq!(read["items"][4], object("b", json!({})));
    let expected = [
        ("deep", "nested deeper than 16 levels"),
        ("large", "larger than 1 KiB"),
        ("many", "made of more than 500 values"),
    ];
    assert_eq!(replaced, expected.map(|(name, reason)| (name.to_owned(), reason.to_owned())));
}

#[test]
fn stub_with_large_metadata_has_only_identity() {
    let item = json!({"metadata": {"name": "a", "uid": "u", "labels": {"a": "x".repeat(3000)}, "resourceVersion": "7"},
        "data": {"b": "1"}, "kind": "ConfigMap"});
    let (read, replaced) = list_of(LIMITS, &list(&[item]));
    let annotations = json!({REPLACED_ANNOTATION: "larger than 1 KiB"});
    let metadata = json!({"name": "a", "uid": "u", "resourceVersion": "7", "annotations": annotations});
    assert_eq!(read["items"][0]["metadata"], metadata);
    assert_eq!(replaced.len(), 1);
}

#[test]
fn names_kind_of_list_for_its_objects() {
    let item = json!({"metadata": {"name": "a", "uid": "u"}, "data": nested(40)});
    let text = list(&[item]).replace("\"items\"", "\"kind\":\"ConfigMapList\",\"items\"");
    let (mut scanner, mut seen) = (Scanner::new(BodyFormat::List, LIMITS, None), Vec::new());
    scanner.scan(text.as_bytes(), &mut Vec::new(), &mut seen);
    let Some(SeenObject::Replaced { identity, .. }) = seen.first() else { panic!("{seen:?}") };
    assert_eq!((identity.api_version.as_str(), identity.kind.as_str()), ("v1", "ConfigMap"));
}

#[test]
fn scans_each_event_of_watch() {
    let event = |kind: &str, object: &Value| json!({"type": kind, "object": object}).to_string();
    let bookmark = event("BOOKMARK", &json!({"kind": "ConfigMap", "metadata": {"resourceVersion": "12"}}));
    let usual = object("a", json!({}));
    // Built as text, since a tree of that depth would overflow the stack.
    let nested = format!("{}1{}", r#"{"a":"#.repeat(99_000), "}".repeat(99_000));
    let deep = event("MODIFIED", &object("deep", json!("NESTED"))).replace("\"NESTED\"", &nested);
    let text = [event("ADDED", &usual), deep, bookmark.clone()].join("\n") + "\n";
    let (output, replaced) = scanned(BodyFormat::Watch, LIMITS, None, &[text.as_bytes()]);
    let lines: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["object"], usual);
    assert_eq!((&lines[1]["type"], &lines[1]["object"]["metadata"]["name"]), (&json!("MODIFIED"), &json!("deep")));
    assert_eq!(lines[2].to_string(), bookmark);
    assert_eq!(replaced.len(), 1);
}

#[test]
fn deleted_object_counts_as_gone() {
    let text = format!(r#"{{"type":"DELETED","object":{}}}"#, object("deep", nested(40)));
    let (mut scanner, mut output, mut seen) = (Scanner::new(BodyFormat::Watch, LIMITS, None), Vec::new(), Vec::new());
    scanner.scan(text.as_bytes(), &mut output, &mut seen);
    assert_eq!(seen, [SeenObject::Fits { uid: "u".to_owned() }]);
    assert!(String::from_utf8(output).unwrap().contains(REPLACED_ANNOTATION));
}

#[test]
fn scans_single_object() {
    let text = object("deep", nested(180)).to_string();
    let (output, replaced) = scanned(BodyFormat::Object, LIMITS, None, &[text.as_bytes(), b"\n"]);
    let read: Value = serde_json::from_str(&output).unwrap();
    assert_eq!((&read["metadata"]["name"], read.get("data")), (&json!("deep"), None));
    assert_eq!(replaced.len(), 1);
}

#[test]
fn drops_managed_fields_at_any_position() {
    let limits = ItemLimits { managed_fields: false, ..LIMITS };
    for metadata in [
        r#"{"managedFields":[{"a":{"b":[1,2]}}],"name":"x"}"#,
        r#"{"name":"x","managedFields":[{"a":{"b":[1,2]}}]}"#,
        r#"{"name":"x", "managedFields" : null }"#,
        r#"{"generation":1,"managedFields":[],"name":"x"}"#,
        r#"{"managedFields":[]}"#,
    ] {
        let text = format!(r#"{{"items":[{{"metadata":{metadata},"managedFields":[1]}}]}}"#);
        let mut expected: Value = serde_json::from_str(&text).unwrap();
        expected["items"][0]["metadata"].as_object_mut().unwrap().remove("managedFields");
        assert_eq!(list_of(limits, &text).0, expected, "{metadata}");
    }
}

#[test]
fn excessive_managed_fields_are_dropped_without_stub() {
    for managed in [nested(180), "x".repeat(1200).into(), vec![json!(1); 300].into()] {
        let item = |managed: Value| json!({"data": {"a": "b"}, "metadata": {"labels": {"a": "1"}, "managedFields": managed, "name": "x"}});
        let (read, replaced) = list_of(LIMITS, &list(&[item(managed)]));
        let mut expected = item(json!(null));
        expected["metadata"].as_object_mut().unwrap().remove("managedFields");
        assert_eq!((&read["items"][0], replaced), (&expected, vec![]));
    }
}

#[test]
fn large_list_leaves_little_for_further_objects() {
    let budget = Some(ListBudget { bytes: 2500, values: 1000, item_bytes: 400, item_values: 100 });
    let sized = |name: &str, size: usize| object(name, "x".repeat(size).into());
    let text = list(&[sized("a", 1500), sized("b", 1000), sized("c", 1000), sized("d", 10)]);
    let (output, replaced) = scanned(BodyFormat::List, LIMITS, budget, &[text.as_bytes()]);
    let read: Value = serde_json::from_str(&output).unwrap();
    assert_eq!((&read["items"][0], &read["items"][3]), (&sized("a", 1500), &sized("d", 10)));
    let reason = "larger than 0 KiB, in a list of large objects".to_owned();
    assert_eq!(replaced, [("b".to_owned(), reason.clone()), ("c".to_owned(), reason)]);
}

#[test]
fn split_position_does_not_matter() {
    let text = list(&[object("a", json!({})), object("deep", nested(30)), object("b", json!("é\\u00e9\\\""))]);
    for limits in [LIMITS, ItemLimits { managed_fields: false, ..LIMITS }, ItemLimits { bytes: 150, ..LIMITS }] {
        let whole = scanned(BodyFormat::List, limits, None, &[text.as_bytes()]);
        for at in 0..=text.len() {
            let (head, tail) = text.as_bytes().split_at(at);
            assert_eq!(scanned(BodyFormat::List, limits, None, &[head, tail]), whole, "split at {at}");
        }
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(scanned(BodyFormat::List, limits, None, &bytes), whole);
    }
}

proptest! {
    #[test]
    fn keeps_any_json_within_limits(keys in prop::collection::vec("[a-c\"\\\\{}\\[\\], ]{0,6}", 1..6), text: String) {
        let fields: serde_json::Map<String, Value> = keys.iter().map(|key| (key.clone(), json!([{key: text}]))).collect();
        let body = list(&[json!({"metadata": {"name": text, "labels": fields}, "data": fields})]);
        let limits = ItemLimits { bytes: 1 << 20, ..LIMITS };
        prop_assert_eq!(scanned(BodyFormat::List, limits, None, &[body.as_bytes()]), (body.clone(), vec![]));
    }

    #[test]
    fn output_is_always_json(
        fields in prop::collection::btree_map("[a-d]{1,3}|metadata", 0..9usize, 1..6), bytes in 40..400usize, values in 2..40usize
    ) {
        let value = |size: usize| json!({"name": "x", "managedFields": [nested(size)], "z": vec!["y".repeat(size * 9); size]});
        let item: Value = fields.iter().map(|(key, size)| (key.clone(), value(*size))).collect::<serde_json::Map<_, _>>().into();
        let limits = ItemLimits { bytes, values, depth: 6, ..LIMITS };
        let (output, replaced) = scanned(BodyFormat::List, limits, None, &[list(&[item.clone(), item]).as_bytes()]);
        let read: Value = serde_json::from_str(&output).unwrap();
        prop_assert_eq!(read["items"].as_array().unwrap().len(), 2);
        for item in read["items"].as_array().unwrap() {
            prop_assert_eq!(item.get(REPLACED_ANNOTATION).is_some(), !replaced.is_empty());
        }
    }
}
