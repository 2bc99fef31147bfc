//! Test vectors from `helm template`, and properties of all values.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::yaml::parse;

fn yaml(json: &Json) -> String {
    to_yaml(&Value::from_json(json), &Budget::default()).unwrap()
}

#[test]
fn indents_maps_but_not_lists() {
    assert_eq!(
        yaml(&json!({"b": [1, {"c": [], "d": {"e": null}}, [2, 3]], "a": {}})),
        "a: {}\nb:\n- 1\n- c: []\n  d:\n    e: null\n- - 2\n  - 3"
    );
}

#[test]
fn quotes_ambiguous_strings() {
    for (text, written) in [
        ("true", "\"true\""),
        ("15", "\"15\""),
        ("", "\"\""),
        ("a: b", "'a: b'"),
        ("it's: x", "'it''s: x'"),
        ("*", "'*'"),
        ("a\tb", "\"a\\tb\""),
        ("😀", "\"\\U0001F600\""),
        ("é", "é"),
        ("-", "'-'"),
        ("a b", "a b"),
    ] {
        assert_eq!(yaml(&json!(text)), written);
    }
}

#[test]
fn writes_multi_line_text_as_literal() {
    assert_eq!(yaml(&json!({"a": "x\ny"})), "a: |-\n  x\n  y");
    assert_eq!(yaml(&json!({"a": "x\ny\n"})), "a: |\n  x\n  y");
    assert_eq!(yaml(&json!({"a": "x\n\n", "b": 1})), "a: |+\n  x\n\nb: 1");
    assert_eq!(yaml(&json!({"a": " x\n"})), "a: |2\n   x");
    assert_eq!(yaml(&json!({"a": "x \ny"})), "a: \"x \\ny\"");
    assert_eq!(yaml(&json!([["x\n\ny"]])), "- - |-\n    x\n\n    y");
}

#[test]
fn folds_lines_at_eighty_columns() {
    let words = ["word"; 20].join(" ");
    let folded = format!("a: {}\n  {}", ["word"; 16].join(" "), ["word"; 4].join(" "));
    assert_eq!(yaml(&json!({ "a": words })), folded);
}

#[test]
fn sorts_keys_like_go_yaml() {
    let keys = ["b", "a10", "a9", "A", "a-b", "a_b", "ab", "a", "1", "10", "2", "a.b", "a/b"];
    let map: serde_json::Map<_, _> = keys.iter().map(|key| ((*key).to_owned(), json!(0))).collect();
    let written = yaml(&Json::Object(map));
    let order: Vec<_> = written.lines().map(|line| line.trim_end_matches(": 0").trim_matches('"')).collect();
    assert_eq!(order, ["1", "2", "10", "A", "a", "a-b", "a.b", "a/b", "a_b", "a9", "a10", "ab", "b"]);
}

#[test]
fn limits_nesting() {
    let mut value = Value::Nil;
    for _ in 0..1000 {
        value = Value::List(List::new(vec![value]));
    }
    assert_eq!(to_yaml(&value, &Budget::default()), Err(EvalError::Depth));
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,12}",
        "[a-z0-9:#' \\n\"\\\\\\t-]{0,16}",
        "([a-z]{1,9} {1,2}){0,30}",
        "\\PC{0,8}",
        prop::sample::select(vec!["yes", "0x1", "~", "---", "a: b", "1:30", "2001-01-01", "\u{2028}x", "\u{85}"])
            .prop_map(str::to_owned),
    ]
}

fn any_value() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i32>().prop_map(Json::from),
        any_text().prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Json::from),
            prop::collection::btree_map(any_text(), inner, 0..5)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn round_trips_through_parser(value in any_value()) {
        // As in Helm, the output lacks the last line break, which is significant for a text of line breaks only.
        let written = yaml(&value) + "\n";
        prop_assert_eq!(parse(&written).map_err(|error| TestCaseError::fail(format!("{error}\n{written}")))?, value);
    }

    #[test]
    fn key_order_is_antisymmetric(a in any_text(), b in any_text()) {
        prop_assert_eq!(compare_keys(&a, &b), compare_keys(&b, &a).reverse());
    }
}
