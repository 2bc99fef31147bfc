//! Parsing of `spec.version`.

use std::{fmt, str::FromStr};

use semver::Version;

/// A version as written in `spec.version`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VersionRequest {
    /// A minor version such as `1.31`: the newest patch release, never a pre-release.
    Minor {
        /// Number before the dot.
        major: u64,
        /// Number after the dot.
        minor: u64,
    },
    /// An exact release such as `1.31.2` or `1.32.0-alpha.1`.
    Exact(Version),
}

impl VersionRequest {
    /// Returns whether a release satisfies the request. A minor version accepts all its patch releases but no
    /// pre-release; the caller selects the newest.
    #[must_use]
    pub fn accepts(&self, release: &Version) -> bool {
        match self {
            Self::Exact(requested) => requested == release,
            Self::Minor { major, minor } => {
                release.major == *major && release.minor == *minor && release.pre.is_empty()
            }
        }
    }

    /// Returns major and minor, by which support windows and known issues are looked up.
    #[must_use]
    pub fn minor(&self) -> (u64, u64) {
        match self {
            Self::Exact(version) => (version.major, version.minor),
            Self::Minor { major, minor } => (*major, *minor),
        }
    }
}

/// The text is not a valid version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseVersionError {
    /// Istio's versions have no leading v, unlike those of many other projects.
    #[error("version {value:?} has a leading v: write {correct}")]
    LeadingV {
        /// The invalid text.
        value: String,
        /// The text without the v.
        correct: String,
    },
    /// Image tags can't contain build metadata.
    #[error("version {value:?} has build metadata: remove the + and everything after it")]
    BuildMetadata {
        /// The invalid text.
        value: String,
    },
    /// The text has no version format.
    #[error(
        "version {value:?} is neither a minor such as 1.31, nor a release such as 1.31.2, \
         nor a pre-release such as 1.32.0-alpha.1"
    )]
    Malformed {
        /// The invalid text.
        value: String,
    },
}

impl FromStr for VersionRequest {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let value = text.to_owned();
        if let Some(rest) = text.strip_prefix(['v', 'V'])
            && rest.parse::<Self>().is_ok()
        {
            return Err(ParseVersionError::LeadingV { value, correct: rest.to_owned() });
        }
        if let Some((major, minor)) = parse_minor(text) {
            return Ok(Self::Minor { major, minor });
        }
        match Version::parse(text) {
            Ok(version) if version.build.is_empty() => Ok(Self::Exact(version)),
            Ok(_) => Err(ParseVersionError::BuildMetadata { value }),
            Err(_) => Err(ParseVersionError::Malformed { value }),
        }
    }
}

/// Parses `1.31`. As in semantic versions, numbers must not have leading zeros.
fn parse_minor(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once('.')?;
    Some((parse_part(major)?, parse_part(minor)?))
}

fn parse_part(text: &str) -> Option<u64> {
    let number = text.parse::<u64>().ok()?;
    (number.to_string() == text).then_some(number)
}

impl fmt::Display for VersionRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Minor { major, minor } => write!(f, "{major}.{minor}"),
            Self::Exact(version) => version.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<VersionRequest, ParseVersionError> {
        text.parse()
    }

    #[test]
    fn display_round_trips() {
        for text in ["1.31", "1.31.2", "1.32.0-alpha.eed52ebb66ad", "1.0.9", "0.0"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn distinguishes_minors_and_releases() {
        assert_eq!(parse("1.31"), Ok(VersionRequest::Minor { major: 1, minor: 31 }));
        assert_eq!(parse("1.31.2"), Ok(VersionRequest::Exact(Version::new(1, 31, 2))));
    }

    #[test]
    fn rejects_leading_v_with_correction() {
        assert_eq!(parse("v1.31").unwrap_err().to_string(), "version \"v1.31\" has a leading v: write 1.31");
    }

    #[test]
    fn rejects_malformed_versions_with_examples() {
        for text in ["", "1", "latest", "1.x", "1.031", "1.31.", "+1.31", "1.31.2.3", "vv1.31", " 1.31"] {
            let error = parse(text).unwrap_err();
            assert_eq!(error, ParseVersionError::Malformed { value: text.to_owned() });
            assert!(error.to_string().contains("1.31.2"), "{error}");
        }
    }

    #[test]
    fn rejects_build_metadata() {
        assert_eq!(parse("1.31.2+solo"), Err(ParseVersionError::BuildMetadata { value: "1.31.2+solo".to_owned() }));
    }

    #[test]
    fn minor_accepts_patches_but_no_pre_release() {
        let minor = parse("1.32").unwrap();
        assert!(minor.accepts(&Version::new(1, 32, 7)));
        assert!(!minor.accepts(&Version::new(1, 31, 7)));
        assert!(!minor.accepts(&Version::new(2, 32, 7)));
        assert!(!minor.accepts(&Version::parse("1.32.0-rc.0").unwrap()));
    }

    #[test]
    fn exact_version_accepts_only_itself() {
        let exact = parse("1.32.0-alpha.1").unwrap();
        assert!(exact.accepts(&Version::parse("1.32.0-alpha.1").unwrap()));
        assert!(!exact.accepts(&Version::new(1, 32, 0)));
        assert_eq!(exact.minor(), (1, 32));
    }
}
