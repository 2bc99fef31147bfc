//! Istio releases from directories and registries. Releases from registries are pulled in the background and cached on
//! disk, so that no reconcile waits for a registry and reverting drift needs none.

mod registry_poller;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use kube::ResourceExt as _;
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::Reason;
use meshwright_api::version::VersionRequest;
use tracing::warn;

use self::registry_poller::{CachedRegistry, PullOutcome, PullRequest, RegistryPoller};
use super::options::OperatorOptions;
use crate::apply::Changes;
use crate::catalog::sources::{CatalogSource, cache_directory};
use crate::catalog::{Catalog, error_chain};
use crate::mesh::health::Blocker;

/// Releases on disk, and registries to pull more from.
pub struct ReleaseStore {
    /// One directory per catalog, in order of precedence; for a registry, its cache.
    directories: Vec<PathBuf>,
    /// `None` if no catalog is a registry.
    poller: Option<Arc<RegistryPoller>>,
}

/// The operator can't use its catalogs.
#[derive(Debug, thiserror::Error)]
pub enum PrepareReleaseStoreError {
    /// A registry is configured without a cache directory.
    #[error("--catalog names a registry, which requires --catalog-cache with a directory for its releases")]
    NoCache,
    /// The cache directory is not writable.
    #[error("can't cache releases in {path:?}")]
    Cache {
        /// Cache directory of the registry.
        path: PathBuf,
        /// The failed file operation.
        #[source]
        source: io::Error,
    },
}

impl ReleaseStore {
    /// Creates cache directories, and removes incomplete or corrupted releases of an earlier process from them.
    pub fn prepare(options: &OperatorOptions, changes: Changes) -> Result<Self, PrepareReleaseStoreError> {
        let (mut directories, mut registries) = (Vec::new(), Vec::new());
        for place in &options.catalogs {
            match place {
                CatalogSource::Directory(path) => directories.push(path.clone()),
                CatalogSource::Registry(source) => {
                    let cache = options.catalog_cache.as_ref().ok_or(PrepareReleaseStoreError::NoCache)?;
                    let path = cache_directory(cache, source);
                    prepare_cache(&path)
                        .map_err(|source| PrepareReleaseStoreError::Cache { path: path.clone(), source })?;
                    directories.push(path.clone());
                    registries.push(CachedRegistry { source: source.clone(), cache: path });
                }
            }
        }
        let poller = (!registries.is_empty()).then(|| {
            Arc::new(RegistryPoller::new(registries, directories.clone(), options.catalog_plain_http, changes))
        });
        Ok(Self { directories, poller })
    }

    /// Opens the releases on disk.
    async fn on_disk(&self) -> Result<Catalog, Blocker> {
        let directories = self.directories.clone();
        let opened = tokio::task::spawn_blocking(move || Catalog::open(&directories)).await;
        let corrupted = |message| Blocker { reason: Reason::CatalogCorrupted, message };
        match opened {
            Ok(Ok(catalog)) => Ok(catalog),
            Ok(Err(error)) => Err(corrupted(error_chain(&error))),
            Err(error) => Err(corrupted(format!("reading the catalog failed: {error}"))),
        }
    }

