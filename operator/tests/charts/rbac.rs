//! The committed RBAC manifests match the charts.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The output of `meshwright rbac` for the catalog.
fn printed(flags: &[&str]) -> String {
    let catalogs = std::env::join_paths(super::rendering::catalog_dirs()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshwright"));
    let output = command.arg("rbac").args(flags).env("MESHWRIGHT_CATALOG", catalogs).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn committed_rbac_is_up_to_date() {
    for (file, flags) in [
        ("rbac/rbac.yaml", &[][..]),
        ("rbac/README.md", &["--document"][..]),
        ("overlays/namespaced-permissions/rbac.yaml", &["--cluster-scoped-resources", "external"][..]),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config").join(file);
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        let generated = printed(flags);
        let line = committed.lines().zip(generated.lines()).position(|(old, new)| old != new).unwrap_or_default() + 1;
        assert!(committed == generated, "config/{file} is out of date from line {line} on; run: make generate");
    }
}

#[test]
fn empty_environment_variable_counts_as_unset() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshwright"));
    let output = command.arg("rbac").env("MESHWRIGHT_CATALOG", "").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains("--catalog <DIR>"), "{stderr}");
}

#[test]
fn document_explains_every_chart_role() {
    let document = printed(&["--document"]);
    let parts: Vec<&str> = document.split("\n#### ").skip(1).collect();
    assert!(parts.len() > 5, "{document}");
    for part in parts {
        assert!(part.contains("Purpose: ") && part.contains("Without it: "), "{part}");
    }
}

/// Whether the printed ClusterRole allows patching nodes.
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
fn values_that_extend_istio_roles_extend_the_operators() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.yaml");
    std::fs::write(&file, "istiod:\n  taint: {enabled: true}\n").unwrap();
    assert!(!patches_nodes(&printed(&[])));
    assert!(patches_nodes(&printed(&["--values", file.to_str().unwrap()])));
}
