//! Puts a release into a catalog, whole or not at all. The only code here that writes into a catalog.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process,
};

use semver::Version;

use super::{
    ChartName,
    files::Files,
    release::Release,
    release_file::{FILE_NAME, ReleaseFile},
};

/// What became of a release that was to be put into a catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The release is new.
    Added,
    /// The catalog had exactly this already; nothing was written.
    Unchanged,
    /// It took the place of other content.
    Replaced,
}

/// A release can't be put into a catalog, which is as it was.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The catalog has something else under this version.
    #[error("{folder:?} has other content: give --replace to put this in its place")]
    DifferentContent {
        /// The release's folder.
        folder: PathBuf,
    },
    /// The catalog can't be written to.
    #[error("can't write {path:?}")]
    Write {
        /// File or folder.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// `release.yaml` can't be made.
    #[error("can't write {FILE_NAME}")]
    Serialize(#[source] Box<serde_saphyr::SerializeError>),
}

/// Puts a release into a catalog, which is made if it doesn't exist. Other content under the same version is replaced
/// only on request.
pub(super) fn put(
    catalog: &Path,
    file: &ReleaseFile,
    charts: &BTreeMap<ChartName, Files>,
    replace: bool,
) -> Result<Outcome, PutError> {
    let folder = catalog.join(file.version.to_string());
    let exists = folder.exists();
    if exists {
        let existing = Release::open(&folder).ok();
        if existing.is_some_and(|known| known.file().same_content(file) && known.verify().is_empty()) {
            return Ok(Outcome::Unchanged);
        }
        if !replace {
            return Err(PutError::DifferentContent { folder });
        }
    }
    let staged = Staging::create(catalog, &file.version)?;
    write_release(&staged.folder, file, charts)?;
    staged.put_in_place(&folder, exists)?;
    Ok(if exists { Outcome::Replaced } else { Outcome::Added })
}

fn write_release(folder: &Path, file: &ReleaseFile, charts: &BTreeMap<ChartName, Files>) -> Result<(), PutError> {
    for (chart, files) in charts {
        for (path, content) in files {
            write(&folder.join("charts").join(chart.as_str()).join(path), content)?;
        }
    }
    let text = file.text().map_err(|error| PutError::Serialize(Box::new(error)))?;
    write(&folder.join(FILE_NAME), text.as_bytes())
}

fn write(path: &Path, content: &[u8]) -> Result<(), PutError> {
    let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
    folder.and_then(|()| fs::write(path, content)).map_err(|source| write_error(path, source))
}

fn write_error(path: &Path, source: io::Error) -> PutError {
    PutError::Write { path: path.to_owned(), source }
}

/// A hidden folder beside the release's, which readers of a catalog pass over. It is deleted when
/// this goes out of scope before it was put in place.
struct Staging {
    folder: PathBuf,
    replaced: PathBuf,
}

impl Staging {
    fn create(catalog: &Path, version: &Version) -> Result<Self, PutError> {
        let id = process::id();
        let folder = catalog.join(format!(".importing-{version}-{id}"));
        let replaced = catalog.join(format!(".replaced-{version}-{id}"));
        fs::create_dir_all(&folder).map_err(|source| write_error(&folder, source))?;
        Ok(Self { folder, replaced })
    }

    fn put_in_place(&self, folder: &Path, exists: bool) -> Result<(), PutError> {
        if exists {
            fs::rename(folder, &self.replaced).map_err(|source| write_error(folder, source))?;
        }
        if let Err(source) = fs::rename(&self.folder, folder) {
            // The old content goes back, or there would be none. If even that fails, it stays where it is.
            let _ = fs::rename(&self.replaced, folder);
            return Err(write_error(folder, source));
        }
        if exists {
            fs::remove_dir_all(&self.replaced).map_err(|source| write_error(&self.replaced, source))?;
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Nobody is left to hear of a failure, and what stays is hidden.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
