//! Evaluation, compared with Go's text/template with Helm's options.

use serde_json::json;

use super::*;
use crate::template::parse;

struct NoBuiltins;

impl BuiltinObjects for NoBuiltins {
    fn member(&self, _: Builtin, _: &str, _: &[Value]) -> Option<Value> {
        None
    }
}

fn run(source: &str, values: &serde_json::Value) -> Result<String, String> {
    let mut templates = Templates::new();
    add_templates(&mut templates, parse("t", source).unwrap());
    let budget = Budget::default();
    let mut out = String::new();
    match Engine::new(&templates, &NoBuiltins, &budget).run("t", &Value::from_json(values), &mut out) {
        Ok(()) => Ok(out),
        Err(LocatedError { line, error: EvalError::Failed(message), .. }) => Err(format!("{line}: {message}")),
        Err(other) => Err(format!("{other:?}")),
    }
}

fn check(cases: &[(&str, &str)]) {
    let values = json!({
        "n": 1, "big": 1_000_000, "s": "text", "e": "", "t": true, "f": false, "null": null, "l": ["a", "b"], "el": [],
        "m": {"b": {"c": 2}, "a": 1}, "em": {},
    });
    for (source, expected) in cases {
        assert_eq!(run(source, &values).as_deref(), Ok(*expected), "{source}");
    }
}

#[test]
fn values_print_as_in_go() {
    check(&[
        ("{{ .n }} {{ .big }} {{ .s }} {{ .t }} {{ 3 }} {{ 1.5 }} {{ 'a' }}", "1 1e+06 text true 3 1.5 97"),
        ("{{ .none }}{{ .null }}", "<no value><no value>"),
        ("{{ .m }} {{ .l }}", "map[a:1 b:map[c:2]] [a b]"),
    ]);
}

#[test]
fn empty_values_are_false() {
    check(&[
        ("{{ if .e }}x{{ else if .s }}y{{ else }}z{{ end }}", "y"),
        (
            "{{ if .em }}x{{ end }}{{ if .el }}x{{ end }}{{ if .none }}x{{ end }}{{ if .f }}x{{ end }}{{ if 0 }}x{{ end }}",
            "",
        ),
        ("{{ with .m.b }}{{ .c }}{{ else }}none{{ end }}{{ with .em }}x{{ else }}{{ .n }}{{ end }}", "21"),
        ("{{ with .e }}x{{ else with .s }}{{ . }}{{ end }}", "text"),
        ("{{ with $x := .s }}{{ $x }}{{ . }}{{ end }}", "texttext"),
    ]);
}

#[test]
fn ranges_over_lists_maps_and_integers() {
    check(&[
        ("{{ range .l }}[{{ . }}]{{ end }}", "[a][b]"),
        ("{{ range $i, $x := .l }}{{ $i }}{{ $x }}{{ end }}", "0a1b"),
        ("{{ range $k, $v := .m }}{{ $k }};{{ end }}", "a;b;"),
        ("{{ range $v := .l }}{{ $v }}{{ $.n }}{{ end }}", "a1b1"),
        ("{{ range .el }}x{{ else }}none{{ end }}{{ range .none }}x{{ else }}none{{ end }}", "nonenone"),
        ("{{ range 3 }}{{ . }}{{ end }}", "012"),
        ("{{ range .l }}{{ if eq . \"b\" }}{{ break }}{{ end }}{{ . }}{{ end }}", "a"),
        ("{{ range .l }}{{ if eq . \"a\" }}{{ continue }}{{ end }}{{ . }}{{ end }}", "b"),
    ]);
}

#[test]
fn variables_are_block_scoped_and_assignable() {
    check(&[
        ("{{ $x := 1 }}{{ if true }}{{ $x := 2 }}{{ $x }}{{ end }}{{ $x }}", "21"),
        ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }}", "2"),
        ("{{ $x := false }}{{ range .l }}{{ $x = true }}{{ end }}{{ $x }}", "true"),
        ("{{ $x := .m }}{{ $x.b.c }}", "2"),
        ("{{ define \"d\" }}{{ $.n }}{{ end }}{{ range .l }}{{ template \"d\" $ }}{{ end }}", "11"),
    ]);
}

