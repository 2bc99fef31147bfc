//! Parsing of valid templates, and reporting of syntax errors.

use super::*;

fn error(source: &str) -> SyntaxError {
    parse("t", source).unwrap_err()
}

#[test]
fn template_of_file_precedes_named_templates() {
    let templates = parse("t", "a{{ define \"x\" }}b{{ end }}{{ block \"y\" . }}c{{ end }}").unwrap();
    let names: Vec<_> = templates.iter().map(|template| &*template.name).collect();
    assert_eq!(names, ["t", "x", "y"]);
}

#[test]
fn unknown_function_is_named_with_line() {
    let SyntaxError { line, kind } = error("a\n{{ if .x }}{{ .y | sha256sum }}{{ end }}");
    assert_eq!((line, kind), (2, SyntaxErrorKind::UnknownFunction("sha256sum".into())));
}

#[test]
fn rejects_what_go_rejects() {
    for source in [
        "{{ end }}",
        "{{ if .a }}",
        "{{ if }}{{ end }}",
        "{{ if .a }}{{ else }}{{ else }}{{ end }}",
        "{{ range .a }}{{ else if .b }}{{ end }}",
        "{{ $x }}",
        "{{ $x = 1 }}",
        "{{ if .a }}{{ $x := 1 }}{{ end }}{{ $x }}",
        "{{ define \"x\" }}{{ $y }}{{ end }}",
        "{{ break }}",
        "{{ range .a }}{{ define \"x\" }}{{ end }}{{ end }}",
        "{{ 1 | 2 }}",
        "{{ .a | }}",
        "{{ }}",
        "{{ \"a\".b }}",
        "{{ template x }}",
        "{{ $a, $b := .x }}",
        "{{ print\"x\" }}",
        "{{ 1x }}",
    ] {
        assert_eq!(error(source).line, 1, "{source}");
    }
}

#[test]
fn limits_nesting() {
    let source = format!("{}1{}", "{{ if ".to_owned() + &"(".repeat(101), ")".repeat(101) + " }}{{ end }}");
    assert!(matches!(error(&source).kind, SyntaxErrorKind::Malformed(message) if message.contains("nested")));
}

#[test]
fn accepts_redeclaration_break_and_continue() {
    let source = "{{ $x := 1 }}{{ $x = 2 }}{{ range $k, $v := .a }}{{ if $v }}{{ break }}{{ else if $k }}\
                  {{ continue }}{{ end }}{{ $x := $k }}{{ end }}{{ with $y := .b }}{{ $y }}{{ end }}";
    assert!(parse("t", source).is_ok());
}
