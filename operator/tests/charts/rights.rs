//! The committed rights are those that the charts ask for.

use std::path::Path;
use std::process::Command;

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
    for (file, flags) in [("rbac.yaml", &[][..]), ("README.md", &["--document"][..])] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/rbac").join(file);
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        let made = printed(flags);
        let line = committed.lines().zip(made.lines()).position(|(old, new)| old != new).unwrap_or_default() + 1;
        assert!(committed == made, "config/rbac/{file} is out of date from line {line} on; run: make generate");
    }
}

#[test]
fn an_empty_variable_is_one_that_is_not_set() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshwright"));
    let output = command.arg("rbac").env("MESHWRIGHT_CATALOG", "").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("--catalog <DIR>"), "{said}");
}
