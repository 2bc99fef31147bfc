//! Computes digests of charts.

use std::{collections::BTreeMap, fmt, fmt::Write, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

pub(super) const PREFIX: &str = "sha256:";

/// The digest of a chart: of the names and contents of its files, independent of their order, timestamps and modes.
///
/// It is the SHA-256 of a list with one line per file, sorted by the bytes of the path: the file's SHA-256 in
/// hexadecimal, two spaces, the path relative to the chart. To compute it in the chart's directory:
///
/// ```text
/// find . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(String);

/// A string is not a digest.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid digest {0:?}: must be sha256: and 64 lower-case hexadecimal digits")]
pub struct ParseDigestError(String);

impl Digest {
    /// Computes the digest of a chart's files by relative path, with `/` as separator.
    #[must_use]
    pub fn of(files: &BTreeMap<String, Vec<u8>>) -> Self {
        let mut list = Sha256::new();
        for (path, content) in files {
            list.update(format!("{}  {path}\n", sha256(content)));
        }
        Self(format!("{PREFIX}{}", hexadecimal(&list.finalize())))
    }

    /// The digest with its algorithm, for example `sha256:...`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The digest of a blob, as registries compute it.
pub(super) fn of_blob(content: &[u8]) -> String {
    format!("{PREFIX}{}", sha256(content))
}

/// The SHA-256 of a file in hexadecimal.
pub(super) fn sha256(content: &[u8]) -> String {
    hexadecimal(&Sha256::digest(content))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix(PREFIX).unwrap_or_default();
        let lower_case = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if digits.len() == 64 && lower_case {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseDigestError(text.to_owned()))
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files<const N: usize>(files: [(&str, &str); N]) -> BTreeMap<String, Vec<u8>> {
        files.into_iter().map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec())).collect()
    }

    #[test]
    fn matches_sha256sum() {
        // printf b > b; printf a > a; find . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum
        let digest = Digest::of(&files([("b", "b"), ("a", "a")]));
        assert_eq!(digest.as_str(), "sha256:cb13f400dcb618e400d0f7d54f7cdb330d37a07272cb99a1016cda5830a10556");
    }

    #[test]
    fn changes_with_content_path_or_file_set() {
        let original = Digest::of(&files([("a", "1"), ("b", "2")]));
        for other in [
            files([("a", "1"), ("b", "3")]),
            files([("a", "2"), ("b", "1")]),
            files([("a", "1"), ("c", "2")]),
            files([("a", "1"), ("b", "2"), ("c", "")]),
            files([("a", "1")]),
        ] {
            assert_ne!(Digest::of(&other), original);
        }
    }

    #[test]
    fn round_trips_through_text() {
        let digest = Digest::of(&files([]));
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn rejects_invalid_digest() {
        for text in ["", "sha256:", "sha256:ABC", "md5:0", &format!("sha256:{}", "G".repeat(64)), &"a".repeat(64)] {
            assert_eq!(text.parse::<Digest>(), Err(ParseDigestError(text.to_owned())));
        }
    }
}
