//! Exports a release to one `.tar.gz` file and imports it, for air-gapped sites. The archive has the release's
//! directory as in a catalog.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process,
};

use semver::Version;

use super::{
    ChartName, Digest,
    archive::{self, ReadArchiveError},
    assemble::{self, AssembleError},
    digest,
    files::Files,
    put::{self, PutError, PutOutcome},
    release::{ChartError, Release},
    release_file::{FILE_NAME, ParseReleaseError, ReleaseFile},
};

/// A release can't be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A damaged chart is not exported.
    #[error(transparent)]
    Chart(Box<ChartError>),
    /// `release.yaml` can't be serialized.
    #[error("can't write {FILE_NAME}")]
    Serialize(#[source] Box<serde_saphyr::SerializeError>),
    /// A file doesn't fit into an archive.
    #[error("can't pack the release")]
    Pack(#[source] io::Error),
    /// The file can't be written.
    #[error("can't write {path:?}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// A file can't be imported; the catalog is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum ImportFileError {
    /// The file can't be read.
    #[error("can't read {path:?}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file is not an archive, or is damaged.
    #[error("can't unpack {path:?}")]
    Unpack {
        path: PathBuf,
        #[source]
        source: ReadArchiveError,
    },
    /// The archive has another layout.
    #[error("the archive has no <version>/{FILE_NAME}; create it with `meshwright catalog export`")]
    NoRelease,
    /// `release.yaml` is invalid.
    #[error("{FILE_NAME} in the archive is invalid")]
    Parse(#[source] ParseReleaseError),
    /// The directory was renamed.
    #[error("directory {directory:?} in the archive doesn't match the version {version} in {FILE_NAME}")]
    Folder { directory: String, version: Version },
    /// The file belongs to no chart, so it has no digest.
    #[error("{0:?} in the archive belongs to no chart of the release")]
    Stray(String),
    /// A chart has no files.
    #[error("the archive lacks chart {0}")]
    MissingChart(ChartName),
    /// A chart doesn't match its digest.
    #[error("chart {chart} in the archive is damaged: its files have digest {found}, expected {recorded}")]
    Damaged {
        chart: ChartName,
        /// The digest in `release.yaml`.
        recorded: Digest,
        /// The digest of the files.
        found: Digest,
    },
    /// A chart can't be parsed.
    #[error(transparent)]
    Assemble(AssembleError),
    /// The release can't be written to the catalog.
    #[error(transparent)]
    Put(PutError),
}

/// Writes a release to a file atomically and returns the file's SHA-256 in hexadecimal, as `sha256sum` prints it.
pub fn export(release: &Release, to: &Path) -> Result<String, ExportError> {
    let bytes = pack(release)?;
    let sum = digest::sha256(&bytes);
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let partial = to.with_file_name(format!(".{name}.{}.partial", process::id()));
    let written = fs::write(&partial, &bytes).and_then(|()| fs::rename(&partial, to));
    written.map_err(|source| {
        // The first failure is reported; this one adds nothing.
        let _ = fs::remove_file(&partial);
        ExportError::Write { path: to.to_owned(), source }
    })?;
    Ok(sum)
}

fn pack(release: &Release) -> Result<Vec<u8>, ExportError> {
    let version = release.version();
    let mut files = Files::new();
    for chart in release.charts().keys() {
        let content = release.read_chart(*chart).map_err(|error| ExportError::Chart(Box::new(error)))?;
        files.extend(content.into_iter().map(|(path, bytes)| (format!("{version}/charts/{chart}/{path}"), bytes)));
    }
    let text = release.file().text().map_err(|error| ExportError::Serialize(Box::new(error)))?;
    files.insert(format!("{version}/{FILE_NAME}"), text.into_bytes());
    archive::pack(&files).map_err(ExportError::Pack)
}

/// Adds the release in a file to a catalog, if every chart matches its digest.
pub fn import(from: &Path, catalog: &Path, replace: bool) -> Result<(Version, PutOutcome), ImportFileError> {
    let path = || from.to_owned();
    let bytes = fs::read(from).map_err(|source| ImportFileError::Read { path: path(), source })?;
    let files = archive::unpack(&bytes).map_err(|source| ImportFileError::Unpack { path: path(), source })?;
    let (file, charts) = validate(files)?;
    let outcome = put::put(catalog, &file, &charts, replace).map_err(ImportFileError::Put)?;
    Ok((file.version, outcome))
}

/// Validates the files of an archive and groups them by chart.
fn validate(mut files: Files) -> Result<(ReleaseFile, BTreeMap<ChartName, Files>), ImportFileError> {
    let (directory, text) = release_text(&mut files).ok_or(ImportFileError::NoRelease)?;
    let file = ReleaseFile::parse(&text).map_err(ImportFileError::Parse)?;
    if file.version.to_string() != directory {
        return Err(ImportFileError::Folder { directory, version: file.version });
    }
    let mut charts: BTreeMap<ChartName, Files> = BTreeMap::new();
    for (path, content) in files {
        let listed = file.charts.iter().find_map(|chart| {
            let rest = path.strip_prefix(&format!("{directory}/charts/{}/", chart.name))?;
            Some((chart.name, rest.to_owned()))
        });
        let Some((chart, rest)) = listed else { return Err(ImportFileError::Stray(path)) };
        charts.entry(chart).or_default().insert(rest, content);
    }
    for entry in &file.charts {
        let files = charts.get(&entry.name).ok_or(ImportFileError::MissingChart(entry.name))?;
        let found = Digest::of(files);
        if found != entry.digest {
            return Err(ImportFileError::Damaged { chart: entry.name, recorded: entry.digest.clone(), found });
        }
        assemble::check_chart(entry.name, files).map_err(ImportFileError::Assemble)?;
    }
    Ok((file, charts))
}

/// Removes the `<version>/release.yaml` and returns its directory and text.
fn release_text(files: &mut Files) -> Option<(String, String)> {
    let locate = |path: &String| {
        let (directory, name) = path.split_once('/')?;
        (name == FILE_NAME).then(|| (directory.to_owned(), path.clone()))
    };
    let (directory, path) = files.keys().find_map(locate)?;
    let text = String::from_utf8(files.remove(&path)?).ok()?;
    Some((directory, text))
}
