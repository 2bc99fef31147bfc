use super::*;

fn read_text(text: &str) -> Result<MeshInstallation, String> {
    parse(text, Path::new("mi.yaml")).map_err(|error| crate::catalog::explain(&error))
}

fn of_spec(spec: &str) -> Result<MeshInstallation, String> {
    read_text(&format!("apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata: {{name: mesh}}\nspec: {spec}\n"))
}

fn refused(spec: &str, words: &[&str]) {
    let problem = of_spec(spec).unwrap_err();
    assert!(words.iter().all(|word| problem.contains(word)), "{spec}: {problem}");
}

#[test]
fn a_good_installation_is_read_with_its_defaults() {
    let mesh = of_spec("{version: '1.31', gateways: [{name: gw}]}").unwrap();
    assert_eq!((mesh.spec.namespace.as_str(), mesh.spec.gateways.len()), ("istio-system", 1));
}

#[test]
fn every_sample_is_good() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/samples");
    let files = fs::read_dir(samples).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let names: Vec<Option<String>> = files.map(|file| read(&file).unwrap().metadata.name).collect();
    assert!(names.len() >= 3);
}

#[test]
fn values_by_themselves_are_read_as_strictly_as_in_an_installation() {
    let read = |text: &str| values(text, Path::new("values.yaml")).map_err(|error| crate::catalog::explain(&error));
    assert_eq!(read("istiod: {taint: {enabled: true}}").unwrap().istiod.0["taint"]["enabled"], true);
    assert_eq!(read("# nothing yet\n").unwrap(), ChartValues::default());
    let problem = read("isitod: {}").unwrap_err();
    assert!(problem.contains("values.yaml") && problem.contains("spec.values.isitod: unknown"), "{problem}");
    assert!(!problem.contains("API server"), "the file is never sent to one: {problem}");
    assert!(read("istiod: {}\nistiod: {}\n").is_err());
}

#[test]
fn an_unknown_field_is_named_with_those_that_there_are() {
    refused("{version: '1.31', gatways: []}", &["spec.gatways: unknown", "gateways"]);
    refused("{version: '1.31', gateways: [{name: gw, servce: {}}]}", &["spec.gateways[0].servce: unknown"]);
    let meta = read_text(&format!(
        "apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata: {{name: mesh, label: {{}}}}\nspec: {{version: '1.31'}}\nspecs: 1"
    ));
    let problem = meta.unwrap_err();
    assert!(problem.contains("metadata.label: unknown") && problem.contains("specs: unknown"), "{problem}");
}

#[test]
fn free_form_parts_take_any_field() {
    of_spec("{version: '1.31', meshConfig: {anything: {at: all}}, values: {istiod: {a: null}}}").unwrap();
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    refused(
        "{version: 1.31, profile: tiny, gateways: [{name: a}, {name: a}]}",
        &["spec.version: must be of type string", "spec.profile: must be one of", "spec.gateways[1]: has the same key"],
    );
}

#[test]
fn the_definitions_rules_are_applied_too() {
    refused("{version: v1.31.2}", &["without a leading v"]);
    refused(
        "{version: '1.31', gateways: [{name: gw, service: {type: ClusterIP, ports: [{name: a, port: 80, nodePort: 30401}]}}]}",
        &["needs a service of type NodePort or LoadBalancer"],
    );
}

#[test]
fn a_change_of_what_cannot_be_changed_is_named() {
    let old = of_spec("{version: '1.31'}").unwrap();
    let moved = of_spec("{version: '1.31', namespace: elsewhere}").unwrap();
    let problems = refused_change(&old, &moved);
    assert!(problems.len() == 1 && problems[0].contains("namespace"), "{problems:?}");
    assert_eq!(refused_change(&old, &of_spec("{version: '1.32', profile: demo}").unwrap()), [""; 0]);
}

#[test]
fn names_must_be_such_as_the_api_server_takes() {
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
fn another_kind_several_documents_and_no_yaml_are_told_apart() {
    assert!(read_text("apiVersion: v1\nkind: Pod").unwrap_err().contains("Pod of v1"));
    assert!(read_text("v: 1").unwrap_err().contains("has something without kind, not a MeshInstallation of"));
    assert!(read_text("kind: Mesh").unwrap_err().contains("a Mesh without apiVersion"));
    let twice = read_text("kind: a\nkind: b").unwrap_err();
    assert!(twice.contains("duplicate") && twice.contains("kind") && !twice.contains("Policy"), "{twice}");
    assert!(twice.contains("line 2"), "{twice}");
    assert!(read_text("a: 1\n---\nb: 2").unwrap_err().contains("2 documents"));
    assert!(read_text("").unwrap_err().contains("0 documents"));
    assert!(read_text("a: [").unwrap_err().contains("is no YAML"));
    assert!(read(Path::new("/nowhere/mi.yaml")).is_err());
}