    /// The releases on disk, once they include the requested one or no registry has it. `charts` are the digests of the
    /// charts that the installation uses.
    pub async fn with(
        &self,
        installation: &MeshInstallation,
        request: &VersionRequest,
        charts: Option<&BTreeMap<String, String>>,
    ) -> Result<Catalog, Blocker> {
        let catalog = self.on_disk().await?;
        let Some(poller) = &self.poller else { return Ok(catalog) };
        // The newest patch of a minor may be in a registry only.
        if matches!(request, VersionRequest::Exact(_)) && catalog.resolve(request).is_ok() {
            return Ok(catalog);
        }
        let pull = PullRequest {
            installation: installation.name_any(),
            generation: installation.metadata.generation.unwrap_or_default(),
            request: request.clone(),
            charts: charts.cloned().unwrap_or_default(),
        };
        let blocked = |reason, message| Err(Blocker { reason, message });
        match poller.poll(pull) {
            None => blocked(Reason::PullingRelease, format!("pulling Istio {request} from {}", poller.names())),
            // The pull may have finished since the catalog was opened.
            Some(PullOutcome::OnDisk) => self.on_disk().await,
            Some(PullOutcome::Failed(message)) => blocked(Reason::RegistryError, format!("spec.version: {message}")),
            Some(PullOutcome::NotFound) => match catalog.resolve(request) {
                Ok(_) => Ok(catalog),
                Err(error) => blocked(
                    Reason::VersionNotInCatalog,
                    format!("spec.version: {error}; it is not in {} either", poller.names()),
                ),
            },
        }
    }

    /// Drops the pull requests of an installation.
    pub fn forget(&self, installation: &str) {
        if let Some(poller) = &self.poller {
            poller.forget(installation);
        }
    }
}

/// Whether a reason clears without a user, once a registry responds.
pub const fn is_transient(reason: Reason) -> bool {
    matches!(reason, Reason::PullingRelease | Reason::RegistryError)
}

/// Creates a cache directory, and removes everything from it that is not a complete release; it can be pulled again.
fn prepare_cache(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let catalog = Catalog::open(&[directory.to_owned()]).map_err(|error| error.source)?;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_complete =
            catalog.releases().iter().any(|release| release.directory() == path && release.verify().is_empty());
        if !is_complete {
            warn!(?path, "removing an incomplete release");
            if path.is_dir() { fs::remove_dir_all(&path)? } else { fs::remove_file(&path)? }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ReleaseFacts;
    use crate::catalog::import::{ImportOptions, import};
    use crate::catalog::tests::source_tree;

    fn options(catalogs: &str, cache: Option<PathBuf>) -> OperatorOptions {
        OperatorOptions {
            catalogs: catalogs.parse::<crate::catalog::sources::CatalogSources>().unwrap().0,
            catalog_cache: cache,
            catalog_plain_http: false,
            injection_check_interval: std::time::Duration::from_secs(1),
            cluster_scoped_resources: crate::mesh::cluster_scoped::ClusterScopedResources::default(),
        }
    }

    #[test]
    fn registry_requires_cache_directory() {
        let prepare = |catalogs: &str, cache| ReleaseStore::prepare(&options(catalogs, cache), Changes::default());
        assert!(prepare("/a:/b", None).unwrap().poller.is_none());
        assert!(matches!(prepare("/a:oci://r.example.com/c", None), Err(PrepareReleaseStoreError::NoCache)));
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = prepare("oci://r.example.com/c", Some(file.path().to_owned())).err().unwrap();
        assert!(matches!(error, PrepareReleaseStoreError::Cache { .. }), "{error}");
    }

    #[test]
    fn removes_incomplete_and_corrupted_releases() {
        let (cache, from) = (tempfile::TempDir::new().unwrap(), source_tree());
        let wanted = options("oci://r.example.com/c", Some(cache.path().to_owned()));
        let directory = ReleaseStore::prepare(&wanted, Changes::default()).unwrap().directories.remove(0);
        for version in ["1.31.1", "1.31.2"] {
            let version = version.parse().unwrap();
            let request = ImportOptions {
                from: from.path(),
                version: &version,
                catalog: &directory,
                source: "a test",
                replace: false,
            };
            import(&request, &ReleaseFacts::bundled().unwrap()).unwrap();
        }
        fs::write(directory.join("1.31.1/charts/cni/values.yaml"), "evil: true\n").unwrap();
        fs::create_dir(directory.join(".importing-1.31.3-1")).unwrap();
        fs::write(directory.join("stray"), "").unwrap();
        ReleaseStore::prepare(&wanted, Changes::default()).unwrap();
        let left: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["1.31.2"]);
    }
}
