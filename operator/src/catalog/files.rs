//! Reads a chart's directory.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// A chart's files by relative path, with `/` as separator.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// A chart's directory can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadChartError {
    /// A file or directory can't be read.
    #[error("can't read {path:?}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A link can point out of the catalog, and its target has no digest.
    #[error("{path:?} is neither a regular file nor a directory; charts must not contain links or devices")]
    NotAFile { path: PathBuf },
    /// Paths become template names.
    #[error("{path:?} must have a UTF-8 name without control characters; rename it")]
    Name { path: PathBuf },
}

/// Reads all files of a directory recursively.
pub(super) fn read(directory: &Path) -> Result<Files, ReadChartError> {
    let mut files = Files::new();
    collect(directory, "", &mut files)?;
    Ok(files)
}

fn collect(directory: &Path, prefix: &str, files: &mut Files) -> Result<(), ReadChartError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ReadChartError::Read { path, source }
    };
    for entry in fs::read_dir(directory).map_err(failed(directory))? {
        let entry = entry.map_err(failed(directory))?;
        let path = entry.path();
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !name.chars().any(char::is_control)) else {
            return Err(ReadChartError::Name { path });
        };
        let relative = format!("{prefix}{name}");
        // The type of the entry itself: links are not followed.
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
