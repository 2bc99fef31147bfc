//! Test vectors per function, from the documentation of sprig, Helm and Go and from running `helm template`.

use serde_json::json;

use super::*;
use crate::format;

/// Calls a function by name; integers are passed as Go ints, other values as from JSON.
fn call(name: &str, arguments: &[serde_json::Value]) -> Result<Value, EvalError> {
    let values: Vec<Value> =
        arguments.iter().map(|json| json.as_i64().map_or_else(|| Value::from_json(json), Value::Int)).collect();
    match (find(name).unwrap().body, &*values) {
        (FunctionBody::Plain(run), values) => run(values, &Budget::default()),
        (FunctionBody::Special(SpecialFunction::FromYaml), [Value::Str(text)]) => from_yaml(text, &Budget::default()),
        _ => panic!("{name} is implemented by the evaluator"),
    }
}

fn check(name: &str, cases: &[(serde_json::Value, &str)]) {
    for (arguments, expected) in cases {
        let value = call(name, arguments.as_array().unwrap()).unwrap();
        assert_eq!(format::display(&value, &Budget::default()).unwrap(), *expected, "{name} {arguments}");
    }
}

fn fails(name: &str, arguments: &serde_json::Value) -> bool {
    call(name, arguments.as_array().unwrap()).is_err()
}

#[test]
fn function_names_are_unique() {
    let names: std::collections::BTreeSet<_> = TABLE.iter().map(|function| function.name).collect();
    assert_eq!((TABLE.len(), names.len()), (49, 49));
}

#[test]
fn comparisons() {
    check(
        "eq",
        &[
            (json!([1, 1]), "true"),
            (json!(["a", "b", "a"]), "true"),
            (json!([null, "a"]), "false"),
            (json!([null, null]), "true"),
        ],
    );
    assert!(fails("eq", &json!([1, 1.5])) && fails("eq", &json!(["1", 1])) && fails("eq", &json!([[], []])));
    check("ne", &[(json!(["a", "b"]), "true"), (json!([null, 0]), "true")]);
    check("gt", &[(json!([2, 1]), "true"), (json!([1, 1]), "false"), (json!(["b", "a"]), "true")]);
    assert!(fails("gt", &json!([1, 1.5])) && fails("gt", &json!([true, false])));
    check("not", &[(json!([""]), "true"), (json!([[1]]), "false")]);
}

#[test]
fn len_and_index() {
    check("len", &[(json!(["grüße"]), "7"), (json!([[1, 2]]), "2"), (json!([{"a": 1}]), "1")]);
    assert!(fails("len", &json!([null])) && fails("len", &json!([1])));
    check(
        "index",
        &[(json!([{"a": ["x", "y"]}, "a", 1]), "y"), (json!([{"a": 1}, "b"]), "<nil>"), (json!([[1]]), "[1]")],
    );
    assert!(
        fails("index", &json!([null, "a"]))
            && fails("index", &json!([["x"], 1]))
            && fails("index", &json!([{}, "a", "b"]))
    );
}

#[test]
fn defaults() {
    check(
        "default",
        &[
            (json!(["d", ""]), "d"),
            (json!(["d", 0]), "d"),
            (json!(["d", false]), "d"),
            (json!(["d", "x"]), "x"),
            (json!(["d"]), "d"),
        ],
    );
    check("coalesce", &[(json!([null, "", 0, "x"]), "x"), (json!([null]), "<nil>"), (json!([]), "<nil>")]);
    check("ternary", &[(json!(["y", "n", true]), "y"), (json!(["y", "n", false]), "n")]);
    check("required", &[(json!(["m", 0]), "0"), (json!(["m", false]), "false")]);
    assert_eq!(call("required", &[json!("m"), json!("")]).unwrap_err(), EvalError::Rejected("m".into()));
    assert_eq!(call("fail", &[json!("m")]).unwrap_err(), EvalError::Rejected("m".into()));
}

#[test]
fn lists() {
    check("list", &[(json!([1, "a"]), "[1 a]"), (json!([]), "[]")]);
    check(
        "has",
        &[
            (json!(["a", ["b", "a"]]), "true"),
            (json!([1.5, [1.5]]), "true"),
            (json!([1, [1]]), "false"),
            (json!(["a", null]), "false"),
        ],
    );
    assert!(fails("has", &json!(["a", "abc"])));
}

#[test]
fn dictionaries() {
    check("dict", &[(json!(["a", 1, "b"]), "map[a:1 b:]"), (json!([1, "x"]), "map[1:x]")]);
    check("hasKey", &[(json!([{"a": null}, "a"]), "true"), (json!([{}, "a"]), "false")]);
    check("pick", &[(json!([{"a": 1, "b": 2}, "a", "x"]), "map[a:1]")]);
    check("set", &[(json!([{"a": 1}, "b", 2]), "map[a:1 b:2]")]);
    check("unset", &[(json!([{"a": 1, "b": 2}, "b"]), "map[a:1]")]);
    check("deepCopy", &[(json!([{"a": [1]}]), "map[a:[1]]")]);
    check("lookup", &[(json!(["v1", "Secret", "ns", "n"]), "map[]")]);
    let map = json!({"global": {"readerServiceAccount": {"name": "x"}, "no": null}});
    check(
        "dig",
        &[
            (json!(["global", "readerServiceAccount", "name", "d", map]), "x"),
            (json!(["global", "none", "name", "d", map]), "d"),
            (json!(["global", "no", true, map]), "<nil>"),
        ],
    );
    assert!(fails("dig", &json!(["d", map])) && fails("dig", &json!(["global", "no", "x", "d", map])));
}

