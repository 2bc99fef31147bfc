//! The releases that installations are made of: those on disk, and those that a registry of the catalog has. Registries are
//! asked in the background, and only for what isn't on disk: no reconcile waits for one, and none is needed for a heal.

mod ask;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use kube::ResourceExt as _;
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::Reason;
use meshwright_api::version::VersionRequest;
use tracing::warn;

use self::ask::{Answer, Asker, Question, Registry};
use super::options::Options;
use crate::apply::Changes;
use crate::catalog::place::{Place, folder};
use crate::catalog::{Catalog, explain};
use crate::mesh::health::Blocker;

/// The releases on disk, and the registries that have more of them.
pub struct Releases {
    /// In the order of the catalogs; a registry stands there with the directory in which its releases are kept.
    directories: Vec<PathBuf>,
    /// `None` without registries.
    asker: Option<Arc<Asker>>,
}

/// The operator can't work with its catalogs.
#[derive(Debug, thiserror::Error)]
pub enum PrepareReleasesError {
    /// Nowhere to keep what is pulled.
    #[error("--catalog names a registry, so --catalog-cache has to name a directory in which its releases are kept")]
    NoCache,
    /// The directory can't be used.
    #[error("can't keep releases in {path:?}")]
    Cache {
        /// The directory.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

impl Releases {
    /// Makes the directories for what is pulled, and takes out of them what an earlier process left unfinished or damaged.
    pub fn prepare(options: &Options, changes: Changes) -> Result<Self, PrepareReleasesError> {
        let (mut directories, mut registries) = (Vec::new(), Vec::new());
        for place in &options.catalogs {
            match place {
                Place::Directory(path) => directories.push(path.clone()),
                Place::Registry(source) => {
                    let cache = options.catalog_cache.as_ref().ok_or(PrepareReleasesError::NoCache)?;
                    let path = folder(cache, source);
                    tidy(&path).map_err(|source| PrepareReleasesError::Cache { path: path.clone(), source })?;
                    directories.push(path.clone());
                    registries.push(Registry { source: source.clone(), cache: path });
                }
            }
        }
        let asker = (!registries.is_empty())
            .then(|| Arc::new(Asker::new(registries, directories.clone(), options.catalog_plain_http, changes)));
        Ok(Self { directories, asker })
    }

    /// What lies on disk.
    async fn on_disk(&self) -> Result<Catalog, Blocker> {
        let directories = self.directories.clone();
        let opened = tokio::task::spawn_blocking(move || Catalog::open(&directories)).await;
        let damaged = |message| Blocker { reason: Reason::CatalogDamaged, message };
        match opened {
            Ok(Ok(catalog)) => Ok(catalog),
            Ok(Err(error)) => Err(damaged(explain(&error))),
            Err(error) => Err(damaged(format!("reading the catalog failed: {error}"))),
        }
    }

    /// The releases on disk, when they answer `request`, or nobody has more. `charts` are the digests of those that an
    /// installation was made with.
    pub async fn with(
        &self,
        installation: &MeshInstallation,
        request: &VersionRequest,
        charts: Option<&BTreeMap<String, String>>,
    ) -> Result<Catalog, Blocker> {
        let catalog = self.on_disk().await?;
        let Some(asker) = &self.asker else { return Ok(catalog) };
        // Which patch is the newest only the registries know.
        if matches!(request, VersionRequest::Exact(_)) && catalog.resolve(request).is_ok() {
            return Ok(catalog);
        }
        let question = Question {
            installation: installation.name_any(),
            generation: installation.metadata.generation.unwrap_or_default(),
            request: request.clone(),
            charts: charts.cloned().unwrap_or_default(),
        };
        let blocked = |reason, message| Err(Blocker { reason, message });
        match asker.ask(question) {
            None => blocked(Reason::PullingRelease, format!("Istio {request} is asked for from {}", asker.names())),
            // It may have come since the first look.
            Some(Answer::Here) => self.on_disk().await,
            Some(Answer::Failed(message)) => blocked(Reason::RegistryFailed, format!("spec.version: {message}")),
            Some(Answer::Lacking) => match catalog.resolve(request) {
                Ok(_) => Ok(catalog),
                Err(error) => blocked(
                    Reason::VersionNotInCatalog,
                    format!("spec.version: {error}; {} has no such release either", asker.names()),
                ),
            },
        }
    }

    /// Forgets what was asked for an installation.
    pub fn forget(&self, installation: &str) {
        if let Some(asker) = &self.asker {
            asker.forget(installation);
        }
    }
}

/// Whether what stands in the way passes by itself when a registry answers.
pub const fn passes(reason: Reason) -> bool {
    matches!(reason, Reason::PullingRelease | Reason::RegistryFailed)
}

/// Makes a directory of pulled releases, and removes from it what is no whole release: it can be pulled again.
fn tidy(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let catalog = Catalog::open(&[directory.to_owned()]).map_err(|error| error.source)?;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let whole = catalog.releases().iter().any(|release| release.folder() == path && release.verify().is_empty());
        if !whole {
            warn!(?path, "removing what is no whole release");
            if path.is_dir() { fs::remove_dir_all(&path)? } else { fs::remove_file(&path)? }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Facts;
    use crate::catalog::import::{Import, import};
    use crate::catalog::tests::source_tree;

    fn options(catalogs: &str, cache: Option<PathBuf>) -> Options {
        Options {
            catalogs: catalogs.parse::<crate::catalog::place::Places>().unwrap().0,
            catalog_cache: cache,
            catalog_plain_http: false,
            probe_interval: std::time::Duration::from_secs(1),
            cluster_objects: crate::mesh::cluster_objects::ClusterObjects::default(),
        }
    }

    #[test]
    fn a_registry_needs_a_directory_and_directories_alone_need_none() {
        let prepare = |catalogs: &str, cache| Releases::prepare(&options(catalogs, cache), Changes::default());
        assert!(prepare("/a:/b", None).unwrap().asker.is_none());
        assert!(matches!(prepare("/a:oci://r.example.com/c", None), Err(PrepareReleasesError::NoCache)));
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = prepare("oci://r.example.com/c", Some(file.path().to_owned())).err().unwrap();
        assert!(matches!(error, PrepareReleasesError::Cache { .. }), "{error}");
    }

    #[test]
    fn what_an_earlier_process_left_unfinished_or_damaged_is_removed() {
        let (cache, from) = (tempfile::TempDir::new().unwrap(), source_tree());
        let wanted = options("oci://r.example.com/c", Some(cache.path().to_owned()));
        let directory = Releases::prepare(&wanted, Changes::default()).unwrap().directories.remove(0);
        for version in ["1.31.1", "1.31.2"] {
            let version = version.parse().unwrap();
            let request =
                Import { from: from.path(), version: &version, catalog: &directory, source: "a test", replace: false };
            import(&request, &Facts::bundled().unwrap()).unwrap();
        }
        fs::write(directory.join("1.31.1/charts/cni/values.yaml"), "evil: true\n").unwrap();
        fs::create_dir(directory.join(".importing-1.31.3-1")).unwrap();
        fs::write(directory.join("stray"), "").unwrap();
        Releases::prepare(&wanted, Changes::default()).unwrap();
        let left: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["1.31.2"]);
    }
}
