//! Writes a release to a catalog, atomically. No other module writes to a catalog.

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

/// The effect of writing a release to a catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The release is new in the catalog.
    Added,
    /// The catalog already had the same content; nothing was written.
    Unchanged,
    /// The release replaced different content.
    Replaced,
}

/// A release can't be written; the catalog is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The catalog has different content for this version.
    #[error("{directory:?} exists with different content; use --replace to replace it")]
    DifferentContent { directory: PathBuf },
    /// The catalog can't be written.
    #[error("can't write {path:?}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// `release.yaml` can't be serialized.
    #[error("can't write {FILE_NAME}")]
    Serialize(#[source] Box<serde_saphyr::SerializeError>),
}

/// Writes a release to a catalog, which is created if needed. Different content of the same version is replaced only if
/// `replace` is set.
pub(super) fn put(
    catalog: &Path,
    file: &ReleaseFile,
    charts: &BTreeMap<ChartName, Files>,
    replace: bool,
) -> Result<PutOutcome, PutError> {
    let directory = catalog.join(file.version.to_string());
    let exists = directory.exists();
    if exists {
        let existing = Release::open(&directory).ok();
        if existing.is_some_and(|known| known.file().same_content(file) && known.verify().is_empty()) {
            return Ok(PutOutcome::Unchanged);
        }
        if !replace {
            return Err(PutError::DifferentContent { directory });
        }
    }
    let staged = Staging::create(catalog, &file.version)?;
    write_release(&staged.directory, file, charts)?;
    staged.commit(&directory, exists)?;
    Ok(if exists { PutOutcome::Replaced } else { PutOutcome::Added })
}

fn write_release(directory: &Path, file: &ReleaseFile, charts: &BTreeMap<ChartName, Files>) -> Result<(), PutError> {
    for (chart, files) in charts {
        for (path, content) in files {
            write(&directory.join("charts").join(chart.as_str()).join(path), content)?;
        }
    }
    let text = file.text().map_err(|error| PutError::Serialize(Box::new(error)))?;
    write(&directory.join(FILE_NAME), text.as_bytes())
}

fn write(path: &Path, content: &[u8]) -> Result<(), PutError> {
    let directory = path.parent().map_or(Ok(()), fs::create_dir_all);
    directory.and_then(|()| fs::write(path, content)).map_err(|source| write_error(path, source))
}

fn write_error(path: &Path, source: io::Error) -> PutError {
    PutError::Write { path: path.to_owned(), source }
}

/// A hidden directory in the catalog, which readers skip. It is deleted on drop unless it was committed.
struct Staging {
    directory: PathBuf,
    replaced: PathBuf,
}

impl Staging {
    fn create(catalog: &Path, version: &Version) -> Result<Self, PutError> {
        let id = process::id();
        let directory = catalog.join(format!(".importing-{version}-{id}"));
        let replaced = catalog.join(format!(".replaced-{version}-{id}"));
        fs::create_dir_all(&directory).map_err(|source| write_error(&directory, source))?;
        Ok(Self { directory, replaced })
    }

    fn commit(&self, directory: &Path, exists: bool) -> Result<(), PutError> {
        if exists {
            fs::rename(directory, &self.replaced).map_err(|source| write_error(directory, source))?;
        }
        if let Err(source) = fs::rename(&self.directory, directory) {
            // Restores the old content. If this fails too, it stays in the hidden directory.
            let _ = fs::rename(&self.replaced, directory);
            return Err(write_error(directory, source));
        }
        if exists {
            fs::remove_dir_all(&self.replaced).map_err(|source| write_error(&self.replaced, source))?;
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Can't report an error here, and a leftover directory is hidden.
        let _ = fs::remove_dir_all(&self.directory);
    }
}
