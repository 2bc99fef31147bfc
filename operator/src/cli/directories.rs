//! Catalog flags of the commands: directories only, because only the operator reads from registries.

use std::path::PathBuf;
use std::str::FromStr;

use crate::catalog::Catalog;
use crate::catalog::oci::source::ParseSourceError;
use crate::catalog::sources::{CatalogSource, CatalogSources};
use crate::catalog::store::OpenError;

/// Catalog directories, separated by `:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directories(Vec<PathBuf>);

impl FromStr for Directories {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let sources: CatalogSources = text.parse().map_err(|error: ParseSourceError| error.to_string())?;
        let directory = |source| match source {
            CatalogSource::Directory(path) => Ok(path),
            CatalogSource::Registry(source) => Err(format!(
                "only the operator can read from registries; pull the releases into a directory and use that: \
                 meshwright catalog pull {source} --version VERSION --catalog DIR"
            )),
        };
        sources.0.into_iter().map(directory).collect::<Result<_, _>>().map(Self)
    }
}

/// The directories of all flags, in order.
pub(super) fn paths(given: &[Directories]) -> Vec<PathBuf> {
    given.iter().flat_map(|directories| directories.0.clone()).collect()
}

/// Opens the directories of all flags as one catalog.
pub(super) fn open(given: &[Directories]) -> Result<Catalog, OpenError> {
    Catalog::open(&paths(given))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preserves_order_of_directories() {
        let given: Vec<Directories> = ["/a:b", "/c"].iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(paths(&given), [PathBuf::from("/a"), "b".into(), "/c".into()]);
    }

    #[test]
    fn registry_error_suggests_catalog_pull() {
        let error = "/a:oci://r.example.com:5000/charts".parse::<Directories>().unwrap_err();
        assert!(error.contains("catalog pull oci://r.example.com:5000/charts --version"), "{error}");
    }
}
