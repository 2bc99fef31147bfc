//! Rendering of small charts.

use serde_json::json;

use super::*;

fn chart(entries: &[(&str, &str)]) -> Chart {
    let base = [("Chart.yaml", "name: c\nversion: 1.2.3+x\nappVersion: '1.30'\n")];
    let files = base.iter().chain(entries).map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()));
    Chart::from_files(files.collect()).unwrap()
}

fn render_with(chart: &Chart, values: &Json, limits: &Limits) -> Result<Vec<Rendered>, RenderError> {
    let release = Release { name: "r".into(), namespace: "ns".into() };
    let api_versions = ["apps/v1".to_owned()].into();
    let capabilities = Capabilities { kube_version: "v1.33.4-gke.1245000".into(), api_versions };
    chart.render(&release, values, &capabilities, limits)
}

fn text(template: &str, values: &Json) -> Result<String, RenderError> {
    let chart = chart(&[("templates/a.yaml", template), ("files/a.txt", "hello")]);
    Ok(render_with(&chart, values, &Limits::default())?.into_iter().map(|r| r.text).collect())
}

#[test]
fn provides_release_chart_files_and_capabilities() {
    for (template, expected) in [
        ("{{ .Release.Name }} {{ .Release.Namespace }} {{ .Release.Service }}", "r ns Helm"),
        ("{{ .Release.IsUpgrade }} {{ .Release.IsInstall }} {{ .Release.Revision }}", "false true 1"),
        ("{{ .Chart.Name }} {{ .Chart.Version }} {{ .Chart.AppVersion }}", "c 1.2.3+x 1.30"),
        ("{{ .Files.Get \"files/a.txt\" }}[{{ .Files.Get \"none\" }}]", "hello[]"),
        ("{{ \"files/a.txt\" | $.Files.Get }}", "hello"),
        ("{{ .Capabilities.KubeVersion.GitVersion }}", "v1.33.4-gke.1245000"),
        ("{{ .Capabilities.KubeVersion.Major }}.{{ .Capabilities.KubeVersion.Minor }}", "1.33"),
        ("{{ .Capabilities.APIVersions.Has \"apps/v1\" }}{{ .Capabilities.APIVersions.Has \"x/v1\" }}", "truefalse"),
        ("{{ .Template.Name }} {{ .Template.BasePath }}", "c/templates/a.yaml c/templates"),
    ] {
        assert_eq!(text(template, &json!({})).unwrap(), expected);
    }
}

#[test]
fn rejects_values_that_contain_themselves() {
    let chart = chart(&[
        ("values.yaml", "defaults: {a: 1, b: {c: 2}}\n"),
        ("templates/zzz.yaml", "{{- $_ := set $ \"Values\" (mustMergeOverwrite $.Values.defaults $.Values) }}"),
        ("templates/b.yaml", "a: {{ .Values.a }} {{ .Values.b.c }}"),
        ("templates/_c.yaml", "never shown"),
        ("templates/NOTES.txt", "never shown"),
        ("templates/a.yaml", "   \n"),
    ]);
    let out = render_with(&chart, &json!({"b": {"c": 3}, "defaults": {"b": {}}}), &Limits::default());
    // `defaults` would contain itself: an error, not an endless loop.
    assert!(
        matches!(out, Err(RenderError::Template { ref template, .. }) if template == "c/templates/zzz.yaml"),
        "{out:?}"
    );
}

#[test]
fn later_templates_see_changes_of_earlier_ones() {
    let chart = chart(&[
        ("values.yaml", "inner: {a: 1}\n"),
        (
            "templates/zzz.yaml",
            "{{- $d := $.Values.inner }}{{ $_ := unset $.Values \"inner\" }}\
            {{- $_ := set $ \"Values\" (mustMergeOverwrite $d $.Values) }}",
        ),
        ("templates/b.yaml", "b: {{ .Values.a }} {{ .Values.x }}"),
        ("templates/a.yaml", "a: {{ .Values.a }}"),
    ]);
    let out = render_with(&chart, &json!({"x": 2}), &Limits::default()).unwrap();
    let out: Vec<_> = out.iter().map(|r| (r.template.as_str(), r.text.as_str())).collect();
    assert_eq!(out, [("c/templates/a.yaml", "a: 1"), ("c/templates/b.yaml", "b: 1 2")]);
}

