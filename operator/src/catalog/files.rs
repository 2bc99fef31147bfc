//! Reading a chart's folder.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// A chart's files by relative path, with `/` between folders.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// A chart's folder can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadChartError {
    /// A file or folder can't be read.
    #[error("can't read {path:?}")]
    Read {
        /// What can't be read.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A link can point out of the catalog, and what it points to has no digest.
    #[error("{path:?} is neither a file nor a folder: a chart may not have links or devices")]
    NotAFile {
        /// What was found.
        path: PathBuf,
    },
    /// Paths become names in templates.
    #[error("{path:?} has a name that is no UTF-8 text without control characters: rename it")]
    Name {
        /// What was found.
        path: PathBuf,
    },
}

/// Reads all files below a folder.
pub(super) fn read(folder: &Path) -> Result<Files, ReadChartError> {
    let mut files = Files::new();
    collect(folder, "", &mut files)?;
    Ok(files)
}

fn collect(folder: &Path, prefix: &str, files: &mut Files) -> Result<(), ReadChartError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ReadChartError::Read { path, source }
    };
    for entry in fs::read_dir(folder).map_err(failed(folder))? {
        let entry = entry.map_err(failed(folder))?;
        let path = entry.path();
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !name.chars().any(char::is_control)) else {
            return Err(ReadChartError::Name { path });
        };
        let relative = format!("{prefix}{name}");
        // Of the entry itself, not of what a link points to.
        let kind = entry.file_type().map_err(failed(&path))?;
        if kind.is_dir() {
            collect(&path, &format!("{relative}/"), files)?;
        } else if kind.is_file() {
            files.insert(relative, fs::read(&path).map_err(failed(&path))?);
        } else {
            return Err(ReadChartError::NotAFile { path });
        }
    }
    Ok(())
}
