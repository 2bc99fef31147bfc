//! The catalogs that commands work with: directories alone, since it is the operator that asks registries.

use std::path::PathBuf;
use std::str::FromStr;

use crate::catalog::Catalog;
use crate::catalog::oci::source::ParseSourceError;
use crate::catalog::place::{Place, Places};
use crate::catalog::store::OpenError;

/// Directories with releases, written with `:` between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directories(Vec<PathBuf>);

impl FromStr for Directories {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let places: Places = text.parse().map_err(|error: ParseSourceError| error.to_string())?;
        let directory = |place| match place {
            Place::Directory(path) => Ok(path),
            Place::Registry(source) => Err(format!(
                "the operator alone asks registries; bring the releases that you need into a directory, and name that: \
                 meshwright catalog pull {source} --version VERSION --catalog DIR"
            )),
        };
        places.0.into_iter().map(directory).collect::<Result<_, _>>().map(Self)
    }
}

/// All that were named, in their order.
pub(super) fn paths(given: &[Directories]) -> Vec<PathBuf> {
    given.iter().flat_map(|directories| directories.0.clone()).collect()
}

/// Opens the catalog of all that were named.
pub(super) fn open(given: &[Directories]) -> Result<Catalog, OpenError> {
    Catalog::open(&paths(given))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_keep_their_order() {
        let given: Vec<Directories> = ["/a:b", "/c"].iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(paths(&given), [PathBuf::from("/a"), "b".into(), "/c".into()]);
    }

    #[test]
    fn for_a_registry_it_is_said_what_brings_its_releases_into_a_directory() {
        let refused = "/a:oci://r.example.com:5000/charts".parse::<Directories>().unwrap_err();
        assert!(refused.contains("catalog pull oci://r.example.com:5000/charts --version"), "{refused}");
    }
}