#[test]
fn output_is_deterministic() {
    let chart = chart(&[("templates/a.yaml", "{{ set .Values \"n\" 1 | toYaml }}")]);
    let first = render_with(&chart, &json!({"z": {"b": 1, "a": [1]}}), &Limits::default()).unwrap();
    assert_eq!(first, render_with(&chart, &json!({"z": {"b": 1, "a": [1]}}), &Limits::default()).unwrap());
}

#[test]
fn reports_fail_and_required_with_location() {
    let error = text("\n{{ fail (cat \"unknown profile\" .Values.p) }}", &json!({"p": "x"})).unwrap_err();
    assert_eq!(error.to_string(), "chart c: c/templates/a.yaml:2: unknown profile x");
    let error = text("{{ required \"x is needed\" .Values.x }}", &json!({})).unwrap_err();
    assert!(matches!(error, RenderError::Rejected { message, .. } if message == "x is needed"));
}

#[test]
fn runs_notes_but_omits_their_output() {
    let refusing =
        chart(&[("templates/NOTES.txt", "Installed! {{ if .Values.old }}{{ fail \"old is gone\" }}{{ end }}")]);
    assert_eq!(render_with(&refusing, &json!({}), &Limits::default()).unwrap(), []);
    assert!(render_with(&refusing, &json!({"old": 1}), &Limits::default()).is_err());
}

#[test]
fn validates_schema_before_rendering() {
    let chart = chart(&[
        ("values.schema.json", r#"{"properties": {"replicas": {"type": "integer"}}, "additionalProperties": false}"#),
        ("templates/a.yaml", "{{ fail \"reached\" }}"),
    ]);
    let error = render_with(&chart, &json!({"replicas": "two", "x": 1}), &Limits::default()).unwrap_err();
    let RenderError::Schema { problems, .. } = error else { panic!("{error}") };
    assert_eq!(problems.len(), 2);
    assert!(matches!(
        render_with(&chart, &json!([1]), &Limits::default()),
        Err(RenderError::Values { found: "a list", .. })
    ));
}

#[test]
fn limits_stop_endless_templates() {
    let limits = Limits { max_output_bytes: 100_000, max_steps: 50_000 };
    for (template, expected) in [
        ("{{ define \"x\" }}{{ include \"x\" . }}{{ end }}{{ include \"x\" . }}", "deep nesting"),
        ("{{ tpl .Values.self . }}", "deep nesting"),
        ("{{ range 100000 }}{{ end }}", "many steps"),
        ("{{ repeat 100001 \"x\" }}", "much output"),
        ("{{ indent 10000 .Values.lines }}", "much output"),
        ("{{ range 1000 }}{{ $.Values.wide }}{{ end }}", "much output"),
        ("{{ $m := dict }}{{ range 40 }}{{ $m = dict \"a\" $m \"b\" $m }}{{ end }}{{ deepCopy $m }}", "many steps"),
        ("{{ $m := dict }}{{ range 500 }}{{ $m = dict \"a\" $m }}{{ end }}{{ toYaml $m }}", "deep nesting"),
        ("{{ $m := dict }}{{ range 500 }}{{ $m = dict \"a\" $m }}{{ end }}{{ $m }}", "deep nesting"),
    ] {
        let values = json!({"self": "{{ tpl .Values.self . }}", "lines": "a\n".repeat(20), "wide": "x".repeat(1000)});
        let error = render_with(&chart(&[("templates/a.yaml", template)]), &values, &limits).unwrap_err();
        assert!(matches!(error, RenderError::Limit { limit, .. } if limit == expected), "{template}: {error}");
    }
}

#[test]
fn output_limit_covers_all_templates() {
    let chart =
        chart(&[("templates/a.yaml", "{{ repeat 600 \"x\" }}"), ("templates/b.yaml", "{{ repeat 600 \"x\" }}")]);
    let limits = Limits { max_output_bytes: 1000, ..Limits::default() };
    assert!(matches!(render_with(&chart, &json!({}), &limits), Err(RenderError::Limit { limit: "much output", .. })));
}

#[test]
fn chart_is_send_and_sync() {
    fn shared<T: Send + Sync>() {}
    shared::<Chart>();
}