#[test]
fn field_chain_may_start_at_nil_only() {
    check(&[
        ("{{ (.none).x }}{{ ((.none).x).y }}{{ $v := .none }}{{ $v.x }}", "<no value><no value><no value>"),
        ("{{ if (.m.b).c }}yes{{ end }}", "yes"),
    ]);
    let error = run("\n{{ .a.b.c }}", &json!({"a": {}})).unwrap_err();
    assert_eq!(error, "2: nil pointer evaluating interface {}.c");
    assert!(run("{{ .a.b }}", &json!({"a": "x"})).unwrap_err().contains("can't evaluate field b in type string"));
}

#[test]
fn pipeline_value_is_last_argument() {
    check(&[
        ("{{ .s | printf \"%s-%s\" \"a\" }}", "a-text"),
        ("{{ .none | default \"d\" | quote }}", "\"d\""),
        ("{{ include \"x\" . | indent 2 }}{{ define \"x\" }}{{ .s }}{{ end }}", "  text"),
        ("{{ 1 | and .t }} {{ 0 | or .f }} {{ \"x\" | eq \"x\" }}", "1 0 true"),
    ]);
}

#[test]
fn and_or_evaluate_lazily() {
    check(&[
        ("{{ and .f (fail \"no\") }} {{ or .s (fail \"no\") }}", "false text"),
        ("{{ and .s .n }} {{ or .e .f }} {{ not .e }}", "1 false true"),
    ]);
}

#[test]
fn checks_number_and_types_of_arguments() {
    for (source, part) in [
        ("{{ indent .n \"x\" }}", "expected int; got float64"),
        ("{{ trim .none }}", "expected string; got nil"),
        ("{{ trim .n }}", "expected string; got float64"),
        ("{{ mergeOverwrite (dict) .null }}", "expected map[string]interface {}; got nil"),
        ("{{ trim }}", "want 1 got 0"),
        ("{{ trim \"a\" \"b\" }}", "want 1 got 2"),
        ("{{ .n 1 }}", "n is not a method"),
        ("{{ nil }}", "nil is not a command"),
        ("{{ range .s }}{{ end }}", "can't iterate over a string"),
        ("{{ template \"none\" }}", "no template \"none\""),
        ("{{ eq .n 1 }}", "incompatible types"),
    ] {
        let error = run(source, &json!({"n": 1, "s": "x", "null": null})).unwrap_err();
        assert!(error.contains(part), "{source}: {error}");
    }
    assert_eq!(run("{{ mergeOverwrite (dict) (.null) }}", &json!({"null": null})).as_deref(), Ok("map[]"));
}

#[test]
fn maps_have_reference_semantics() {
    check(&[
        ("{{ $m := .m }}{{ $_ := set $m \"a\" 5 }}{{ .m.a }}", "5"),
        ("{{ range $k, $v := .m }}{{ $_ := unset $.m $k }}{{ end }}{{ .m }}", "map[]"),
        ("{{ $c := deepCopy .m }}{{ $_ := set $c.b \"c\" 9 }}{{ .m.b.c }}{{ $c.b.c }}", "29"),
    ]);
}

#[test]
fn from_yaml_returns_separate_values() {
    check(&[("{{ $y := \"a: 1\" }}{{ $_ := set ($y | fromYaml) \"a\" 2 }}{{ ($y | fromYaml).a }}", "1")]);
}

#[test]
fn tpl_defines_local_templates() {
    check(&[
        ("{{ define \"x\" }}[{{ . }}]{{ end }}{{ tpl \"{{ include \\\"x\\\" .s }}\" . }}", "[text]"),
        ("{{ tpl \"{{ define \\\"y\\\" }}in{{ end }}{{ include \\\"y\\\" . }}{{ .none }}\" . }}", "in"),
    ]);
    assert!(run("{{ tpl \"{{ define \\\"y\\\" }}a{{ end }}\" . }}{{ include \"y\" . }}", &json!({})).is_err());
    assert!(run("{{ tpl \"{{ if }}\" . }}", &json!({})).unwrap_err().contains("cannot parse template"));
}
