//! What `spec.version` asks for, parsed.

use std::{fmt, str::FromStr};

use semver::Version;

/// A version as a user writes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VersionRequest {
    /// The newest patch of this minor, never a pre-release: `1.31`.
    Minor {
        /// The part before the dot.
        major: u64,
        /// The part after it.
        minor: u64,
    },
    /// This release and no other: `1.31.2`, `1.32.0-alpha.1`.
    Exact(Version),
}

impl VersionRequest {
    /// Whether a release is what was asked for. A minor takes every patch of it but no
    /// pre-release; which of several is the newest is for the caller to say.
    #[must_use]
    pub fn accepts(&self, release: &Version) -> bool {
        match self {
            Self::Exact(wanted) => wanted == release,
            Self::Minor { major, minor } => {
                release.major == *major && release.minor == *minor && release.pre.is_empty()
            }
        }
    }

    /// Major and minor, which is what support windows and known hazards go by.
    #[must_use]
    pub fn minor(&self) -> (u64, u64) {
        match self {
            Self::Exact(version) => (version.major, version.minor),
            Self::Minor { major, minor } => (*major, *minor),
        }
    }
}

/// Why a text is no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseVersionError {
    /// Git tags begin with a v, Istio's versions don't.
    #[error("version {value:?} has a leading v: write {correct}")]
    LeadingV {
        /// What was written.
        value: String,
        /// The same without the v.
        correct: String,
    },
    /// Build metadata has no place in an image tag.
    #[error("version {value:?} has build metadata: leave out the part from + on")]
    BuildMetadata {
        /// What was written.
        value: String,
    },
    /// Anything else.
    #[error(
        "version {value:?} is neither a minor such as 1.31, nor a release such as 1.31.2, \
         nor a pre-release such as 1.32.0-alpha.1"
    )]
    Malformed {
        /// What was written.
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

/// `1.31`, by the rule for each part of a full version: digits without a leading zero.
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
    fn every_form_comes_back_as_it_was_written() {
        for text in ["1.31", "1.31.2", "1.32.0-alpha.eed52ebb66ad", "1.0.9", "0.0"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn two_numbers_are_a_minor_and_three_a_release() {
        assert_eq!(parse("1.31"), Ok(VersionRequest::Minor { major: 1, minor: 31 }));
        assert_eq!(parse("1.31.2"), Ok(VersionRequest::Exact(Version::new(1, 31, 2))));
    }

    #[test]
    fn a_leading_v_is_refused_with_the_right_spelling() {
        assert_eq!(parse("v1.31").unwrap_err().to_string(), "version \"v1.31\" has a leading v: write 1.31");
    }

    #[test]
    fn what_is_no_version_is_refused_with_the_value_and_examples() {
        for text in ["", "1", "latest", "1.x", "1.031", "1.31.", "+1.31", "1.31.2.3", "vv1.31", " 1.31"] {
            let error = parse(text).unwrap_err();
            assert_eq!(error, ParseVersionError::Malformed { value: text.to_owned() });
            assert!(error.to_string().contains("1.31.2"), "{error}");
        }
    }

    #[test]
    fn build_metadata_is_refused() {
        assert_eq!(parse("1.31.2+solo"), Err(ParseVersionError::BuildMetadata { value: "1.31.2+solo".to_owned() }));
    }

    #[test]
    fn a_minor_takes_its_patches_but_no_pre_release() {
        let minor = parse("1.32").unwrap();
        assert!(minor.accepts(&Version::new(1, 32, 7)));
        assert!(!minor.accepts(&Version::new(1, 31, 7)));
        assert!(!minor.accepts(&Version::new(2, 32, 7)));
        assert!(!minor.accepts(&Version::parse("1.32.0-rc.0").unwrap()));
    }

    #[test]
    fn an_exact_version_takes_only_itself() {
        let exact = parse("1.32.0-alpha.1").unwrap();
        assert!(exact.accepts(&Version::parse("1.32.0-alpha.1").unwrap()));
        assert!(!exact.accepts(&Version::new(1, 32, 0)));
        assert_eq!(exact.minor(), (1, 32));
    }
}
