//! Export and import of releases.

use std::{fs, path::PathBuf};

use super::*;
use crate::catalog::{
    Catalog, ChartName,
    archive::{self, ReadArchiveError},
    bundle::{self, ImportFileError},
    error_chain,
    files::Files,
    put::PutError,
};

/// A catalog with a release, the file that it was exported to, and the catalog to import it into.
struct Transfer {
    origin: TempDir,
    file: PathBuf,
    target: TempDir,
}

impl Transfer {
    fn new() -> Self {
        let origin = catalog_with(&["1.31.2"]);
        let file = origin.path().join("release.tar.gz");
        bundle::export(&open(origin.path()).releases()[0], &file).unwrap();
        Self { origin, file, target: TempDir::new().unwrap() }
    }

    /// Changes files of the archive and packs it with correct checksums.
    fn rewrite(&self, change: impl FnOnce(&mut Files)) {
        let mut files = archive::unpack(&fs::read(&self.file).unwrap()).unwrap();
        change(&mut files);
        fs::write(&self.file, archive::pack(&files).unwrap()).unwrap();
    }

    fn import(&self) -> Result<(Version, PutOutcome), ImportFileError> {
        bundle::import(&self.file, self.target.path(), false)
    }

    /// Asserts that the import fails without leaving files.
    fn refused(&self) -> ImportFileError {
        let error = self.import().unwrap_err();
        assert_eq!(fs::read_dir(self.target.path()).unwrap().count(), 0, "{error}");
        error
    }
}

fn open(catalog: &Path) -> Catalog {
    Catalog::open(&[catalog.to_owned()]).unwrap()
}

#[test]
fn import_restores_exported_release() {
    let transfer = Transfer::new();
    assert_eq!(transfer.import().unwrap(), (version("1.31.2"), PutOutcome::Added));
    assert_eq!(transfer.import().unwrap().1, PutOutcome::Unchanged);
    let (exported, imported) = (open(transfer.origin.path()), open(transfer.target.path()));
    assert_eq!(exported.releases()[0].file(), imported.releases()[0].file());
    assert!(imported.releases()[0].verify().is_empty());
}

#[test]
fn replaces_different_content_only_on_request() {
    let transfer = Transfer::new();
    let source = source_tree();
    write(source.path(), "manifests/charts/base/files/data.txt", "other\n");
    add(source.path(), "1.31.2", transfer.target.path(), false).unwrap();
    assert!(matches!(transfer.import(), Err(ImportFileError::Put(PutError::DifferentContent { .. }))));
    let (_, outcome) = bundle::import(&transfer.file, transfer.target.path(), true).unwrap();
    assert_eq!(outcome, PutOutcome::Replaced);
    assert!(open(transfer.target.path()).releases()[0].verify().is_empty());
}

#[test]
fn rejects_truncated_or_damaged_file() {
    let transfer = Transfer::new();
    let bytes = fs::read(&transfer.file).unwrap();
    for part in [0, 5, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&transfer.file, &bytes[..part]).unwrap();
        let error = error_chain(&transfer.refused());
        assert!(error.contains("the file is damaged or truncated"), "{error}");
    }
    let mut damaged = bytes;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x10;
    fs::write(&transfer.file, &damaged).unwrap();
    assert!(matches!(transfer.refused(), ImportFileError::Unpack { .. }));
}

#[test]
fn rejects_chart_with_wrong_digest() {
    let transfer = Transfer::new();
    transfer.rewrite(|files| {
        files.insert("1.31.2/charts/gateway/templates/extra.yaml".to_owned(), b"a: b\n".to_vec());
    });
    let error = transfer.refused();
    assert!(matches!(error, ImportFileError::Damaged { chart: ChartName::Gateway, .. }), "{error}");
}

