//! Proxy versions from image references.

use semver::Version;

/// Name of an unknown version.
pub const UNKNOWN: &str = "Unknown";

/// Maximum length of a tag, from the OCI distribution specification.
const MAX_TAG: usize = 128;

/// Suffixes of the tags of Istio's image variants.
const VARIANTS: [&str; 2] = ["-distroless", "-debug"];

/// Returns the tag of an image; `None` if it has none, for example only a digest.
#[must_use]
pub fn tag_of(image: &str) -> Option<&str> {
    let named = image.split_once('@').map_or(image, |(named, _digest)| named);
    // A colon before the last slash precedes the registry's port.
    let last = named.rsplit_once('/').map_or(named, |(_, last)| last);
    last.split_once(':').map(|(_, tag)| tag)
}

/// Returns the version in an image's tag; `None` if it has no tag or the tag is not a version. Any user can create a
/// pod with a longer tag than registries have.
#[must_use]
pub fn version_of(image: &str) -> Option<Version> {
    let tag = tag_of(image).filter(|tag| tag.len() <= MAX_TAG)?;
    let tag = VARIANTS.iter().find_map(|variant| tag.strip_suffix(variant)).unwrap_or(tag);
    Version::parse(tag).ok()
}

/// Returns the version in an image's tag, or [`UNKNOWN`].
#[must_use]
pub fn version_or_unknown(image: &str) -> String {
    version_of(image).map_or_else(|| UNKNOWN.to_owned(), |version| version.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(image: &str) -> Option<String> {
        version_of(image).map(|version| version.to_string())
    }

    #[test]
    fn parses_versions_of_all_variants() {
        for (image, version) in [
            ("registry.istio.io/release/proxyv2:1.31.2", "1.31.2"),
            ("registry.local:5000/istio/proxyv2:1.31.2-distroless", "1.31.2"),
            ("proxyv2:1.31.2-debug", "1.31.2"),
            ("docker.io/istio/proxyv2:1.31.2@sha256:0123", "1.31.2"),
            ("registry.istio.io/testing/proxyv2:1.32.0-alpha.eed52ebb66ad", "1.32.0-alpha.eed52ebb66ad"),
            ("gcr.io/istio/proxyv2:1.32.0-rc.0-distroless", "1.32.0-rc.0"),
        ] {
            assert_eq!(parsed(image).as_deref(), Some(version), "{image}");
        }
    }

    #[test]
    fn ignores_tags_that_no_registry_has() {
        let image = |length: usize| format!("proxyv2:1.31.2-{}", "a".repeat(length - "1.31.2-".len()));
        assert!(parsed(&image(MAX_TAG)).is_some());
        assert_eq!(parsed(&image(MAX_TAG + 1)), None);
        assert_eq!(version_or_unknown(&image(900_000)), UNKNOWN);
    }

    #[test]
    fn ignores_tags_that_are_no_versions() {
        for image in
            ["", "auto", "registry.local:5000/proxyv2", "proxyv2@sha256:0123", "proxyv2:latest", "proxyv2:1.31"]
        {
            assert_eq!(parsed(image), None, "{image}");
        }
    }
}
