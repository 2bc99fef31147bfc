//! Releases as files.

use std::{fs, path::PathBuf};

use super::*;
use crate::catalog::{
    Catalog, ChartName,
    archive::{self, ReadArchiveError},
    bundle::{self, ImportFileError},
    explain,
    files::Files,
    put::PutError,
};

/// A catalog with a release, the file it was written into, and the catalog that it is to go to.
struct Travel {
    origin: TempDir,
    file: PathBuf,
    target: TempDir,
}

impl Travel {
    fn new() -> Self {
        let origin = catalog_with(&["1.31.2"]);
        let file = origin.path().join("release.tar.gz");
        bundle::export(&open(origin.path()).releases()[0], &file).unwrap();
        Self { origin, file, target: TempDir::new().unwrap() }
    }

    /// Changes the files of the archive; its own checksums are right again.
    fn rewrite(&self, change: impl FnOnce(&mut Files)) {
        let mut files = archive::unpack(&fs::read(&self.file).unwrap()).unwrap();
        change(&mut files);
        fs::write(&self.file, archive::pack(&files).unwrap()).unwrap();
    }

    fn arrive(&self) -> Result<(Version, Outcome), ImportFileError> {
        bundle::import(&self.file, self.target.path(), false)
    }

    /// The import fails and leaves nothing behind.
    fn refused(&self) -> ImportFileError {
        let error = self.arrive().unwrap_err();
        assert_eq!(fs::read_dir(self.target.path()).unwrap().count(), 0, "{error}");
        error
    }
}

fn open(catalog: &Path) -> Catalog {
    Catalog::open(&[catalog.to_owned()]).unwrap()
}

#[test]
fn a_release_arrives_as_it_left() {
    let travel = Travel::new();
    assert_eq!(travel.arrive().unwrap(), (version("1.31.2"), Outcome::Added));
    assert_eq!(travel.arrive().unwrap().1, Outcome::Unchanged);
    let (left, arrived) = (open(travel.origin.path()), open(travel.target.path()));
    assert_eq!(left.releases()[0].file(), arrived.releases()[0].file());
    assert!(arrived.releases()[0].verify().is_empty());
}

#[test]
fn other_content_under_the_same_version_needs_to_be_asked_for() {
    let travel = Travel::new();
    let source = source_tree();
    write(source.path(), "manifests/charts/base/files/data.txt", "other\n");
    add(source.path(), "1.31.2", travel.target.path(), false).unwrap();
    assert!(matches!(travel.arrive(), Err(ImportFileError::Put(PutError::DifferentContent { .. }))));
    let (_, outcome) = bundle::import(&travel.file, travel.target.path(), true).unwrap();
    assert_eq!(outcome, Outcome::Replaced);
    assert!(open(travel.target.path()).releases()[0].verify().is_empty());
}

#[test]
fn a_file_that_was_cut_off_or_damaged_on_the_way_is_refused() {
    let travel = Travel::new();
    let bytes = fs::read(&travel.file).unwrap();
    for part in [0, 5, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&travel.file, &bytes[..part]).unwrap();
        let error = explain(&travel.refused());
        assert!(error.contains("it is damaged or cut off"), "{error}");
    }
    let mut damaged = bytes;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x10;
    fs::write(&travel.file, &damaged).unwrap();
    assert!(matches!(travel.refused(), ImportFileError::Unpack { .. }));
}

#[test]
fn a_chart_that_is_not_what_its_digest_says_is_refused_by_name() {
    let travel = Travel::new();
    travel.rewrite(|files| {
        files.insert("1.31.2/charts/gateway/templates/extra.yaml".to_owned(), b"a: b\n".to_vec());
    });
    let error = travel.refused();
    assert!(matches!(error, ImportFileError::Damaged { chart: ChartName::Gateway, .. }), "{error}");
}

#[test]
fn a_chart_that_is_missing_or_in_no_list_is_refused() {
    let travel = Travel::new();
    travel.rewrite(|files| files.retain(|path, _| !path.contains("/ztunnel/")));
    assert!(matches!(travel.refused(), ImportFileError::MissingChart(ChartName::Ztunnel)));

    let travel = Travel::new();
    travel.rewrite(|files| {
        files.insert("1.31.2/charts/other/Chart.yaml".to_owned(), Vec::new());
    });
    assert!(matches!(travel.refused(), ImportFileError::Stray(path) if path == "1.31.2/charts/other/Chart.yaml"));
}

#[test]
fn a_path_that_leads_out_of_the_catalog_is_refused_before_anything_is_written() {
    let travel = Travel::new();
    // The library writes no such path, so the name of a file of the same length is changed in the tar file.
    travel.rewrite(|files| {
        files.insert("1.31.2/charts/AAAA".to_owned(), b"x".to_vec());
    });
    let mut tar = Vec::new();
    let packed = fs::read(&travel.file).unwrap();
    std::io::Read::read_to_end(&mut flate2::bufread::GzDecoder::new(packed.as_slice()), &mut tar).unwrap();
    let (from, to) = (&b"1.31.2/charts/AAAA"[..], &b"1.31.2/../../../AA"[..]);
    let at = tar.windows(from.len()).position(|window| window == from).unwrap();
    tar[at..at + to.len()].copy_from_slice(to);
    let mut header = tar::Header::from_byte_slice(&tar[at..at + 512]).clone();
    header.set_cksum();
    tar[at..at + 512].copy_from_slice(header.as_bytes());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &tar).unwrap();
    fs::write(&travel.file, gzip.finish().unwrap()).unwrap();

    let error = travel.refused();
    let ImportFileError::Unpack { source: ReadArchiveError::Path(path), .. } = &error else { panic!("{error}") };
    assert_eq!(path, "1.31.2/../../../AA");
}

#[test]
fn what_is_no_release_is_told_apart() {
    let travel = Travel::new();
    travel.rewrite(|files| files.retain(|path, _| !path.ends_with("release.yaml")));
    assert!(matches!(travel.refused(), ImportFileError::NoRelease));

    let travel = Travel::new();
    travel.rewrite(|files| {
        *files = files.iter().map(|(path, bytes)| (path.replace("1.31.2/", "1.31.3/"), bytes.clone())).collect();
    });
    assert!(matches!(travel.refused(), ImportFileError::Folder { folder, .. } if folder == "1.31.3"));

    let travel = Travel::new();
    travel.rewrite(|files| {
        files.insert("1.31.2/release.yaml".to_owned(), b"schema: [".to_vec());
    });
    assert!(matches!(travel.refused(), ImportFileError::Parse(_)));

    let travel = Travel::new();
    fs::remove_file(&travel.file).unwrap();
    assert!(matches!(travel.refused(), ImportFileError::Read { .. }));
}

#[test]
fn a_chart_of_no_use_here_is_refused_as_it_is_when_it_is_added() {
    let travel = Travel::new();
    let template = "1.31.2/charts/istiod/templates/object.yaml";
    travel.rewrite(|files| {
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
    let error = explain(&travel.refused());
    assert!(error.contains("istiod") && error.contains("nosuchfunction"), "{error}");
}
