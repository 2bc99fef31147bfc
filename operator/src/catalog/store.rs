//! Lists the releases in catalog directories and resolves requested versions. Reads files, writes none.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use meshwright_api::version::VersionRequest;
use semver::Version;

use super::{
    error_chain,
    release::{OpenReleaseError, Release},
};

/// A snapshot of the releases in a list of directories. Opening it is cheap: it reads only the `release.yaml` files.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// Sorted, newest first.
    releases: Vec<Release>,
    broken: Vec<BrokenRelease>,
}

/// A directory in a catalog that can't be used as a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenRelease {
    pub directory: PathBuf,
    /// Why it can't be used.
    pub reason: String,
}

/// A catalog directory can't be read.
#[derive(Debug, thiserror::Error)]
#[error("can't read the catalog {dir:?}: {source}{}", remedy(.source))]
pub struct OpenError {
    pub dir: PathBuf,
    #[source]
    pub source: io::Error,
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; create it with `meshwright catalog add` or `meshwright catalog pull`",
        _ => "",
    }
}

/// A requested version can't be resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The catalog has no such release.
    #[error("version {request} is not in the catalog, which has {}", list(.available))]
    Missing {
        request: VersionRequest,
        /// The available versions, newest first.
        available: Vec<Version>,
    },
    /// A minor never resolves to a pre-release.
    #[error(
        "the catalog has only pre-releases of {request}: {}; set an exact version or another minor", list(.pre_releases)
    )]
    OnlyPreReleases {
        request: VersionRequest,
        /// The pre-releases of the minor, newest first.
        pre_releases: Vec<Version>,
    },
    /// The release exists but can't be used.
    #[error("version {request} is in the catalog but can't be used: {reason}")]
    Unusable { request: VersionRequest, reason: String },
}

fn list(versions: &[Version]) -> String {
    if versions.is_empty() {
        return "no releases".to_owned();
    }
    versions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Catalog {
    /// Scans catalog directories. A catalog that can't be read is an error; an invalid release is listed as
    /// `BrokenRelease` and doesn't affect the others. If two catalogs have the same version, the first one wins.
    pub fn open(dirs: &[PathBuf]) -> Result<Self, OpenError> {
        let mut catalog = Self { releases: Vec::new(), broken: Vec::new() };
        for dir in dirs {
            let directories = directories(dir).map_err(|source| OpenError { dir: dir.clone(), source })?;
            for directory in &directories {
                catalog.add(directory);
            }
        }
        catalog.releases.sort_by(|one, other| other.version().cmp(one.version()));
        Ok(catalog)
    }

    fn add(&mut self, directory: &Path) {
        let release = match Release::open(directory) {
            Ok(release) => release,
            Err(error) => return self.broken.push(BrokenRelease::new(directory, &error)),
        };
        match self.releases.iter().find(|known| known.version() == release.version()) {
            None => self.releases.push(release),
            Some(known) if known.file().same_content(release.file()) => {}
            Some(known) => {
                let reason = format!("differs from {}, which is used instead", known.directory().display());
                self.broken.push(BrokenRelease { directory: directory.to_owned(), reason });
            }
        }
    }

    /// Returns the releases, newest first.
    #[must_use]
    pub fn releases(&self) -> &[Release] {
        &self.releases
    }

    /// Returns the directories that can't be used, in scan order.
    #[must_use]
    pub fn broken(&self) -> &[BrokenRelease] {
        &self.broken
    }

    /// Returns the versions, newest first.
    #[must_use]
    pub fn versions(&self) -> Vec<&Version> {
        self.releases.iter().map(Release::version).collect()
    }

    /// Resolves a request to the exact release, or to the newest patch of a minor, which is never a pre-release.
    pub fn resolve(&self, request: &VersionRequest) -> Result<&Release, ResolveError> {
        let found = self.releases.iter().find(|release| request.accepts(release.version()));
        found.ok_or_else(|| self.unresolved(request))
    }

    fn unresolved(&self, request: &VersionRequest) -> ResolveError {
        let request = request.clone();
        let wanted = request.to_string();
        let is_wanted = |broken: &&BrokenRelease| broken.directory.file_name().is_some_and(|name| *name == *wanted);
        if let Some(broken) = self.broken.iter().find(is_wanted) {
            return ResolveError::Unusable { request, reason: broken.reason.clone() };
        }
        let of_minor = |version: &&Version| (version.major, version.minor) == request.minor();
        let pre_releases: Vec<Version> = self.versions().into_iter().filter(of_minor).cloned().collect();
        if matches!(request, VersionRequest::Minor { .. }) && !pre_releases.is_empty() {
            return ResolveError::OnlyPreReleases { request, pre_releases };
        }
        ResolveError::Missing { request, available: self.versions().into_iter().cloned().collect() }
    }
}

impl BrokenRelease {
    fn new(directory: &Path, error: &OpenReleaseError) -> Self {
        Self { directory: directory.to_owned(), reason: error_chain(error) }
    }
}

/// Returns the subdirectories, sorted by name. Skips hidden ones: imports in progress or interrupted.
fn directories(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut directories = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.is_dir() {
            directories.push(path);
        }
    }
    directories.sort();
    Ok(directories)
}
