//! A synthetic release, and tests across the catalog's modules.

mod bundle;
mod facts;
mod import;
mod store;

use std::{fs, path::Path};

use semver::Version;
use tempfile::TempDir;

use super::{
    ReleaseFacts,
    import::{ImportError, ImportOptions, PutOutcome, import},
};

pub(crate) fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Charts as in Istio's source tree: without a version, and with the development registry.
pub(crate) fn source_tree() -> TempDir {
    let tree = TempDir::new().unwrap();
    let global = "_internal_defaults_do_not_set:\n  global:\n    hub: dev.example.com/testing\n    tag: latest\n";
    for (directory, name, values) in [
        ("base", "base", "_internal_defaults_do_not_set:\n  base: {}\n"),
        ("istio-control/istio-discovery", "istiod", global),
        ("gateway", "gateway", "_internal_defaults_do_not_set:\n  kind: Deployment\n"),
        ("istio-cni", "cni", global),
        ("ztunnel", "ztunnel", "_internal_defaults_do_not_set:\n  hub: dev.example.com/testing\n  tag: latest\n"),
    ] {
        let directory = format!("manifests/charts/{directory}");
        let chart =
            format!("apiVersion: v2\nname: {name}\n# Set by the release build\nversion: 1.0.0\nappVersion: 1.0.0\n");
        write(tree.path(), &format!("{directory}/Chart.yaml"), &chart);
        write(tree.path(), &format!("{directory}/values.yaml"), values);
        let template = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\n";
        write(tree.path(), &format!("{directory}/templates/object.yaml"), template);
        write(tree.path(), &format!("{directory}/files/data.txt"), "data\n");
    }
    write(tree.path(), &format!("{BASE}/templates/crds.yaml"), &crds("1.32"));
    tree
}

/// The directory of the base chart in a source tree.
const BASE: &str = "manifests/charts/base";

/// The CRDs of a minor, with nothing but their names.
fn crds(minor: &str) -> String {
    let facts = ReleaseFacts::bundled().unwrap();
    let names = facts.crds(minor.parse().unwrap()).unwrap().iter();
    let crd = "---\nkind: CustomResourceDefinition\nmetadata:\n  name: ";
    names.fold(String::new(), |text, name| text + crd + name + "\n")
}

fn version(text: &str) -> Version {
    Version::parse(text).unwrap()
}

fn add(from: &Path, text: &str, catalog: &Path, replace: bool) -> Result<PutOutcome, ImportError> {
    let version = version(text);
    let request = ImportOptions { from, version: &version, catalog, source: "a test", replace };
    import(&request, &ReleaseFacts::bundled().unwrap())
}

/// A catalog with the synthetic release under these versions.
fn catalog_with(versions: &[&str]) -> TempDir {
    let source = source_tree();
    let catalog = TempDir::new().unwrap();
    for version in versions {
        assert_eq!(add(source.path(), version, catalog.path(), false).unwrap(), PutOutcome::Added);
    }
    catalog
}
