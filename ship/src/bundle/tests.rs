//! The committed bundle and its sources.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::sources::{self, Sources};
use super::{Bundle, Files, Maintainer, MakeError, PublicationSettings, list, make, text, texts};
use crate::yaml;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config")
}

fn read() -> Sources {
    Sources::read(&config(), &config().join("../bundled-manifests/addons")).unwrap()
}

fn publication() -> PublicationSettings {
    PublicationSettings {
        image: Some("registry.test/mesh/meshwright:0.1.0".into()),
        repository: Some("https://code.test/meshwright".into()),
        maintainer: Some(Maintainer { name: "A Team".into(), email: "team@code.test".into() }),
    }
}

/// The bundle with a publisher's settings.
pub(super) fn published() -> Bundle {
    // Generated once, since the CRD is large and most tests use the same bundle.
    static ONCE: LazyLock<Bundle> =
        LazyLock::new(|| Bundle::try_from(&make(read(), publication(), VERSION).unwrap()).unwrap());
    ONCE.clone()
}

fn committed() -> Files {
    sources::bundle(&config().join("olm")).unwrap()
}

#[test]
fn committed_bundle_is_up_to_date() {
    let (committed, generated) = (committed(), make(read(), PublicationSettings::default(), VERSION).unwrap());
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&committed), names(&generated), "run: make bundle");
    for (path, text) in generated {
        let same = committed.get(&path) == Some(&text);
        assert!(same, "config/olm/{path} is out of date; run: make bundle");
    }
}

#[test]
fn committed_bundle_has_placeholders_for_publisher() {
    let bundle = Bundle::try_from(&committed()).unwrap();
    let violations = super::rules::validate(&bundle);
    let placeholders: Vec<&str> =
        violations.iter().filter(|it| it.rule.name == "no-placeholders").map(|it| it.message.as_str()).collect();
    assert_eq!(placeholders.len(), 3, "{placeholders:?}");
    assert_eq!(violations.len(), 4, "{violations:?}");
}

#[test]
fn deployment_matches_manifests_except_image() {
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
fn related_images_have_operator_and_add_ons() {
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
fn permissions_match_config_rbac() {
    let sources = read();
    let bundle = published();
    for (kind, part) in [("ClusterRole", "clusterPermissions"), ("Role", "permissions")] {
        let roles: Vec<&Value> =
            sources.rbac.iter().filter(|it| it["kind"] == kind).map(|role| &role["rules"]).collect();
        let permissions: Vec<&Value> =
            list(bundle.csv(), &format!("/spec/install/spec/{part}")).iter().map(|it| &it["rules"]).collect();
        assert!(!roles.is_empty());
        assert_eq!(permissions, roles);
    }
}

#[test]
fn examples_match_samples() {
    let bundle = published();
    let examples: Vec<Value> = serde_json::from_str(bundle.csv_annotation("alm-examples").unwrap()).unwrap();
    assert_eq!(examples, read().samples);
    let files = std::fs::read_dir(config().join("samples")).unwrap().map(|entry| entry.unwrap().path());
    assert_eq!(examples.len(), files.filter(|path| path.is_file()).count());
    assert_eq!(examples[0]["spec"]["profile"], "minimal", "consoles use the first as template");
}

#[test]
fn suggested_namespace_enforces_restricted() {
    let bundle = published();
    let template = bundle.csv_annotation("operatorframework.io/suggested-namespace-template").unwrap();
    let template: Value = serde_json::from_str(template).unwrap();
    assert_eq!(template["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    let name = bundle.csv_annotation("operatorframework.io/suggested-namespace");
    assert_eq!(name, template["metadata"]["name"].as_str());
}

#[test]
fn bundled_crd_is_the_committed_crd() {
    let files = make(read(), PublicationSettings::default(), VERSION).unwrap();
    let crd = std::fs::read_to_string(config().join("crd/meshinstallations.yaml")).unwrap();
    assert!(files["manifests/meshwright.dev_meshinstallations.yaml"] == crd);
}

#[test]
fn objects_have_no_namespace() {
    let bundle = published();
    let service = bundle.of_kind("Service").next().unwrap();
    assert_eq!(service["metadata"]["namespace"], Value::Null);
    assert_eq!(texts(service, "/metadata/namespace").count(), 0);
}

#[test]
fn publication_settings_replace_placeholders() {
    let bundle = published();
    assert_eq!(bundle.csv_annotation("repository"), Some("https://code.test/meshwright"));
    assert_eq!(text(bundle.csv(), "/spec/links/0/url"), "https://code.test/meshwright");
    assert_eq!(bundle.csv()["spec"]["maintainers"], json!([{"name": "A Team", "email": "team@code.test"}]));
    let text = serde_json::to_string(bundle.csv()).unwrap();
    assert!(!text.contains(".example/") && !text.contains("@meshwright.example"));
}

#[test]
fn rejects_unhandled_object_in_config_manager() {
    let mut sources = read();
    sources.manager.push(json!({"kind": "ConfigMap", "metadata": {"name": "settings"}}));
    let error = make(sources, PublicationSettings::default(), VERSION).unwrap_err();
    assert!(matches!(&error, MakeError::UnhandledObject { kind, name } if kind == "ConfigMap" && name == "settings"));
}

#[test]
fn scorecard_tests_are_unique_with_one_image() {
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
