//! A made-up release, and tests of what spans several files of the room.

mod bundle;
mod facts;
mod import;
mod store;

use std::{fs, path::Path};

use semver::Version;
use tempfile::TempDir;

use super::{
    Facts,
    import::{Import, ImportError, Outcome, import},
};

pub(crate) fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Charts as they lie in Istio's source tree: no version yet, and the development registry.
pub(crate) fn source_tree() -> TempDir {
    let tree = TempDir::new().unwrap();
    let global = "_internal_defaults_do_not_set:\n  global:\n    hub: dev.example.com/testing\n    tag: latest\n";
    for (folder, name, values) in [
        ("base", "base", "_internal_defaults_do_not_set:\n  base: {}\n"),
        ("istio-control/istio-discovery", "istiod", global),
        ("gateway", "gateway", "_internal_defaults_do_not_set:\n  kind: Deployment\n"),
        ("istio-cni", "cni", global),
        ("ztunnel", "ztunnel", "_internal_defaults_do_not_set:\n  hub: dev.example.com/testing\n  tag: latest\n"),
    ] {
        let folder = format!("manifests/charts/{folder}");
        let chart =
            format!("apiVersion: v2\nname: {name}\n# Set by the release build\nversion: 1.0.0\nappVersion: 1.0.0\n");
        write(tree.path(), &format!("{folder}/Chart.yaml"), &chart);
        write(tree.path(), &format!("{folder}/values.yaml"), values);
        let template = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\n";
        write(tree.path(), &format!("{folder}/templates/object.yaml"), template);
        write(tree.path(), &format!("{folder}/files/data.txt"), "data\n");
    }
    write(tree.path(), &format!("{BASE}/templates/crds.yaml"), &definitions("1.32"));
    tree
}

/// The folder of the base chart in a source tree.
const BASE: &str = "manifests/charts/base";

/// The definitions of a minor, by no more than their names.
fn definitions(minor: &str) -> String {
    let facts = Facts::bundled().unwrap();
    let names = facts.crds(minor.parse().unwrap()).unwrap().iter();
    let definition = "---\nkind: CustomResourceDefinition\nmetadata:\n  name: ";
    names.fold(String::new(), |text, name| text + definition + name + "\n")
}

fn version(text: &str) -> Version {
    Version::parse(text).unwrap()
}

fn add(from: &Path, text: &str, catalog: &Path, replace: bool) -> Result<Outcome, ImportError> {
    let version = version(text);
    let request = Import { from, version: &version, catalog, source: "a test", replace };
    import(&request, &Facts::bundled().unwrap())
}

/// A catalog with the made-up release under these versions.
fn catalog_with(versions: &[&str]) -> TempDir {
    let source = source_tree();
    let catalog = TempDir::new().unwrap();
    for version in versions {
        assert_eq!(add(source.path(), version, catalog.path(), false).unwrap(), Outcome::Added);
    }
    catalog
}
