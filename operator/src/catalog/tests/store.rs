//! Release lookup.

use super::*;
use crate::catalog::{Catalog, ChartName, error_chain, release::ChartError, store::ResolveError};

fn open(catalogs: &[&TempDir]) -> Catalog {
    Catalog::open(&catalogs.iter().map(|catalog| catalog.path().to_owned()).collect::<Vec<_>>()).unwrap()
}

fn resolve(catalog: &Catalog, request: &str) -> Result<String, ResolveError> {
    catalog.resolve(&request.parse().unwrap()).map(|release| release.version().to_string())
}

#[test]
fn sorts_versions_numerically_newest_first() {
    let catalog = open(&[&catalog_with(&["1.29.6", "1.31.0-rc.0", "1.31.10", "1.31.9", "1.31.0"])]);
    let versions: Vec<String> = catalog.versions().iter().map(ToString::to_string).collect();
    assert_eq!(versions, ["1.31.10", "1.31.9", "1.31.0", "1.31.0-rc.0", "1.29.6"]);
}

#[test]
fn resolves_minor_to_newest_patch() {
    let catalog = open(&[&catalog_with(&["1.31.9", "1.31.10", "1.31.11-rc.0", "1.32.0-alpha.1"])]);
    assert_eq!(resolve(&catalog, "1.31").unwrap(), "1.31.10");
    assert_eq!(resolve(&catalog, "1.32.0-alpha.1").unwrap(), "1.32.0-alpha.1");
    let error = resolve(&catalog, "1.32").unwrap_err();
    assert!(matches!(error, ResolveError::OnlyPreReleases { .. }));
    assert!(error.to_string().contains("1.32.0-alpha.1"), "{error}");
}

#[test]
fn missing_version_lists_available_ones() {
    let catalog = open(&[&catalog_with(&["1.30.3", "1.31.2"])]);
    let error = resolve(&catalog, "1.31.3").unwrap_err().to_string();
    assert_eq!(error, "version 1.31.3 is not in the catalog, which has 1.31.2, 1.30.3");
    let error = resolve(&open(&[&TempDir::new().unwrap()]), "1.31").unwrap_err().to_string();
    assert_eq!(error, "version 1.31 is not in the catalog, which has no releases");
}

#[test]
fn missing_directory_is_named() {
    let error = Catalog::open(&["/no/such/catalog".into()]).unwrap_err();
    let message = error_chain(&error);
    assert!(message.starts_with("can't read the catalog \"/no/such/catalog\": No such file"), "{message}");
    assert!(
        message.ends_with("or `meshwright catalog pull`") && message.matches("No such file").count() == 1,
        "{message}"
    );
}

#[test]
fn invalid_release_does_not_affect_others() {
    let catalog = catalog_with(&["1.30.3", "1.31.2"]);
    write(catalog.path(), "1.31.2/release.yaml", "schema: [\n");
    let opened = open(&[&catalog]);
    assert_eq!(resolve(&opened, "1.30").unwrap(), "1.30.3");
    assert_eq!(opened.broken().len(), 1);
    let error = resolve(&opened, "1.31.2").unwrap_err().to_string();
    let start = "version 1.31.2 is in the catalog but can't be used: ";
    assert!(error.starts_with(start) && !error.contains('\n'), "{error}");
}

#[test]
fn release_in_wrong_directory_is_invalid() {
    let catalog = catalog_with(&["1.31.2"]);
    fs::rename(catalog.path().join("1.31.2"), catalog.path().join("1.31.3")).unwrap();
    let opened = open(&[&catalog]);
    assert!(opened.releases().is_empty());
    assert!(opened.broken()[0].reason.contains("is for 1.31.2"), "{:?}", opened.broken());
}

#[test]
fn skips_leftovers_of_interrupted_import() {
    let catalog = catalog_with(&["1.31.2"]);
    fs::create_dir(catalog.path().join(".importing-1.31.3-7")).unwrap();
    write(catalog.path(), "README", "not a directory");
    let opened = open(&[&catalog]);
    assert_eq!((opened.releases().len(), opened.broken().len()), (1, 0));
}

#[test]
fn first_catalog_wins_over_conflicting_content() {
    let first = catalog_with(&["1.31.2"]);
    let source = source_tree();
    write(source.path(), "manifests/charts/base/files/data.txt", "other\n");
    let second = TempDir::new().unwrap();
    add(source.path(), "1.31.2", second.path(), false).unwrap();
    let opened = open(&[&first, &second]);
    assert_eq!(opened.releases().len(), 1);
    assert!(opened.releases()[0].directory().starts_with(first.path()));
    assert!(opened.broken()[0].directory.starts_with(second.path()));
    assert_eq!(resolve(&opened, "1.31.2").unwrap(), "1.31.2");
}

#[test]
fn damaged_chart_does_not_affect_others() {
    let catalog = catalog_with(&["1.31.2"]);
    write(catalog.path(), "1.31.2/charts/gateway/templates/extra.yaml", "a: b\n");
    let opened = open(&[&catalog]);
    let release = opened.resolve(&"1.31".parse().unwrap()).unwrap();
    let error = release.load_chart(ChartName::Gateway).unwrap_err();
    assert!(error.to_string().starts_with("chart gateway of release 1.31.2 is damaged"), "{error}");
    assert_eq!(release.verify().len(), 1);
    let istiod = release.load_chart(ChartName::Istiod).unwrap();
    assert_eq!((istiod.name(), istiod.version()), ("istiod", "1.31.2"));
}

#[test]
fn distinguishes_absent_from_unreadable_chart() {
    let source = source_tree();
    fs::remove_dir_all(source.path().join("manifests/charts/ztunnel")).unwrap();
    let catalog = TempDir::new().unwrap();
    add(source.path(), "1.31.2", catalog.path(), false).unwrap();
    fs::remove_dir_all(catalog.path().join("1.31.2/charts/cni")).unwrap();
    let opened = open(&[&catalog]);
    let release = opened.resolve(&"1.31".parse().unwrap()).unwrap();
    assert!(matches!(release.load_chart(ChartName::Ztunnel), Err(ChartError::Absent { .. })));
    assert!(matches!(release.load_chart(ChartName::Cni), Err(ChartError::Read { .. })));
}
