//! A proxy's version, from its image.

use semver::Version;

/// What stands for a version that can't be told.
pub const UNKNOWN: &str = "Unknown";

/// What Istio appends to the tag of an image for another base.
const VARIANTS: [&str; 2] = ["-distroless", "-debug"];

/// The tag of an image; `None` for one without, such as a digest.
#[must_use]
pub fn tag_of(image: &str) -> Option<&str> {
    let named = image.split_once('@').map_or(image, |(named, _digest)| named);
    // A colon before the last slash is that of a registry's port.
    let last = named.rsplit_once('/').map_or(named, |(_, last)| last);
    last.split_once(':').map(|(_, tag)| tag)
}

/// The version that an image's tag tells; `None` for one without a tag, such as a digest, or with another kind of tag.
#[must_use]
pub fn version_of(image: &str) -> Option<Version> {
    let tag = tag_of(image)?;
    let tag = VARIANTS.iter().find_map(|variant| tag.strip_suffix(variant)).unwrap_or(tag);
    Version::parse(tag).ok()
}

/// The same in the words of status.
#[must_use]
pub fn told_by(image: &str) -> String {
    version_of(image).map_or_else(|| UNKNOWN.to_owned(), |version| version.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(image: &str) -> Option<String> {
        version_of(image).map(|version| version.to_string())
    }

    #[test]
    fn the_tag_tells_the_version_whatever_the_registry_and_the_variant() {
        for (image, version) in [
            ("registry.istio.io/release/proxyv2:1.31.2", "1.31.2"),
            ("registry.local:5000/istio/proxyv2:1.31.2-distroless", "1.31.2"),
            ("proxyv2:1.31.2-debug", "1.31.2"),
            ("docker.io/istio/proxyv2:1.31.2@sha256:0123", "1.31.2"),
            ("registry.istio.io/testing/proxyv2:1.32.0-alpha.eed52ebb66ad", "1.32.0-alpha.eed52ebb66ad"),
            ("gcr.io/istio/proxyv2:1.32.0-rc.0-distroless", "1.32.0-rc.0"),
        ] {
            assert_eq!(told(image).as_deref(), Some(version), "{image}");
        }
    }

    #[test]
    fn an_image_that_tells_no_version_is_not_guessed_at() {
        for image in
            ["", "auto", "registry.local:5000/proxyv2", "proxyv2@sha256:0123", "proxyv2:latest", "proxyv2:1.31"]
        {
            assert_eq!(told(image), None, "{image}");
        }
    }
}
