//! The operator's catalog sources: a list of directories and registries. Pure.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::digest::sha256;
use super::oci::{RegistrySource, source::ParseSourceError};

const REGISTRY: &str = "oci://";

/// A source of releases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogSource {
    /// A catalog directory.
    Directory(PathBuf),
    /// Charts in a registry.
    Registry(RegistrySource),
}

/// Sources in search order, separated by `:`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatalogSources(pub Vec<CatalogSource>);

impl FromStr for CatalogSources {
    type Err = ParseSourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (mut sources, mut rest) = (Vec::new(), text);
        while let Some((source, remainder)) = rest.split_at_checked(end_of_first(rest)) {
            if source.starts_with(REGISTRY) {
                sources.push(CatalogSource::Registry(source.parse()?));
            } else if !source.is_empty() {
                sources.push(CatalogSource::Directory(source.into()));
            }
            match remainder.strip_prefix(':') {
                Some(next) => rest = next,
                None => break,
            }
        }
        Ok(Self(sources))
    }
}

/// The end of the first source. The colons of a registry's scheme and port don't separate sources.
fn end_of_first(text: &str) -> usize {
    let to_colon = |text: &str| text.find(':').unwrap_or(text.len());
    let Some(location) = text.strip_prefix(REGISTRY) else { return to_colon(text) };
    let host = location.find([':', '/']).unwrap_or(location.len());
    let port = location.get(host..).and_then(|rest| rest.strip_prefix(':')).map_or(0, |rest| {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits == 0 { 0 } else { digits + 1 }
    });
    let prefix = REGISTRY.len() + host + port;
    prefix + text.get(prefix..).map_or(0, to_colon)
}

/// The directory below `cache` for the releases of a registry: a readable name and a hash that makes it unique.
#[must_use]
pub fn cache_directory(cache: &Path, source: &RegistrySource) -> PathBuf {
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
        let sources = text.parse::<CatalogSources>().unwrap().0;
        let shown = |source: &CatalogSource| match source {
            CatalogSource::Directory(path) => path.display().to_string(),
            CatalogSource::Registry(source) => source.to_string(),
        };
        sources.iter().map(shown).collect()
    }

    #[test]
    fn parses_directories_and_registries() {
        for (text, sources) in [
            ("/catalog", &["/catalog"][..]),
            ("/a:b/c:", &["/a", "b/c"]),
            ("oci://r.example.com/charts", &["oci://r.example.com/charts"]),
            ("oci://r.example.com:5000/istio/charts:/catalog", &["oci://r.example.com:5000/istio/charts", "/catalog"]),
            ("/catalog:oci://localhost:5000", &["/catalog", "oci://localhost:5000"]),
            ("oci://localhost:5000:oci://10.1.2.3/x:/c", &["oci://localhost:5000", "oci://10.1.2.3/x", "/c"]),
            ("oci://r.example.com:/catalog", &["oci://r.example.com", "/catalog"]),
            ("", &[]),
        ] {
            assert_eq!(parsed(text), sources, "{text}");
        }
    }

    #[test]
    fn rejects_invalid_registry_source() {
        assert!(matches!("/a:oci://".parse::<CatalogSources>(), Err(ParseSourceError::Reference(_))));
        assert!(matches!("oci://r.example.com/c@sha256:0".parse::<CatalogSources>(), Err(ParseSourceError::Tag(_))));
    }

    #[test]
    fn each_registry_has_its_own_directory() {
        let directory = |text: &str| cache_directory(Path::new("/cache"), &text.parse().unwrap());
        let one = directory("oci://r.example.com:5000/istio/charts");
        assert!(one.to_str().unwrap().starts_with("/cache/r.example.com_5000_istio_charts-"), "{one:?}");
        assert_ne!(directory("oci://r.example.com/a_b"), directory("oci://r.example.com/a/b"));
    }
}
