//! The committed rights are those that the charts ask for.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What `meshwright rbac` prints for the catalog.
fn printed(flags: &[&str]) -> String {
    let catalogs = std::env::join_paths(super::rendering::catalog_dirs()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshwright"));
    let output = command.arg("rbac").args(flags).env("MESHWRIGHT_CATALOG", catalogs).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_committed_rights_and_their_document_are_the_generated_ones() {
    for (file, flags) in [
        ("rbac/rbac.yaml", &[][..]),
        ("rbac/README.md", &["--document"][..]),
        ("overlays/namespaced-rights/rbac.yaml", &["--cluster-objects", "preinstalled"][..]),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config").join(file);
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        let made = printed(flags);
        let line = committed.lines().zip(made.lines()).position(|(old, new)| old != new).unwrap_or_default() + 1;
        assert!(committed == made, "config/{file} is out of date from line {line} on; run: make generate");
    }
}

#[test]
fn an_empty_variable_is_one_that_is_not_set() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshwright"));
    let output = command.arg("rbac").env("MESHWRIGHT_CATALOG", "").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("--catalog <DIR>"), "{said}");
}

#[test]
fn of_every_role_of_the_charts_the_document_says_what_it_is_for_and_what_fails_without_it() {
    let document = printed(&["--document"]);
    let parts: Vec<&str> = document.split("\n#### ").skip(1).collect();
    assert!(parts.len() > 5, "{document}");
    for part in parts {
        assert!(part.contains("What for: ") && part.contains("Without it: "), "{part}");
    }
}

/// Whether the printed ClusterRole lets nodes be patched.
fn patches_nodes(manifests: &str) -> bool {
    let documents: Vec<Value> = serde_saphyr::from_multiple(manifests).unwrap();
    let role = documents.iter().find(|document| document["kind"] == "ClusterRole").unwrap();
    let has = |list: &Value, word: &str| list.as_array().unwrap().iter().any(|entry| entry == word);
    role["rules"]
        .as_array()
        .unwrap()
        .iter()
        .any(|rule| has(&rule["resources"], "nodes") && has(&rule["verbs"], "patch"))
}

#[test]
fn values_by_which_a_role_of_istios_allows_more_give_the_operator_the_same_right() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.yaml");
    std::fs::write(&file, "istiod:\n  taint: {enabled: true}\n").unwrap();
    assert!(!patches_nodes(&printed(&[])));
    assert!(patches_nodes(&printed(&["--values", file.to_str().unwrap()])));
}
