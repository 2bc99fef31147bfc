//! A release as one file, to be carried to where no registry can be reached: `.tar.gz`, with the release's folder as a
//! catalog has it. Reads and writes that file; catalogs are written by `put`.

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
    put::{self, Outcome, PutError},
    release::{ChartError, Release},
    release_file::{FILE_NAME, ParseReleaseError, ReleaseFile},
};

/// A release can't be written into a file.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// What is damaged isn't handed on.
    #[error(transparent)]
    Chart(Box<ChartError>),
    /// `release.yaml` can't be made.
    #[error("can't write {FILE_NAME}")]
    Serialize(#[source] Box<serde_saphyr::SerializeError>),
    /// A path or a content doesn't fit into an archive.
    #[error("can't pack the release")]
    Pack(#[source] io::Error),
    /// The file can't be written.
    #[error("can't write {path:?}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

/// A file holds no release that can be trusted; the catalog is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ImportFileError {
    /// The file can't be read.
    #[error("can't read {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// It is no archive, or not whole.
    #[error("{path:?} can't be unpacked")]
    Unpack {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: ReadArchiveError,
    },
    /// It isn't laid out as a release is.
    #[error("the file has no <version>/{FILE_NAME}: make it with `meshwright catalog export`")]
    NoRelease,
    /// `release.yaml` makes no sense.
    #[error("{FILE_NAME} in the file is not usable")]
    Parse(#[source] ParseReleaseError),
    /// The folder was renamed.
    #[error("the file has the folder {folder:?} for release {version}")]
    Folder {
        /// The folder.
        folder: String,
        /// The version in it.
        version: Version,
    },
    /// Something without a digest.
    #[error("{0:?} in the file belongs to no chart of the release")]
    Stray(String),
    /// A chart has no files.
    #[error("the file lacks the chart {0} of the release")]
    MissingChart(ChartName),
    /// A chart isn't what was exported.
    #[error("chart {chart} in the file is damaged: its files have digest {found}, not {recorded}")]
    Damaged {
        /// The chart.
        chart: ChartName,
        /// Digest in `release.yaml`.
        recorded: Digest,
        /// Digest of the files.
        found: Digest,
    },
    /// A chart is of no use here.
    #[error(transparent)]
    Assemble(AssembleError),
    /// The release can't be put into the catalog.
    #[error(transparent)]
    Put(PutError),
}

/// Writes a release into a file, in one step, and returns the file's SHA-256 in hexadecimal, as `sha256sum` prints it.
pub fn export(release: &Release, to: &Path) -> Result<String, ExportError> {
    let bytes = pack(release)?;
    let sum = digest::sha256(&bytes);
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let partial = to.with_file_name(format!(".{name}.{}.partial", process::id()));
    let written = fs::write(&partial, &bytes).and_then(|()| fs::rename(&partial, to));
    written.map_err(|source| {
        // Nobody is left to hear of a second failure.
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

/// Puts the release of a file into a catalog, if every chart is what its digest says.
pub fn import(from: &Path, catalog: &Path, replace: bool) -> Result<(Version, Outcome), ImportFileError> {
    let path = || from.to_owned();
    let bytes = fs::read(from).map_err(|source| ImportFileError::Read { path: path(), source })?;
    let files = archive::unpack(&bytes).map_err(|source| ImportFileError::Unpack { path: path(), source })?;
    let (file, charts) = sort_out(files)?;
    let outcome = put::put(catalog, &file, &charts, replace).map_err(ImportFileError::Put)?;
    Ok((file.version, outcome))
}

/// The release and its charts, checked.
fn sort_out(mut files: Files) -> Result<(ReleaseFile, BTreeMap<ChartName, Files>), ImportFileError> {
    let (folder, text) = release_text(&mut files).ok_or(ImportFileError::NoRelease)?;
    let file = ReleaseFile::parse(&text).map_err(ImportFileError::Parse)?;
    if file.version.to_string() != folder {
        return Err(ImportFileError::Folder { folder, version: file.version });
    }
    let mut charts: BTreeMap<ChartName, Files> = BTreeMap::new();
    for (path, content) in files {
        let listed = file.charts.iter().find_map(|chart| {
            let rest = path.strip_prefix(&format!("{folder}/charts/{}/", chart.name))?;
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

/// Takes out the one `release.yaml` that is a folder below the top.
fn release_text(files: &mut Files) -> Option<(String, String)> {
    let of_release = |path: &String| {
        let (folder, name) = path.split_once('/')?;
        (name == FILE_NAME).then(|| (folder.to_owned(), path.clone()))
    };
    let (folder, path) = files.keys().find_map(of_release)?;
    let text = String::from_utf8(files.remove(&path)?).ok()?;
    Some((folder, text))
}
