//! Minor versions, of Istio and of Kubernetes.

use std::{fmt, str::FromStr};

use meshwright_api::version::VersionRequest;
use semver::Version;
use serde::{Deserialize, Deserializer, de};

/// A minor version of Istio or Kubernetes, for example `1.31`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Minor {
    /// The major version.
    pub major: u64,
    /// The minor version.
    pub minor: u64,
}

/// A string is not a minor version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid minor version {0:?}: must be two numbers separated by a dot, such as 1.31")]
pub struct ParseMinorError(String);

impl Minor {
    /// The minor of a version. A pre-release counts as its release, since providers add such suffixes to Kubernetes
    /// versions.
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
