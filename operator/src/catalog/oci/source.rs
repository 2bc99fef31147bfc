//! Where charts are in a registry. Pure.

use std::{fmt, str::FromStr};

use oci_client::Reference;
use semver::Version;

use crate::catalog::{ChartName, Digest};

const SCHEME: &str = "oci://";

/// `oci://registry.example.com/charts`: a registry, and the path below which each chart has a repository of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    registry: String,
    path: String,
}

/// A text doesn't say where charts are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseSourceError {
    /// Something else than a registry.
    #[error("{0:?} is no place in a registry: write oci://registry.example.com/charts")]
    Scheme(String),
    /// The tag is the version, and digests are given apart, since there is one for each chart.
    #[error("{0:?} has a tag or a digest: leave it out, and name the release with --version")]
    Tag(String),
    /// It is no reference in the sense of the distribution specification.
    #[error(
        "{0:?} names no repository: a registry's host is needed, and a path of lower-case letters, digits and '.', '_', \
         '-', such as oci://registry.example.com:5000/istio/charts"
    )]
    Reference(String),
}

impl Source {
    /// The registry's host, and its port if it has one.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The artifact of a chart: by its digest if that is known, else by the tag that Helm makes of the version.
    pub(super) fn artifact(&self, chart: ChartName, version: &Version, pin: Option<&Digest>) -> Reference {
        let repository = if self.path.is_empty() { chart.to_string() } else { format!("{}/{chart}", self.path) };
        match pin {
            Some(digest) => Reference::with_digest(self.registry.clone(), repository, digest.to_string()),
            // A tag can't have a plus sign.
            None => Reference::with_tag(self.registry.clone(), repository, version.to_string().replace('+', "_")),
        }
    }
}

impl FromStr for Source {
    type Err = ParseSourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(place) = text.strip_prefix(SCHEME) else { return Err(ParseSourceError::Scheme(text.to_owned())) };
        let place = place.strip_suffix('/').unwrap_or(place);
        let (host, path) = place.split_once('/').unwrap_or((place, ""));
        if path.contains([':', '@']) {
            return Err(ParseSourceError::Tag(text.to_owned()));
        }
        let known = format!("{place}/base:0").parse::<Reference>();
        // Without a host the first part of the path would be taken for Docker's own registry's.
        match known {
            Ok(reference) if reference.registry() == host && !host.contains('@') => {
                Ok(Self { registry: host.to_owned(), path: path.to_owned() })
            }
            _ => Err(ParseSourceError::Reference(text.to_owned())),
        }
    }
}

impl fmt::Display for Source {
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
        text.parse::<Source>().unwrap().artifact(ChartName::Istiod, &version, pin).to_string()
    }

    #[test]
    fn each_chart_is_a_repository_below_the_path_and_the_version_its_tag() {
        let tagged = artifact("oci://registry.example.com:5000/istio/charts/", "1.31.2", None);
        assert_eq!(tagged, "registry.example.com:5000/istio/charts/istiod:1.31.2");
        assert_eq!(artifact("oci://127.0.0.1:5000", "1.31.2", None), "127.0.0.1:5000/istiod:1.31.2");
        assert_eq!(artifact("oci://docker.io/own", "1.31.2+build.1", None), "docker.io/own/istiod:1.31.2_build.1");
    }

    #[test]
    fn a_pinned_chart_is_asked_for_by_its_digest_alone() {
        let digest: Digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
        let pinned = artifact("oci://registry.example.com/charts", "1.31.2", Some(&digest));
        assert_eq!(pinned, format!("registry.example.com/charts/istiod@{digest}"));
    }

    #[test]
    fn what_is_no_place_in_a_registry_is_refused_with_what_would_be_right() {
        let refused = |text: &str| text.parse::<Source>().unwrap_err();
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
    fn a_source_is_printed_as_it_is_read() {
        for text in ["oci://registry.example.com:5000/istio/charts", "oci://localhost:5000"] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
    }
}
