//! The bundle that is committed, and what it is made of.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::sources::{self, Sources};
use super::{Bundle, Files, Maintainer, MakeError, Publication, list, make, text, texts};
use crate::yaml;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config")
}

fn read() -> Sources {
    Sources::read(&config(), &config().join("../bundled-manifests/addons")).unwrap()
}

fn publication() -> Publication {
    Publication {
        image: Some("registry.test/mesh/meshwright:0.1.0".into()),
        repository: Some("https://code.test/meshwright".into()),
        maintainer: Some(Maintainer { name: "A Team".into(), email: "team@code.test".into() }),
    }
}

/// The bundle as somebody would publish it.
pub(super) fn published() -> Bundle {
    // Made once: the CRD is long, and most tests start from the same bundle.
    static ONCE: LazyLock<Bundle> =
        LazyLock::new(|| Bundle::try_from(&make(read(), publication(), VERSION).unwrap()).unwrap());
    ONCE.clone()
}

fn committed() -> Files {
    sources::bundle(&config().join("olm")).unwrap()
}

#[test]
fn the_committed_bundle_is_the_one_that_is_made() {
    let (committed, made) = (committed(), make(read(), Publication::default(), VERSION).unwrap());
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&committed), names(&made), "run: make bundle");
    for (path, text) in made {
        let same = committed.get(&path) == Some(&text);
        assert!(same, "config/olm/{path} is out of date; run: make bundle");
    }
}

#[test]
fn the_committed_bundle_has_placeholders_for_what_only_a_publisher_knows() {
    let bundle = Bundle::try_from(&committed()).unwrap();
    let told = super::rules::judge(&bundle);
    let placeholders: Vec<&str> =
        told.iter().filter(|it| it.rule.name == "no-placeholders").map(|it| it.message.as_str()).collect();
    assert_eq!(placeholders.len(), 3, "{placeholders:?}");
    assert_eq!(told.len(), 4, "{told:?}");
}

#[test]
fn the_deployment_is_config_managers_but_for_the_image() {
    let sources = read();
    let bundle = published();
    let deployment = sources.manager.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let mut spec = bundle.deployments()[0]["spec"].clone();
    for container in spec.pointer_mut("/template/spec/containers").unwrap().as_array_mut().unwrap() {
        assert_eq!(container["image"], "registry.test/mesh/meshwright:0.1.0");
        container["image"] = deployment["spec"]["template"]["spec"]["containers"][0]["image"].clone();
    }
    assert_eq!(spec, deployment["spec"]);
    assert_eq!(bundle.deployments()[0]["name"], deployment["metadata"]["name"]);
}

#[test]
fn the_images_of_the_operator_and_of_each_add_on_are_related() {
    let bundle = published();
    let related: Vec<(&str, &str)> =
        list(bundle.csv(), "/spec/relatedImages").iter().map(|it| (text(it, "/name"), text(it, "/image"))).collect();
    let names: Vec<&str> = related.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["operator", "grafana", "jaeger", "kiali", "prometheus"]);
    let document = include_str!("../../../docs/addons.md");
    for (name, image) in related.iter().skip(1) {
        assert!(document.lines().any(|row| row.starts_with(&format!("| {name} |")) && row.contains(image)), "{image}");
    }
}

#[test]
fn the_rights_are_config_rbacs_each_in_its_scope() {
    let sources = read();
    let bundle = published();
    for (kind, part) in [("ClusterRole", "clusterPermissions"), ("Role", "permissions")] {
        let roles: Vec<&Value> =
            sources.rights.iter().filter(|it| it["kind"] == kind).map(|role| &role["rules"]).collect();
        let asked: Vec<&Value> =
            list(bundle.csv(), &format!("/spec/install/spec/{part}")).iter().map(|it| &it["rules"]).collect();
        assert!(!roles.is_empty());
        assert_eq!(asked, roles);
    }
}

#[test]
fn the_examples_are_the_samples() {
    let bundle = published();
    let examples: Vec<Value> = serde_json::from_str(bundle.csv_annotation("alm-examples").unwrap()).unwrap();
    assert_eq!(examples, read().samples);
    let files = std::fs::read_dir(config().join("samples")).unwrap().map(|entry| entry.unwrap().path());
    assert_eq!(examples.len(), files.filter(|path| path.is_file()).count());
    assert_eq!(examples[0]["spec"]["profile"], "minimal", "the first is what a console starts from");
}

#[test]
fn the_namespace_that_is_suggested_is_the_restricted_one_of_config_manager() {
    let bundle = published();
    let template = bundle.csv_annotation("operatorframework.io/suggested-namespace-template").unwrap();
    let template: Value = serde_json::from_str(template).unwrap();
    assert_eq!(template["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    let name = bundle.csv_annotation("operatorframework.io/suggested-namespace");
    assert_eq!(name, template["metadata"]["name"].as_str());
}

#[test]
fn the_crd_of_the_bundle_is_the_committed_one_to_the_last_byte() {
    let made = make(read(), Publication::default(), VERSION).unwrap();
    let crd = std::fs::read_to_string(config().join("crd/meshinstallations.yaml")).unwrap();
    assert!(made["manifests/meshwright.dev_meshinstallations.yaml"] == crd);
}

#[test]
fn objects_beside_the_csv_have_no_namespace_since_olm_gives_them_one() {
    let bundle = published();
    let service = bundle.of_kind("Service").next().unwrap();
    assert_eq!(service["metadata"]["namespace"], Value::Null);
    assert_eq!(texts(service, "/metadata/namespace").count(), 0);
}

#[test]
fn what_a_publisher_says_stands_in_place_of_the_placeholders() {
    let bundle = published();
    assert_eq!(bundle.csv_annotation("repository"), Some("https://code.test/meshwright"));
    assert_eq!(text(bundle.csv(), "/spec/links/0/url"), "https://code.test/meshwright");
    assert_eq!(bundle.csv()["spec"]["maintainers"], json!([{"name": "A Team", "email": "team@code.test"}]));
    let text = serde_json::to_string(bundle.csv()).unwrap();
    assert!(!text.contains(".example/") && !text.contains("@meshwright.example"));
}

#[test]
fn a_further_object_of_the_operators_must_be_given_a_place() {
    let mut sources = read();
    sources.manager.push(json!({"kind": "ConfigMap", "metadata": {"name": "settings"}}));
    let refusal = make(sources, Publication::default(), VERSION).unwrap_err();
    assert!(matches!(&refusal, MakeError::NoPlace { kind, name } if kind == "ConfigMap" && name == "settings"));
}

#[test]
fn the_scorecard_names_each_test_once_and_each_of_one_image() {
    let scorecard: Value = yaml::parse(&read().scorecard).unwrap();
    let tests = list(&scorecard, "/stages/0/tests");
    let mut names: Vec<&str> = tests.iter().map(|test| text(test, "/entrypoint/1")).collect();
    let images: std::collections::BTreeSet<&str> = tests.iter().map(|test| text(test, "/image")).collect();
    assert_eq!(images.len(), 1);
    names.dedup();
    assert_eq!(names.len(), 6);
    for test in tests {
        assert_eq!(text(test, "/labels/test"), format!("{}-test", text(test, "/entrypoint/1")));
    }
}
