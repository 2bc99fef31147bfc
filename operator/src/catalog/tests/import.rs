//! Imports from directories.

use std::{fs, os::unix::fs::symlink};

use super::*;
use crate::catalog::{Catalog, ChartName, assemble::AssembleError, error_chain, put::PutError};

const ISTIOD: &str = "manifests/charts/istio-control/istio-discovery";

#[test]
fn stamps_source_tree_as_release() {
    let catalog = catalog_with(&["1.31.2"]);
    let read = |path: &str| fs::read_to_string(catalog.path().join("1.31.2/charts").join(path)).unwrap();
    let values = read("istiod/values.yaml");
    assert!(values.contains("hub: registry.istio.io/release\n") && values.contains("tag: 1.31.2\n"), "{values}");
    assert!(read("ztunnel/values.yaml").contains("tag: 1.31.2\n"));
    assert!(read("base/Chart.yaml").contains("# Set by the release build\nversion: 1.31.2\nappVersion: 1.31.2\n"));
    let catalog = Catalog::open(&[catalog.path().to_owned()]).unwrap();
    let images = catalog.releases()[0].images();
    assert_eq!((images.hub.as_str(), images.tag.as_str()), ("registry.istio.io/release", "1.31.2"));
    assert!(images.pullable);
}

#[test]
fn stamps_older_releases_with_their_registry() {
    let catalog = catalog_with(&["1.29.6"]);
    let catalog = Catalog::open(&[catalog.path().to_owned()]).unwrap();
    assert_eq!(catalog.releases()[0].images().hub, "docker.io/istio");
}

#[test]
fn abbreviated_commit_is_not_pullable() {
    let catalog = catalog_with(&["1.32.0-alpha.eed52ebb66ad"]);
    let catalog = Catalog::open(&[catalog.path().to_owned()]).unwrap();
    let images = catalog.releases()[0].images();
    assert_eq!(images.hub, "registry.istio.io/testing");
    assert_eq!(images.tag, "1.32.0-alpha.eed52ebb66ad");
    assert!(!images.pullable);
    assert!(images.reason.as_ref().unwrap().contains("eed52ebb66ad"));
}

#[test]
fn pre_releases_and_full_commits_are_pullable() {
    let whole = format!("1.32.0-alpha.{}", "a".repeat(40));
    let catalog = catalog_with(&["1.32.0-alpha.1", "1.31.0-rc.0", &whole]);
    let catalog = Catalog::open(&[catalog.path().to_owned()]).unwrap();
    assert!(catalog.releases().iter().all(|release| release.images().pullable));
}

#[test]
fn unpacked_release_keeps_its_registry() {
    let source = source_tree();
    for chart in ["base", "istio-control/istio-discovery", "gateway", "istio-cni", "ztunnel"] {
        let directory = source.path().join("manifests/charts").join(chart);
        for (file, from, to) in [
            ("Chart.yaml", "1.0.0", "1.31.2"),
            ("values.yaml", "dev.example.com/testing", "registry.example.com/own"),
            ("values.yaml", "latest", "1.31.2-own"),
        ] {
            let text = fs::read_to_string(directory.join(file)).unwrap();
            fs::write(directory.join(file), text.replace(from, to)).unwrap();
        }
    }
    let catalog = TempDir::new().unwrap();
    add(source.path(), "1.31.2", catalog.path(), false).unwrap();
    let opened = Catalog::open(&[catalog.path().to_owned()]).unwrap();
    let images = opened.releases()[0].images();
    assert_eq!((images.hub.as_str(), images.tag.as_str()), ("registry.example.com/own", "1.31.2-own"));
    let error = add(source.path(), "1.31.3", catalog.path(), false).unwrap_err();
    assert_eq!(error.to_string(), "chart base has version 1.31.2, not 1.31.3; import it under its own version");
}

#[test]
fn accepts_manifests_and_charts_directories() {
    let source = source_tree();
    let catalog = TempDir::new().unwrap();
    for directory in ["manifests", "manifests/charts"] {
        add(&source.path().join(directory), "1.31.2", catalog.path(), false).unwrap();
    }
    assert!(matches!(
        add(&source.path().join("manifests/charts/base"), "1.31.2", catalog.path(), false),
        Err(ImportError::NoCharts { .. })
    ));
}

#[test]
fn imports_release_of_another_catalog() {
    let first = catalog_with(&["1.31.2"]);
    let second = TempDir::new().unwrap();
    add(&first.path().join("1.31.2"), "1.31.2", second.path(), false).unwrap();
    let both = Catalog::open(&[first.path().to_owned(), second.path().to_owned()]).unwrap();
    assert_eq!((both.releases().len(), both.broken().len()), (1, 0));
}

#[test]
fn repeated_import_changes_nothing() {
    let source = source_tree();
    let catalog = TempDir::new().unwrap();
    let digests = || Catalog::open(&[catalog.path().to_owned()]).unwrap().releases()[0].charts().clone();
    assert_eq!(add(source.path(), "1.31.2", catalog.path(), false).unwrap(), PutOutcome::Added);
    let before = digests();
    assert_eq!(add(source.path(), "1.31.2", catalog.path(), false).unwrap(), PutOutcome::Unchanged);
    assert_eq!(digests(), before);
}

