//! `meshwright catalog export` and `import`.

use std::path::{Path, PathBuf};

use meshwright_api::version::VersionRequest;
use semver::Version;

use super::{describe_outcome, release_version};
use crate::catalog::{
    Catalog,
    bundle::{self, ExportError, ImportFileError},
    store::ResolveError,
};

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshwright catalog export --version 1.31.2 --to istio-1.31.2.tar.gz --catalog releases")]
pub(super) struct ExportArgs {
    /// Version of the release, for example 1.31.2
    #[arg(long, value_name = "VERSION", value_parser = release_version)]
    version: Version,
    /// Path of the file to write, usually with the extension .tar.gz
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshwright catalog import --from istio-1.31.2.tar.gz --catalog releases")]
pub(super) struct ImportArgs {
    /// Path of a file written by `catalog export`
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Replace an existing release with the same version and other content
    #[arg(long)]
    replace: bool,
}

/// A release can't be exported or imported.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The catalog doesn't have the release.
    #[error(transparent)]
    Resolve(ResolveError),
    /// The file can't be written.
    #[error("can't export Istio {version}")]
    Export {
        /// Version of the release.
        version: Version,
        /// The underlying error.
        #[source]
        source: ExportError,
    },
    /// The file can't be imported.
    #[error("can't import {from:?}")]
    Import {
        /// Path of the file.
        from: PathBuf,
        /// The underlying error.
        #[source]
        source: Box<ImportFileError>,
    },
}

/// Exports the release and returns checksum and path in the format of `sha256sum`.
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
    Ok(format!("Istio {version}: {}", describe_outcome(outcome)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cli::catalog::tests::{run, with_release};

    #[test]
    fn exports_reproducible_files() {
        let (catalog, dir) = with_release("1.31.2");
        let target = tempfile::TempDir::new().unwrap();
        let path = |name: &str| target.path().join(name).to_str().unwrap().to_owned();
        let export = |file: &str| run(&["export", "--version", "1.31.2", "--to", file, "--catalog", &dir]).unwrap().1;
        let summary = export(&path("a.tar.gz"));
        export(&path("b.tar.gz"));
        assert_eq!(fs::read(path("a.tar.gz")).unwrap(), fs::read(path("b.tar.gz")).unwrap());
        let (sum, file) = summary.trim_end().split_once("  ").unwrap();
        assert_eq!((sum.len(), file), (64, path("a.tar.gz").as_str()));

        let other = path("catalog");
        let import = || run(&["import", "--from", file, "--catalog", &other]).unwrap().1;
        assert_eq!(import(), "Istio 1.31.2: added\n");
        assert_eq!(import(), "Istio 1.31.2: unchanged\n");
        assert!(run(&["verify", "--catalog", &other]).unwrap().1.contains("1.31.2: ok"));
        let release = |catalog: &Path| fs::read(catalog.join("1.31.2/release.yaml")).unwrap();
        assert_eq!(release(catalog.path()), release(&target.path().join("catalog")));
    }

    #[test]
    fn does_not_export_corrupted_release() {
        let (catalog, dir) = with_release("1.31.2");
        fs::write(catalog.path().join("1.31.2/charts/base/values.yaml"), "evil: true\n").unwrap();
        let target = tempfile::TempDir::new().unwrap();
        let file = target.path().join("a.tar.gz");
        let error = run(&["export", "--version", "1.31.2", "--to", file.to_str().unwrap(), "--catalog", &dir]);
        let error = crate::catalog::error_chain(&error.unwrap_err());
        assert!(error.contains("chart base of release 1.31.2 is damaged"), "{error}");
        assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0);
    }
}