#[test]
fn merge_fills_and_overwrite_replaces() {
    let target = json!({"a": 1, "e": "", "m": {"x": 1}, "l": [1], "em": {}});
    let source = json!({"a": 2, "b": 3, "e": "s", "m": {"x": 2, "y": 3}, "l": [2], "em": {"k": 1}, "n": null});
    check("merge", &[(json!([target, source]), "map[a:1 b:3 e:s em:map[k:1] l:[1] m:map[x:1 y:3]]")]);
    for name in ["mergeOverwrite", "mustMergeOverwrite"] {
        check(name, &[(json!([target, source]), "map[a:2 b:3 e:s em:map[k:1] l:[2] m:map[x:2 y:3] n:<nil>]")]);
        check(
            name,
            &[(
                json!([{"a": true, "b": [1], "c": {"x": 1}, "d": {"y": 1}, "f": 1}, {"a": false, "b": [], "c": null, "d": {}, "f": {"z": 1}}]),
                "map[a:false b:[] c:<nil> d:map[y:1] f:map[z:1]]",
            )],
        );
        check(name, &[(json!([{"a": 1}, {"a": 2}, {"a": 3}]), "map[a:3]")]);
    }
}

#[test]
fn texts() {
    check("cat", &[(json!(["a", null, 1]), "a 1"), (json!([]), "")]);
    check("quote", &[(json!(["a\"b", null, 1.5]), "\"a\\\"b\" \"1.5\""), (json!([null]), "")]);
    check("toString", &[(json!([null]), "<nil>"), (json!([1_000_000.0]), "1e+06"), (json!([true]), "true")]);
    check("contains", &[(json!(["b", "abc"]), "true"), (json!(["x", "abc"]), "false")]);
    check("indent", &[(json!([2, "a\n\nb"]), "  a\n  \n  b"), (json!([1, ""]), " ")]);
    check("nindent", &[(json!([2, "a\nb"]), "\n  a\n  b")]);
    check("repeat", &[(json!([3, "ab"]), "ababab"), (json!([0, "x"]), "")]);
    assert!(fails("repeat", &json!([-1, "x"])));
    check("replace", &[(json!(["+", "_", "1+2+3"]), "1_2_3"), (json!(["", "-", "ab"]), "-a-b-")]);
    check("split", &[(json!([",", "a,b"]), "map[_0:a _1:b]"), (json!([",", ""]), "map[_0:]")]);
    check("splitList", &[(json!(["\n---\n", "a\n---\nb"]), "[a b]"), (json!(["", "ab"]), "[a b]")]);
    check("trim", &[(json!([" \n a b\t"]), "a b")]);
    check("trimPrefix", &[(json!(["istio-", "istio-ingress"]), "ingress"), (json!(["x", "ab"]), "ab")]);
    check("trimSuffix", &[(json!(["-", "a-"]), "a")]);
    check(
        "trunc",
        &[(json!([2, "abc"]), "ab"), (json!([-2, "abc"]), "bc"), (json!([5, "abc"]), "abc"), (json!([2, "aé"]), "a")],
    );
    check(
        "regexMatch",
        &[
            (json!(["^([0-9]*\\.){3}[0-9]*$", "10.1.2.3"]), "true"),
            (json!(["^a", "ba"]), "false"),
            (json!(["(", "("]), "false"),
        ],
    );
    check("print", &[(json!(["a", 1, 2, "b"]), "a1 2b")]);
    check("printf", &[(json!(["%s-%s", "a", "b"]), "a-b")]);
}

#[test]
fn int_converts_numbers_and_numeric_strings() {
    for (value, number) in [
        (json!(1.9), "1"),
        (json!("12"), "12"),
        (json!("1.7"), "1"),
        (json!("0x1f"), "31"),
        (json!("010"), "8"),
        (json!("x"), "0"),
        (json!(null), "0"),
        (json!(true), "1"),
        (json!(""), "0"),
        (json!("-3"), "-3"),
        (json!([]), "0"),
        (json!(".5"), "0"),
        (json!("1_000"), "1000"),
    ] {
        check("int", &[(json!([value]), number)]);
    }
}

#[test]
fn parses_go_integer_literals() {
    for (text, number) in [
        ("0", Some(0)),
        ("-0b101", Some(-5)),
        ("0o17", Some(15)),
        ("1__0", None),
        ("0x", None),
        ("", None),
        ("-", None),
        ("08", None),
        ("_1", None),
    ] {
        assert_eq!(parse_int(text), number, "{text}");
    }
}

#[test]
fn yaml_and_json() {
    check("toYaml", &[(json!([{"b": [1.0], "a": null}]), "a: null\nb:\n- 1")]);
    check("fromYaml", &[(json!(["a: 1\nb: [x]"]), "map[a:1 b:[x]]"), (json!([""]), "map[]")]);
    check("toPrettyJson", &[(json!([{"a": "<"}]), "{\n  \"a\": \"\\u003c\"\n}")]);
    for text in ["a: [", "- a"] {
        let Value::Map(map) = call("fromYaml", &[json!(text)]).unwrap() else { panic!("a map") };
        assert!(matches!(map.get("Error"), Some(Value::Str(_))), "{text}");
    }
}
