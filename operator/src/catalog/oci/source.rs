//! The location of charts in a registry. Pure.

use std::{fmt, str::FromStr};

use oci_client::Reference;
use semver::Version;

use crate::catalog::{ChartName, Digest};

const SCHEME: &str = "oci://";

/// A registry and a path with a repository for each chart, for example `oci://registry.example.com/charts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrySource {
    registry: String,
    path: String,
}

/// A string is not a location of charts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseSourceError {
    /// The scheme is missing or different.
    #[error("{0:?} is not an OCI registry; use the form oci://registry.example.com/charts")]
    Scheme(String),
    /// The version is the tag; digests are separate, since each chart has its own.
    #[error("{0:?} must not have a tag or a digest; set the release with --version")]
    Tag(String),
    /// Not a reference by the distribution specification.
    #[error(
        "{0:?} is not a valid repository: must be a registry's host and a path of lower-case letters, digits and '.', \
         '_', '-', such as oci://registry.example.com:5000/istio/charts"
    )]
    Reference(String),
}

impl RegistrySource {
    /// The registry's host and optional port.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The artifact of a chart: by digest if pinned, else by the tag that Helm derives from the version.
    pub(super) fn artifact(&self, chart: ChartName, version: &Version, pin: Option<&Digest>) -> Reference {
        let repository = if self.path.is_empty() { chart.to_string() } else { format!("{}/{chart}", self.path) };
        match pin {
            Some(digest) => Reference::with_digest(self.registry.clone(), repository, digest.to_string()),
            // A tag can't have a plus sign.
            None => Reference::with_tag(self.registry.clone(), repository, version.to_string().replace('+', "_")),
        }
    }
}

impl FromStr for RegistrySource {
    type Err = ParseSourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(location) = text.strip_prefix(SCHEME) else { return Err(ParseSourceError::Scheme(text.to_owned())) };
        let location = location.strip_suffix('/').unwrap_or(location);
        let (host, path) = location.split_once('/').unwrap_or((location, ""));
        if path.contains([':', '@']) {
            return Err(ParseSourceError::Tag(text.to_owned()));
        }
        let reference = format!("{location}/base:0").parse::<Reference>();
        // Without a host, the parser would assume Docker Hub.
        match reference {
            Ok(reference) if reference.registry() == host && !host.contains('@') => {
                Ok(Self { registry: host.to_owned(), path: path.to_owned() })
            }
            _ => Err(ParseSourceError::Reference(text.to_owned())),
        }
    }
}

impl fmt::Display for RegistrySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { registry, path } = self;
        if path.is_empty() { write!(f, "{SCHEME}{registry}") } else { write!(f, "{SCHEME}{registry}/{path}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(text: &str, version: &str, pin: Option<&Digest>) -> String {
        let version = version.parse().unwrap();
        text.parse::<RegistrySource>().unwrap().artifact(ChartName::Istiod, &version, pin).to_string()
    }

    #[test]
    fn chart_is_repository_and_version_is_tag() {
        let tagged = artifact("oci://registry.example.com:5000/istio/charts/", "1.31.2", None);
        assert_eq!(tagged, "registry.example.com:5000/istio/charts/istiod:1.31.2");
        assert_eq!(artifact("oci://127.0.0.1:5000", "1.31.2", None), "127.0.0.1:5000/istiod:1.31.2");
        assert_eq!(artifact("oci://docker.io/own", "1.31.2+build.1", None), "docker.io/own/istiod:1.31.2_build.1");
    }

    #[test]
    fn pinned_chart_has_digest_and_no_tag() {
        let digest: Digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
        let pinned = artifact("oci://registry.example.com/charts", "1.31.2", Some(&digest));
        assert_eq!(pinned, format!("registry.example.com/charts/istiod@{digest}"));
    }

    #[test]
    fn rejects_invalid_locations() {
        let refused = |text: &str| text.parse::<RegistrySource>().unwrap_err();
        for text in ["registry.example.com/charts", "https://registry.example.com/charts", ""] {
            assert!(matches!(refused(text), ParseSourceError::Scheme(_)), "{text}");
        }
        for text in ["oci://registry.example.com/charts:1.31.2", "oci://registry.example.com/charts@sha256:00"] {
            assert!(matches!(refused(text), ParseSourceError::Tag(_)), "{text}");
        }
        for text in [
            "oci://",
            "oci://charts",
            "oci://charts/istio",
            "oci://user:pw@registry.example.com/c",
            "oci://r.example.com/Charts",
        ] {
            assert!(matches!(refused(text), ParseSourceError::Reference(_)), "{text}");
        }
    }

    #[test]
    fn round_trips_through_text() {
        for text in ["oci://registry.example.com:5000/istio/charts", "oci://localhost:5000"] {
            assert_eq!(text.parse::<RegistrySource>().unwrap().to_string(), text);
        }
    }
}
