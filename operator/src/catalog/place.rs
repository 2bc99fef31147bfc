//! Where the operator's releases come from: directories and registries, in one list. Pure.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::digest::sha256;
use super::oci::{Source, source::ParseSourceError};

const REGISTRY: &str = "oci://";

/// One place with releases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A catalog on disk.
    Directory(PathBuf),
    /// Charts in a registry.
    Registry(Source),
}

/// Places in the order in which they are looked through, written with `:` between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places(pub Vec<Place>);

impl FromStr for Places {
    type Err = ParseSourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (mut places, mut rest) = (Vec::new(), text);
        while let Some((place, behind)) = rest.split_at_checked(end_of_first(rest)) {
            if place.starts_with(REGISTRY) {
                places.push(Place::Registry(place.parse()?));
            } else if !place.is_empty() {
                places.push(Place::Directory(place.into()));
            }
            match behind.strip_prefix(':') {
                Some(next) => rest = next,
                None => break,
            }
        }
        Ok(Self(places))
    }
}

/// The end of the first place of a list. The colons of a registry's scheme and port are its own.
fn end_of_first(text: &str) -> usize {
    let to_colon = |text: &str| text.find(':').unwrap_or(text.len());
    let Some(place) = text.strip_prefix(REGISTRY) else { return to_colon(text) };
    let host = place.find([':', '/']).unwrap_or(place.len());
    let port = place.get(host..).and_then(|rest| rest.strip_prefix(':')).map_or(0, |rest| {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits == 0 { 0 } else { digits + 1 }
    });
    let begun = REGISTRY.len() + host + port;
    begun + text.get(begun..).map_or(0, to_colon)
}

/// The folder below `cache` in which the releases of a registry are kept: readable, and another for each place.
#[must_use]
pub fn folder(cache: &Path, source: &Source) -> PathBuf {
    let text = source.to_string();
    let name: String = text
        .trim_start_matches(REGISTRY)
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' })
        .collect();
    let sum: String = sha256(text.as_bytes()).chars().take(8).collect();
    cache.join(format!("{name}-{sum}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<String> {
        let places = text.parse::<Places>().unwrap().0;
        let shown = |place: &Place| match place {
            Place::Directory(path) => path.display().to_string(),
            Place::Registry(source) => source.to_string(),
        };
        places.iter().map(shown).collect()
    }

    #[test]
    fn directories_and_registries_stand_in_one_list() {
        for (text, places) in [
            ("/catalog", &["/catalog"][..]),
            ("/a:b/c:", &["/a", "b/c"]),
            ("oci://r.example.com/charts", &["oci://r.example.com/charts"]),
            ("oci://r.example.com:5000/istio/charts:/catalog", &["oci://r.example.com:5000/istio/charts", "/catalog"]),
            ("/catalog:oci://localhost:5000", &["/catalog", "oci://localhost:5000"]),
            ("oci://localhost:5000:oci://10.1.2.3/x:/c", &["oci://localhost:5000", "oci://10.1.2.3/x", "/c"]),
            ("oci://r.example.com:/catalog", &["oci://r.example.com", "/catalog"]),
            ("", &[]),
        ] {
            assert_eq!(parsed(text), places, "{text}");
        }
    }

    #[test]
    fn what_is_no_place_in_a_registry_is_refused() {
        assert!(matches!("/a:oci://".parse::<Places>(), Err(ParseSourceError::Reference(_))));
        assert!(matches!("oci://r.example.com/c@sha256:0".parse::<Places>(), Err(ParseSourceError::Tag(_))));
    }

    #[test]
    fn each_registry_has_a_folder_of_its_own() {
        let folder = |text: &str| folder(Path::new("/cache"), &text.parse().unwrap());
        let one = folder("oci://r.example.com:5000/istio/charts");
        assert!(one.to_str().unwrap().starts_with("/cache/r.example.com_5000_istio_charts-"), "{one:?}");
        assert_ne!(folder("oci://r.example.com/a_b"), folder("oci://r.example.com/a/b"));
    }
}
