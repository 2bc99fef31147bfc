//! The releases of one or more catalog directories, and which of them a spec means. Reads files,
//! writes none.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use meshwright_api::version::VersionRequest;
use semver::Version;

use super::{
    explain,
    release::{OpenReleaseError, Release},
};

/// The releases found in a list of directories, as they were when it was opened. Opening reads the
/// `release.yaml` files alone, so it can be done anew as often as wanted.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// Newest first.
    releases: Vec<Release>,
    broken: Vec<Broken>,
}

/// A folder in a catalog that can't be used as a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The folder.
    pub folder: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// A catalog directory can't be read.
#[derive(Debug, thiserror::Error)]
#[error("can't read the catalog {dir:?}: {source}{}", remedy(.source))]
pub struct OpenError {
    /// The directory.
    pub dir: PathBuf,
    /// Cause.
    #[source]
    pub source: io::Error,
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; `meshwright catalog add` or `meshwright catalog pull` makes one",
        _ => "",
    }
}

/// No release is what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The catalog has no such release.
    #[error("version {request} is not in the catalog, which has {}", list(.available))]
    Missing {
        /// What was asked for.
        request: VersionRequest,
        /// What there is, newest first.
        available: Vec<Version>,
    },
    /// A minor never means a pre-release.
    #[error(
        "the catalog has no release of {request}, only the pre-release {}: ask for exactly that one, or for another \
         version", list(.pre_releases)
    )]
    OnlyPreReleases {
        /// What was asked for.
        request: VersionRequest,
        /// The minor's pre-releases, newest first.
        pre_releases: Vec<Version>,
    },
    /// It is there, but not usable.
    #[error("version {request} is in the catalog, but broken: {reason}")]
    Broken {
        /// What was asked for.
        request: VersionRequest,
        /// What is wrong.
        reason: String,
    },
}

fn list(versions: &[Version]) -> String {
    if versions.is_empty() {
        return "no release at all".to_owned();
    }
    versions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Catalog {
    /// Scans directories. One that can't be read is an error; a folder in it that is no release is
    /// kept as [`Broken`] and hides no other. If two directories have the same version, the first
    /// one's is used.
    pub fn open(dirs: &[PathBuf]) -> Result<Self, OpenError> {
        let mut catalog = Self { releases: Vec::new(), broken: Vec::new() };
        for dir in dirs {
            let folders = folders(dir).map_err(|source| OpenError { dir: dir.clone(), source })?;
            for folder in &folders {
                catalog.add(folder);
            }
        }
        catalog.releases.sort_by(|one, other| other.version().cmp(one.version()));
        Ok(catalog)
    }

    fn add(&mut self, folder: &Path) {
        let release = match Release::open(folder) {
            Ok(release) => release,
            Err(error) => return self.broken.push(Broken::new(folder, &error)),
        };
        match self.releases.iter().find(|known| known.version() == release.version()) {
            None => self.releases.push(release),
            Some(known) if known.file().same_content(release.file()) => {}
            Some(known) => {
                let reason = format!("differs from {}, which is used instead", known.folder().display());
                self.broken.push(Broken { folder: folder.to_owned(), reason });
            }
        }
    }

    /// The releases, newest first.
    #[must_use]
    pub fn releases(&self) -> &[Release] {
        &self.releases
    }

    /// Folders that can't be used, in the order in which they were found.
    #[must_use]
    pub fn broken(&self) -> &[Broken] {
        &self.broken
    }

    /// The versions, newest first.
    #[must_use]
    pub fn versions(&self) -> Vec<&Version> {
        self.releases.iter().map(Release::version).collect()
    }

    /// The release that a request means: itself, or the newest patch of a minor, which is never a
    /// pre-release.
    pub fn resolve(&self, request: &VersionRequest) -> Result<&Release, ResolveError> {
        let found = self.releases.iter().find(|release| request.accepts(release.version()));
        found.ok_or_else(|| self.refusal(request))
    }

    fn refusal(&self, request: &VersionRequest) -> ResolveError {
        let request = request.clone();
        let wanted = request.to_string();
        let is_wanted = |broken: &&Broken| broken.folder.file_name().is_some_and(|name| *name == *wanted);
        if let Some(broken) = self.broken.iter().find(is_wanted) {
            return ResolveError::Broken { request, reason: broken.reason.clone() };
        }
        let of_minor = |version: &&Version| (version.major, version.minor) == request.minor();
        let pre_releases: Vec<Version> = self.versions().into_iter().filter(of_minor).cloned().collect();
        if matches!(request, VersionRequest::Minor { .. }) && !pre_releases.is_empty() {
            return ResolveError::OnlyPreReleases { request, pre_releases };
        }
        ResolveError::Missing { request, available: self.versions().into_iter().cloned().collect() }
    }
}

impl Broken {
    fn new(folder: &Path, error: &OpenReleaseError) -> Self {
        Self { folder: folder.to_owned(), reason: explain(error) }
    }
}

/// The folders of a directory by name. Hidden ones are imports under way, or what one left that
/// was interrupted.
fn folders(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}
