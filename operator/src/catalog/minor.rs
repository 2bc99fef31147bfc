//! A version of two parts.

use std::{fmt, str::FromStr};

use meshwright_api::version::VersionRequest;
use semver::Version;
use serde::{Deserialize, Deserializer, de};

/// The first two parts of a version, of Istio or of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Minor {
    /// Before the dot.
    pub major: u64,
    /// Behind it.
    pub minor: u64,
}

/// A text is no minor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no minor: two numbers with a dot between them are, such as 1.31")]
pub struct ParseMinorError(String);

impl Minor {
    /// The minor that a version belongs to. Pre-releases count as their release, since providers
    /// mark their Kubernetes versions that way.
    #[must_use]
    pub fn of(version: &Version) -> Self {
        Self { major: version.major, minor: version.minor }
    }
}

impl FromStr for Minor {
    type Err = ParseMinorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(VersionRequest::Minor { major, minor }) => Ok(Self { major, minor }),
            _ => Err(ParseMinorError(text.to_owned())),
        }
    }
}

impl fmt::Display for Minor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl<'de> Deserialize<'de> for Minor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
