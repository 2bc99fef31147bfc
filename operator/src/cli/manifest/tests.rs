use super::*;

fn read_text(text: &str) -> Result<MeshInstallation, String> {
    parse(text, Path::new("mi.yaml")).map_err(|error| crate::catalog::error_chain(&error))
}

fn of_spec(spec: &str) -> Result<MeshInstallation, String> {
    read_text(&format!("apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata: {{name: mesh}}\nspec: {spec}\n"))
}

fn assert_rejected(spec: &str, words: &[&str]) {
    let problem = of_spec(spec).unwrap_err();
    assert!(words.iter().all(|word| problem.contains(word)), "{spec}: {problem}");
}

#[test]
fn reads_installation_with_defaults() {
    let mesh = of_spec("{version: '1.31', gateways: [{name: gw}]}").unwrap();
    assert_eq!((mesh.spec.namespace.as_str(), mesh.spec.gateways.len()), ("istio-system", 1));
}

#[test]
fn samples_are_valid() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/samples");
    let files = fs::read_dir(samples).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let names: Vec<Option<String>> = files.map(|file| read(&file).unwrap().metadata.name).collect();
    assert!(names.len() >= 3);
}

#[test]
fn validates_values_file_strictly() {
    let read = |text: &str| values(text, Path::new("values.yaml")).map_err(|error| crate::catalog::error_chain(&error));
    assert_eq!(read("istiod: {taint: {enabled: true}}").unwrap().istiod.0["taint"]["enabled"], true);
    assert_eq!(read("# nothing yet\n").unwrap(), ChartValues::default());
    let problem = read("isitod: {}").unwrap_err();
    assert!(problem.contains("values.yaml") && problem.contains("spec.values.isitod: unknown"), "{problem}");
    assert!(!problem.contains("API server"), "values files aren't sent to the API server: {problem}");
    assert!(read("istiod: {}\nistiod: {}\n").is_err());
}

#[test]
fn lists_known_fields_for_unknown_field() {
    assert_rejected("{version: '1.31', gatways: []}", &["spec.gatways: unknown", "gateways"]);
    assert_rejected("{version: '1.31', gateways: [{name: gw, servce: {}}]}", &["spec.gateways[0].servce: unknown"]);
    let meta = read_text(&format!(
        "apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata: {{name: mesh, label: {{}}}}\nspec: {{version: \
         '1.31'}}\nspecs: 1"
    ));
    let problem = meta.unwrap_err();
    assert!(problem.contains("metadata.label: unknown") && problem.contains("specs: unknown"), "{problem}");
}

#[test]
fn accepts_any_field_in_free_form_objects() {
    of_spec("{version: '1.31', meshConfig: {anything: {at: all}}, values: {istiod: {a: null}}}").unwrap();
}

#[test]
fn reports_all_errors_at_once() {
    assert_rejected(
        "{version: 1.31, profile: tiny, gateways: [{name: a}, {name: a}]}",
        &["spec.version: must be of type string", "spec.profile: must be one of", "spec.gateways[1]: has the same key"],
    );
}

#[test]
fn evaluates_cel_rules() {
    assert_rejected("{version: v1.31.2}", &["leading v"]);
    assert_rejected(
        "{version: '1.31', gateways: [{name: gw, service: {type: ClusterIP, ports: [{name: a, port: 80, nodePort: 30401}]}}]}",
        &["requires service.type NodePort or LoadBalancer"],
    );
}

#[test]
fn reports_changed_immutable_fields() {
    let old = of_spec("{version: '1.31'}").unwrap();
    let moved = of_spec("{version: '1.31', namespace: elsewhere}").unwrap();
    let problems = update_errors(&old, &moved);
    assert!(problems.len() == 1 && problems[0].contains("namespace"), "{problems:?}");
    assert_eq!(update_errors(&old, &of_spec("{version: '1.32', profile: demo}").unwrap()), [""; 0]);
}

#[test]
fn validates_names_like_api_server() {
    let named = |name: &str| {
        read_text(&format!(
            "apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata: {{name: {name}}}\nspec: {{version: '1.31'}}"
        ))
    };
    assert!(named("mesh-1.a").is_ok());
    for name in ["Mesh", "-mesh", "''", "a..b"] {
        assert!(named(name).unwrap_err().contains("metadata.name"), "{name}");
    }
}

#[test]
fn distinguishes_kind_count_and_syntax_errors() {
    assert!(read_text("apiVersion: v1\nkind: Pod").unwrap_err().contains("Pod of v1"));
    assert!(read_text("v: 1").unwrap_err().contains("has a document without kind; expected MeshInstallation of"));
    assert!(read_text("kind: Mesh").unwrap_err().contains("Mesh without apiVersion"));
    let duplicate = read_text("kind: a\nkind: b").unwrap_err();
    assert!(
        duplicate.contains("duplicate") && duplicate.contains("kind") && !duplicate.contains("Policy"),
        "{duplicate}"
    );
    assert!(duplicate.contains("line 2"), "{duplicate}");
    assert!(read_text("a: 1\n---\nb: 2").unwrap_err().contains("2 documents"));
    assert!(read_text("").unwrap_err().contains("0 documents"));
    assert!(read_text("a: [").unwrap_err().contains("is not valid YAML"));
    assert!(read(Path::new("/nowhere/mi.yaml")).is_err());
}
