//! Charts from maps of files and from directories.

use std::os::unix::fs::symlink;

use super::*;

fn files(entries: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
    let base = [("Chart.yaml", "name: c\nversion: 1.2.3\nappVersion: 1.30\n")];
    base.iter().chain(entries).map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect()
}

#[test]
fn reads_name_and_version() {
    let chart = Chart::from_files(files(&[])).unwrap();
    assert_eq!((chart.name(), chart.version()), ("c", "1.2.3"));
}

#[test]
fn rejects_invalid_metadata() {
    for text in ["version: 1.0.0\n", "name: a\n", "name: ../a\nversion: 1.0.0\n", "- a\n", "a: [\n"] {
        let files = BTreeMap::from([("Chart.yaml".to_owned(), text.as_bytes().to_vec())]);
        assert!(matches!(Chart::from_files(files), Err(LoadError::Metadata { .. })), "{text}");
    }
    assert!(matches!(Chart::from_files(BTreeMap::new()), Err(LoadError::Metadata { .. })));
}

#[test]
fn unknown_function_names_template_and_line() {
    let error = Chart::from_files(files(&[("templates/a.yaml", "x\n{{ if false }}{{ genCA }}{{ end }}")])).unwrap_err();
    assert_eq!(error.to_string(), "chart c: c/templates/a.yaml:2: function \"genCA\" is not supported");
}

#[test]
fn errors_name_malformed_files() {
    for (path, text) in [
        ("templates/a.yaml", "{{ if"),
        ("values.yaml", "- a"),
        ("values.schema.json", "{"),
        ("charts/x/Chart.yaml", ""),
    ] {
        let error = Chart::from_files(files(&[(path, text)])).unwrap_err().to_string();
        assert!(error.contains(path.split('/').next_back().unwrap()), "{error}");
    }
}

#[test]
fn last_nonblank_definition_in_helm_order_wins() {
    let chart = Chart::from_files(files(&[
        ("templates/a.tpl", "{{ define \"x\" }}from a{{ end }}"),
        ("templates/b.tpl", "{{ define \"x\" }}from b{{ end }}"),
        ("templates/_0.tpl", "{{ define \"x\" }}  {{ end }}"),
    ]))
    .unwrap();
    assert!(!chart.templates.get("x").unwrap().is_blank());
    let order: Vec<_> = chart.order.iter().map(|name| &**name).collect();
    assert_eq!(order, ["c/templates/b.tpl", "c/templates/a.tpl"]);
}

#[test]
fn reads_subdirectories_and_rejects_escaping_links() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("chart");
    fs::create_dir_all(root.join("files/deep")).unwrap();
    fs::write(root.join("Chart.yaml"), "name: c\nversion: 1.0.0\n").unwrap();
    fs::write(root.join("files/deep/a.txt"), "\u{feff}text").unwrap();
    symlink(root.join("files"), root.join("files/deep/loop")).unwrap();
    let chart = Chart::load(&root).unwrap();
    assert_eq!(chart.files.get("files/deep/a.txt").map(|text| &**text), Some("text"));

    symlink("/etc/hostname", root.join("files/out")).unwrap();
    assert!(matches!(Chart::load(&root), Err(LoadError::Escapes { path }) if path.ends_with("files/out")));
    assert!(matches!(Chart::load(&root.join("none")), Err(LoadError::Read { .. })));
}
