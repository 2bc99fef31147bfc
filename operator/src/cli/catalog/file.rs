//! `meshwright catalog export` and `import`.

use std::path::{Path, PathBuf};

use meshwright_api::version::VersionRequest;
use semver::Version;

use super::{release_version, told};
use crate::catalog::{
    Catalog,
    bundle::{self, ExportError, ImportFileError},
    store::ResolveError,
};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// The release, for example 1.31.2
    #[arg(long, value_name = "VERSION", value_parser = release_version)]
    version: Version,
    /// The file to write; its usual ending is .tar.gz
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct ImportArgs {
    /// A file that `catalog export` wrote
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Put it in the place of other content under the same version
    #[arg(long)]
    replace: bool,
}

/// A release can't be carried by file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The catalog doesn't have it.
    #[error(transparent)]
    Resolve(ResolveError),
    /// It can't be written.
    #[error("can't export Istio {version}")]
    Export {
        /// The release.
        version: Version,
        /// Cause.
        #[source]
        source: ExportError,
    },
    /// It can't be read.
    #[error("can't import {from:?}")]
    Import {
        /// The file.
        from: PathBuf,
        /// Cause.
        #[source]
        source: Box<ImportFileError>,
    },
}

/// Says the file and its checksum, as `sha256sum` does.
pub(super) fn export(args: &ExportArgs, catalog: &Catalog) -> Result<String, FileError> {
    let request = VersionRequest::Exact(args.version.clone());
    let release = catalog.resolve(&request).map_err(FileError::Resolve)?;
    let sum = bundle::export(release, &args.to)
        .map_err(|source| FileError::Export { version: args.version.clone(), source })?;
    Ok(format!("{sum}  {}", args.to.display()))
}

pub(super) fn import(args: &ImportArgs, catalog: &Path) -> Result<String, FileError> {
    let (version, outcome) = bundle::import(&args.from, catalog, args.replace)
        .map_err(|source| FileError::Import { from: args.from.clone(), source: Box::new(source) })?;
    Ok(format!("Istio {version}: {}", told(outcome)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cli::catalog::tests::{run, with_release};

    #[test]
    fn a_release_travels_by_file_and_the_file_is_the_same_each_time() {
        let (catalog, dir) = with_release("1.31.2");
        let target = tempfile::TempDir::new().unwrap();
        let path = |name: &str| target.path().join(name).to_str().unwrap().to_owned();
        let export = |file: &str| run(&["export", "--version", "1.31.2", "--to", file, "--catalog", &dir]).unwrap().1;
        let said = export(&path("a.tar.gz"));
        export(&path("b.tar.gz"));
        assert_eq!(fs::read(path("a.tar.gz")).unwrap(), fs::read(path("b.tar.gz")).unwrap());
        let (sum, file) = said.trim_end().split_once("  ").unwrap();
        assert_eq!((sum.len(), file), (64, path("a.tar.gz").as_str()));

        let other = path("catalog");
        let import = || run(&["import", "--from", file, "--catalog", &other]).unwrap().1;
        assert_eq!(import(), "Istio 1.31.2: added\n");
        assert_eq!(import(), "Istio 1.31.2: there already, nothing changed\n");
        assert!(run(&["verify", "--catalog", &other]).unwrap().1.contains("1.31.2: ok"));
        let release = |catalog: &Path| fs::read(catalog.join("1.31.2/release.yaml")).unwrap();
        assert_eq!(release(catalog.path()), release(&target.path().join("catalog")));
    }

    #[test]
    fn what_is_damaged_is_not_exported_and_no_file_is_left() {
        let (catalog, dir) = with_release("1.31.2");
        fs::write(catalog.path().join("1.31.2/charts/base/values.yaml"), "evil: true\n").unwrap();
        let target = tempfile::TempDir::new().unwrap();
        let file = target.path().join("a.tar.gz");
        let error = run(&["export", "--version", "1.31.2", "--to", file.to_str().unwrap(), "--catalog", &dir]);
        let error = crate::catalog::explain(&error.unwrap_err());
        assert!(error.contains("chart base of release 1.31.2 is damaged"), "{error}");
        assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0);
    }
}
