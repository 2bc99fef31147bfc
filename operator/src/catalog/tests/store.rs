//! Finding releases.

use super::*;
use crate::catalog::{Catalog, ChartName, explain, release::ChartError, store::ResolveError};

fn open(catalogs: &[&TempDir]) -> Catalog {
    Catalog::open(&catalogs.iter().map(|catalog| catalog.path().to_owned()).collect::<Vec<_>>()).unwrap()
}

fn resolve(catalog: &Catalog, request: &str) -> Result<String, ResolveError> {
    catalog.resolve(&request.parse().unwrap()).map(|release| release.version().to_string())
}

#[test]
fn versions_are_listed_newest_first_by_number_and_not_by_letter() {
    let catalog = open(&[&catalog_with(&["1.29.6", "1.31.0-rc.0", "1.31.10", "1.31.9", "1.31.0"])]);
    let versions: Vec<String> = catalog.versions().iter().map(ToString::to_string).collect();
    assert_eq!(versions, ["1.31.10", "1.31.9", "1.31.0", "1.31.0-rc.0", "1.29.6"]);
}

#[test]
fn a_minor_is_its_newest_patch_and_never_a_pre_release() {
    let catalog = open(&[&catalog_with(&["1.31.9", "1.31.10", "1.31.11-rc.0", "1.32.0-alpha.1"])]);
    assert_eq!(resolve(&catalog, "1.31").unwrap(), "1.31.10");
    assert_eq!(resolve(&catalog, "1.32.0-alpha.1").unwrap(), "1.32.0-alpha.1");
    let error = resolve(&catalog, "1.32").unwrap_err();
    assert!(matches!(error, ResolveError::OnlyPreReleases { .. }));
    assert!(error.to_string().contains("1.32.0-alpha.1"), "{error}");
}

#[test]
fn a_missing_version_is_refused_with_the_list_of_those_there_are() {
    let catalog = open(&[&catalog_with(&["1.30.3", "1.31.2"])]);
    let error = resolve(&catalog, "1.31.3").unwrap_err().to_string();
    assert_eq!(error, "version 1.31.3 is not in the catalog, which has 1.31.2, 1.30.3");
    let error = resolve(&open(&[&TempDir::new().unwrap()]), "1.31").unwrap_err().to_string();
    assert_eq!(error, "version 1.31 is not in the catalog, which has no release at all");
}

#[test]
fn a_missing_directory_is_an_error_that_names_it() {
    let error = Catalog::open(&["/no/such/catalog".into()]).unwrap_err();
    let said = explain(&error);
    assert!(said.starts_with("can't read the catalog \"/no/such/catalog\": No such file"), "{said}");
    assert!(
        said.ends_with("`meshwright catalog pull` makes one") && said.matches("No such file").count() == 1,
        "{said}"
    );
}

#[test]
fn a_broken_release_hides_no_other_and_says_what_is_wrong_when_asked_for() {
    let catalog = catalog_with(&["1.30.3", "1.31.2"]);
    write(catalog.path(), "1.31.2/release.yaml", "schema: [\n");
    let opened = open(&[&catalog]);
    assert_eq!(resolve(&opened, "1.30").unwrap(), "1.30.3");
    assert_eq!(opened.broken().len(), 1);
    let error = resolve(&opened, "1.31.2").unwrap_err().to_string();
    assert!(error.starts_with("version 1.31.2 is in the catalog, but broken: ") && !error.contains('\n'), "{error}");
}

#[test]
fn a_release_in_the_wrong_folder_is_broken() {
    let catalog = catalog_with(&["1.31.2"]);
    fs::rename(catalog.path().join("1.31.2"), catalog.path().join("1.31.3")).unwrap();
    let opened = open(&[&catalog]);
    assert!(opened.releases().is_empty());
    assert!(opened.broken()[0].reason.contains("is for 1.31.2"), "{:?}", opened.broken());
}

#[test]
fn what_an_interrupted_import_left_behind_is_passed_over() {
    let catalog = catalog_with(&["1.31.2"]);
    fs::create_dir(catalog.path().join(".importing-1.31.3-7")).unwrap();
    write(catalog.path(), "README", "not a folder");
    let opened = open(&[&catalog]);
    assert_eq!((opened.releases().len(), opened.broken().len()), (1, 0));
}

#[test]
fn the_first_directory_wins_and_other_content_in_the_second_is_told() {
    let first = catalog_with(&["1.31.2"]);
    let source = source_tree();
    write(source.path(), "manifests/charts/base/files/data.txt", "other\n");
    let second = TempDir::new().unwrap();
    add(source.path(), "1.31.2", second.path(), false).unwrap();
    let opened = open(&[&first, &second]);
    assert_eq!(opened.releases().len(), 1);
    assert!(opened.releases()[0].folder().starts_with(first.path()));
    assert!(opened.broken()[0].folder.starts_with(second.path()));
    assert_eq!(resolve(&opened, "1.31.2").unwrap(), "1.31.2");
}

#[test]
fn a_damaged_chart_is_refused_by_name_and_the_others_are_not() {
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
fn a_chart_that_the_release_never_had_is_told_apart_from_one_that_is_gone() {
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