#[test]
fn rejects_missing_or_unlisted_chart() {
    let transfer = Transfer::new();
    transfer.rewrite(|files| files.retain(|path, _| !path.contains("/ztunnel/")));
    assert!(matches!(transfer.refused(), ImportFileError::MissingChart(ChartName::Ztunnel)));

    let transfer = Transfer::new();
    transfer.rewrite(|files| {
        files.insert("1.31.2/charts/other/Chart.yaml".to_owned(), Vec::new());
    });
    assert!(matches!(transfer.refused(), ImportFileError::Stray(path) if path == "1.31.2/charts/other/Chart.yaml"));
}

#[test]
fn rejects_path_outside_catalog_before_writing() {
    let transfer = Transfer::new();
    // The library doesn't write such paths, so this patches a name of the same length in the tar archive.
    transfer.rewrite(|files| {
        files.insert("1.31.2/charts/AAAA".to_owned(), b"x".to_vec());
    });
    let mut tar = Vec::new();
    let packed = fs::read(&transfer.file).unwrap();
    std::io::Read::read_to_end(&mut flate2::bufread::GzDecoder::new(packed.as_slice()), &mut tar).unwrap();
    let (from, to) = (&b"1.31.2/charts/AAAA"[..], &b"1.31.2/../../../AA"[..]);
    let at = tar.windows(from.len()).position(|window| window == from).unwrap();
    tar[at..at + to.len()].copy_from_slice(to);
    let mut header = tar::Header::from_byte_slice(&tar[at..at + 512]).clone();
    header.set_cksum();
    tar[at..at + 512].copy_from_slice(header.as_bytes());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &tar).unwrap();
    fs::write(&transfer.file, gzip.finish().unwrap()).unwrap();

    let error = transfer.refused();
    let ImportFileError::Unpack { source: ReadArchiveError::Path(path), .. } = &error else { panic!("{error}") };
    assert_eq!(path, "1.31.2/../../../AA");
}

#[test]
fn distinguishes_causes_of_invalid_files() {
    let transfer = Transfer::new();
    transfer.rewrite(|files| files.retain(|path, _| !path.ends_with("release.yaml")));
    assert!(matches!(transfer.refused(), ImportFileError::NoRelease));

    let transfer = Transfer::new();
    transfer.rewrite(|files| {
        *files = files.iter().map(|(path, bytes)| (path.replace("1.31.2/", "1.31.3/"), bytes.clone())).collect();
    });
    assert!(matches!(transfer.refused(), ImportFileError::Folder { directory, .. } if directory == "1.31.3"));

    let transfer = Transfer::new();
    transfer.rewrite(|files| {
        files.insert("1.31.2/release.yaml".to_owned(), b"schema: [".to_vec());
    });
    assert!(matches!(transfer.refused(), ImportFileError::Parse(_)));

    let transfer = Transfer::new();
    fs::remove_file(&transfer.file).unwrap();
    assert!(matches!(transfer.refused(), ImportFileError::Read { .. }));
}

#[test]
fn rejects_chart_that_cannot_be_parsed() {
    let transfer = Transfer::new();
    let template = "1.31.2/charts/istiod/templates/object.yaml";
    transfer.rewrite(|files| {
        files.insert(template.to_owned(), b"a: {{ nosuchfunction 1 }}\n".to_vec());
        let chart = |path: &String| path.strip_prefix("1.31.2/charts/istiod/").map(str::to_owned);
        let of_istiod: Files = files.iter().filter_map(|(path, bytes)| Some((chart(path)?, bytes.clone()))).collect();
        let digest = crate::catalog::Digest::of(&of_istiod);
        let release = files.get_mut("1.31.2/release.yaml").unwrap();
        let text = String::from_utf8(release.clone()).unwrap();
        let (before, after) = text.split_once("name: istiod").unwrap();
        let (old, rest) = after.split_once("sha256:").unwrap();
        let rest: String = rest.chars().skip(64).collect();
        *release = format!("{before}name: istiod{old}{digest}{rest}").into_bytes();
    });
    let error = error_chain(&transfer.refused());
    assert!(error.contains("istiod") && error.contains("nosuchfunction"), "{error}");
}