#[test]
fn replaces_different_content_only_on_request() {
    let source = source_tree();
    let catalog = TempDir::new().unwrap();
    add(source.path(), "1.31.2", catalog.path(), false).unwrap();
    write(source.path(), &format!("{ISTIOD}/files/data.txt"), "changed\n");
    let data = || fs::read_to_string(catalog.path().join("1.31.2/charts/istiod/files/data.txt")).unwrap();
    let error = add(source.path(), "1.31.2", catalog.path(), false).unwrap_err();
    assert!(matches!(error, ImportError::Put(PutError::DifferentContent { .. })), "{error}");
    assert_eq!(data(), "data\n");
    assert_eq!(add(source.path(), "1.31.2", catalog.path(), true).unwrap(), PutOutcome::Replaced);
    assert_eq!(data(), "changed\n");
    assert_eq!(fs::read_dir(catalog.path()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn replaces_damaged_release() {
    let source = source_tree();
    let catalog = catalog_with(&["1.31.2"]);
    write(catalog.path(), "1.31.2/charts/base/files/data.txt", "damage\n");
    assert!(add(source.path(), "1.31.2", catalog.path(), false).is_err());
    assert_eq!(add(source.path(), "1.31.2", catalog.path(), true).unwrap(), PutOutcome::Replaced);
    assert!(Catalog::open(&[catalog.path().to_owned()]).unwrap().releases()[0].verify().is_empty());
}

#[test]
fn unknown_function_names_chart_and_template() {
    let source = source_tree();
    write(source.path(), &format!("{ISTIOD}/templates/new.yaml"), "a: {{ nosuchfunction 1 }}\n");
    let catalog = TempDir::new().unwrap();
    let error = error_chain(&add(source.path(), "1.31.2", catalog.path(), false).unwrap_err());
    for part in ["istiod", "new.yaml", "nosuchfunction"] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(fs::read_dir(catalog.path()).unwrap().count(), 0, "nothing was written");
}

#[test]
fn requires_istiod_but_not_ztunnel() {
    let source = source_tree();
    let catalog = TempDir::new().unwrap();
    fs::remove_dir_all(source.path().join("manifests/charts/ztunnel")).unwrap();
    add(source.path(), "1.31.2", catalog.path(), false).unwrap();
    let opened = Catalog::open(&[catalog.path().to_owned()]).unwrap();
    assert!(!opened.releases()[0].charts().contains_key(&ChartName::Ztunnel));
    fs::remove_dir_all(source.path().join(ISTIOD)).unwrap();
    let error = add(source.path(), "1.31.3", catalog.path(), false).unwrap_err();
    assert!(matches!(error, ImportError::MissingChart { chart: ChartName::Istiod, .. }), "{error}");
}

#[test]
fn rejects_charts_without_crds() {
    let source = source_tree();
    let catalog = TempDir::new().unwrap();
    // The CRD that is new in 1.30.
    write(source.path(), &format!("{BASE}/templates/crds.yaml"), &crds("1.29"));
    add(source.path(), "1.29.6", catalog.path(), false).unwrap();
    let error = add(source.path(), "1.30.3", catalog.path(), false).unwrap_err();
    assert!(error.to_string().contains("lacks the CRDs trafficextensions.extensions.istio.io; "), "{error}");
    fs::remove_file(source.path().join(BASE).join("templates/crds.yaml")).unwrap();
    let error = add(source.path(), "1.31.2", catalog.path(), false).unwrap_err();
    assert!(
        matches!(&error, ImportError::Assemble(AssembleError::MissingCrds { missing }) if missing.split(", ").count() == 15),
        "{error}"
    );
    assert_eq!(fs::read_dir(catalog.path()).unwrap().count(), 1, "nothing was written");
}

#[test]
fn rejects_charts_with_different_images() {
    let source = source_tree();
    write(source.path(), "manifests/charts/istio-cni/Chart.yaml", "name: cni\nversion: 1.31.2\nappVersion: 1.31.2\n");
    let catalog = TempDir::new().unwrap();
    let error = add(source.path(), "1.31.2", catalog.path(), false).unwrap_err();
    assert!(
        matches!(error, ImportError::Assemble(AssembleError::ImagesDiffer { chart: ChartName::Cni, .. })),
        "{error}"
    );
}

#[test]
fn rejects_chart_in_wrong_directory() {
    let source = source_tree();
    let chart = source.path().join("manifests/charts/gateway/Chart.yaml");
    fs::write(&chart, fs::read_to_string(&chart).unwrap().replace("name: gateway", "name: other")).unwrap();
    let catalog = TempDir::new().unwrap();
    let error = add(source.path(), "1.31.2", catalog.path(), false).unwrap_err();
    assert!(
        matches!(error, ImportError::Assemble(AssembleError::OtherChart { chart: ChartName::Gateway, .. })),
        "{error}"
    );
}

#[test]
fn rejects_links() {
    let source = source_tree();
    symlink("/etc/hostname", source.path().join("manifests/charts/base/files/link")).unwrap();
    let catalog = TempDir::new().unwrap();
    let error = add(source.path(), "1.31.2", catalog.path(), false).unwrap_err();
    assert!(matches!(error, ImportError::ReadChart { chart: ChartName::Base, .. }), "{error}");
}

#[test]
fn rejects_source_tree_of_unknown_minor() {
    let source = source_tree();
    let catalog = TempDir::new().unwrap();
    let error = add(source.path(), "1.99.0", catalog.path(), false).unwrap_err();
    assert!(error.to_string().contains("Istio 1.99 is unknown to this operator"), "{error}");
}
