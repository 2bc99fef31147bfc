//! `release.yaml`: what a release in a catalog is. A format, no I/O.

use std::collections::BTreeSet;

use semver::Version;
use serde::{Deserialize, Serialize};

use super::{ChartName, Digest, yaml};

/// The file's name in the release's folder.
pub const FILE_NAME: &str = "release.yaml";

const SCHEMA: &str = "catalog.meshwright.dev/v1";
const HEADING: &str = "# Made by `meshwright catalog`. The digests cover the files of each chart below charts/:\n\
                       # a chart that was edited by hand is refused.\n";

/// What a release is, where it came from, and what its charts must look like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReleaseFile {
    schema: String,
    /// The exact version.
    pub version: Version,
    /// Where the charts came from, in words.
    pub source: String,
    /// The images that the charts name.
    pub images: Images,
    /// The charts that the release has.
    pub charts: Vec<ChartEntry>,
}

/// The images that a release's charts name by default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Images {
    /// Registry and path.
    pub hub: String,
    /// Tag of every image.
    pub tag: String,
    /// Whether there are images of that tag.
    pub pullable: bool,
    /// Why not, if not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One chart of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChartEntry {
    /// Name of the chart and of its folder.
    pub name: ChartName,
    /// Version in `Chart.yaml`.
    pub version: String,
    /// Of its files.
    pub digest: Digest,
    /// The artifact of a registry that it was pulled as, by the digest of its manifest:
    /// `oci://registry.example.com/charts/istiod@sha256:...`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

impl ChartEntry {
    /// Whether both are the same chart, wherever they came from.
    fn same_content(&self, other: &Self) -> bool {
        let Self { name, version, digest, origin: _ } = self;
        *name == other.name && *version == other.version && *digest == other.digest
    }
}

/// A `release.yaml` says nothing that can be relied on.
#[derive(Debug, thiserror::Error)]
pub enum ParseReleaseError {
    /// It is no YAML, or lacks a field, or has one that isn't known.
    #[error("no release file")]
    Yaml(#[source] Box<serde_saphyr::Error>),
    /// Another program's, or a later version's.
    #[error("schema {0:?} is not known: this program reads {SCHEMA:?}")]
    Schema(String),
    /// One chart has two digests.
    #[error("chart {0} is listed twice")]
    Twice(ChartName),
    /// Images that can't be pulled need a reason, and others can't have one.
    #[error("images: give a reason if, and only if, pullable is false")]
    Reason,
}

impl ReleaseFile {
    /// A release file; charts are listed in a fixed order.
    #[must_use]
    pub fn new(version: Version, source: String, images: Images, mut charts: Vec<ChartEntry>) -> Self {
        charts.sort_by_key(|chart| chart.name);
        Self { schema: SCHEMA.to_owned(), version, source, images, charts }
    }

    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<Self, ParseReleaseError> {
        let file: Self = yaml::parse(text).map_err(ParseReleaseError::Yaml)?;
        if file.schema != SCHEMA {
            return Err(ParseReleaseError::Schema(file.schema));
        }
        let mut names = BTreeSet::new();
        if let Some(chart) = file.charts.iter().find(|chart| !names.insert(chart.name)) {
            return Err(ParseReleaseError::Twice(chart.name));
        }
        if file.images.pullable == file.images.reason.is_some() {
            return Err(ParseReleaseError::Reason);
        }
        Ok(file)
    }

    /// The file's text.
    pub fn text(&self) -> Result<String, serde_saphyr::SerializeError> {
        Ok(format!("{HEADING}{}", serde_saphyr::to_string(self)?))
    }

    /// Whether both are the same release, wherever they came from.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        let Self { schema: _, version, source: _, images, charts } = self;
        let same_charts = charts.len() == other.charts.len()
            && charts.iter().zip(&other.charts).all(|(one, other)| one.same_content(other));
        *version == other.version && *images == other.images && same_charts
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn sample() -> ReleaseFile {
        let digest = Digest::of(&BTreeMap::new());
        let chart = |name| ChartEntry { name, version: "1.31.2".to_owned(), digest: digest.clone(), origin: None };
        let images = Images {
            hub: "registry.example.com/istio".to_owned(),
            tag: "1.31.2".to_owned(),
            pullable: false,
            reason: Some("yes: no".to_owned()),
        };
        let charts = vec![chart(ChartName::Istiod), chart(ChartName::Base)];
        ReleaseFile::new(Version::new(1, 31, 2), "a test".to_owned(), images, charts)
    }

    #[test]
    fn a_release_file_survives_being_written_and_read() {
        assert_eq!(ReleaseFile::parse(&sample().text().unwrap()).unwrap(), sample());
    }

    #[test]
    fn the_source_makes_no_difference_and_the_tag_does() {
        let mut other = sample();
        other.source = "elsewhere".to_owned();
        other.charts[0].origin = Some("oci://registry.example.com/charts/base@sha256:0".to_owned());
        assert!(other.same_content(&sample()));
        other.images.tag = "latest".to_owned();
        assert!(!other.same_content(&sample()));
    }

    #[test]
    fn a_file_of_another_schema_is_refused_by_its_name() {
        let text = sample().text().unwrap().replace(SCHEMA, "catalog.meshwright.dev/v2");
        assert!(ReleaseFile::parse(&text).unwrap_err().to_string().contains("catalog.meshwright.dev/v2"));
    }

    #[test]
    fn the_artifact_that_a_chart_was_pulled_as_is_kept_and_absent_where_there_is_none() {
        assert!(!sample().text().unwrap().contains("origin"));
        let mut pulled = sample();
        pulled.charts[0].origin = Some("oci://registry.example.com/charts/base@sha256:0".to_owned());
        assert_eq!(ReleaseFile::parse(&pulled.text().unwrap()).unwrap(), pulled);
    }

    #[test]
    fn unknown_fields_and_double_charts_are_refused() {
        let text = sample().text().unwrap();
        let unknown = format!("{text}\nsurprise: 1\n");
        assert!(matches!(ReleaseFile::parse(&unknown), Err(ParseReleaseError::Yaml(_))));
        let twice = text.replace("name: istiod", "name: base");
        assert!(matches!(ReleaseFile::parse(&twice), Err(ParseReleaseError::Twice(ChartName::Base))));
    }

    #[test]
    fn a_reason_belongs_to_images_that_cannot_be_pulled_and_to_no_others() {
        let text = sample().text().unwrap().replace("pullable: false", "pullable: true");
        assert!(matches!(ReleaseFile::parse(&text), Err(ParseReleaseError::Reason)));
    }
}
