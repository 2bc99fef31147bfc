//! Validates charts and builds the `release.yaml` for them, for every source of charts. Pure.

use std::collections::BTreeMap;

use meshwright_chart::{Chart, LoadError};
use semver::Version;

use super::{
    ChartName, Digest, ReleaseFacts,
    crds::{self, ListCrdsError},
    facts::Minor,
    files::Files,
    release_file::{ChartEntry, ReleaseFile, ReleaseImages},
    stamp::{self, StampError},
};

/// Charts can't be used as a release.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// A required file is missing or not UTF-8.
    #[error("chart {chart}: {file} is missing or not UTF-8 text")]
    MissingFile { chart: ChartName, file: &'static str },
    /// A chart belongs to another release.
    #[error("chart {chart} has version {found}, not {wanted}; import it under its own version")]
    OtherVersion {
        chart: ChartName,
        /// Version in `Chart.yaml`.
        found: String,
        wanted: Version,
    },
    /// Version, hub or tag can't be set or read.
    #[error("chart {chart}: can't set or read its version or images")]
    Stamp {
        chart: ChartName,
        #[source]
        source: StampError,
    },
    /// The charts name different images.
    #[error("chart {chart} uses images {found}, the other charts use {wanted}")]
    ImagesDiffer {
        chart: ChartName,
        /// Its hub and tag.
        found: String,
        wanted: String,
    },
    /// A template can't be parsed, or uses an unsupported function.
    #[error("can't parse chart {chart}")]
    Load {
        chart: ChartName,
        #[source]
        source: Box<LoadError>,
    },
    /// The directory has another chart.
    #[error("expected chart {chart}, but the name in Chart.yaml is {found:?}")]
    OtherChart {
        /// The chart that was looked for.
        chart: ChartName,
        found: String,
    },
    /// The CRDs of the base chart can't be listed.
    #[error("chart base: can't list its CRDs")]
    ListCrds(#[source] Box<ListCrdsError>),
    /// Some distributions ship the CRDs in another chart; a mesh installed from these charts would have none.
    #[error("chart base lacks the CRDs {missing}; use the charts of Istio's own release")]
    MissingCrds {
        /// CRD names, as `plural.group`, separated by commas.
        missing: String,
    },
}

/// Builds the `release.yaml` of charts that have their version, hub and tag set.
pub(super) fn release_file(
    version: &Version,
    source: &str,
    charts: &BTreeMap<ChartName, Files>,
    facts: &ReleaseFacts,
) -> Result<ReleaseFile, AssembleError> {
    if let Some(base) = charts.get(&ChartName::Base) {
        check_crds(&parse(ChartName::Base, base)?, version, facts)?;
    }
    let images = common_images(charts)?;
    let entries = charts.iter().map(|(name, files)| entry(*name, files, version)).collect::<Result<_, _>>()?;
    Ok(ReleaseFile::new(version.clone(), source.to_owned(), images, entries))
}

/// Parses a chart, so that an unusable chart fails when it is added and not when a mesh is installed.
pub(super) fn check_chart(chart: ChartName, files: &Files) -> Result<(), AssembleError> {
    let parsed = parse(chart, files)?;
    if parsed.name() == chart.as_str() {
        Ok(())
    } else {
        Err(AssembleError::OtherChart { chart, found: parsed.name().to_owned() })
    }
}

fn parse(chart: ChartName, files: &Files) -> Result<Chart, AssembleError> {
    Chart::from_files(files.clone()).map_err(|source| AssembleError::Load { chart, source: Box::new(source) })
}

/// Accepts any CRDs for an unknown minor, whose CRDs this program can't know.
fn check_crds(base: &Chart, version: &Version, facts: &ReleaseFacts) -> Result<(), AssembleError> {
    let minor = Minor::of(version);
    let (Ok(known), Ok(expected)) = (facts.minor(minor), facts.crds(minor)) else { return Ok(()) };
    let kubernetes = format!("v{}.0", known.kubernetes.supported.1);
    match crds::missing(base, expected, &kubernetes) {
        Ok(missing) if missing.is_empty() => Ok(()),
        Ok(missing) => Err(AssembleError::MissingCrds { missing: missing.join(", ") }),
        Err(error) => Err(AssembleError::ListCrds(Box::new(error))),
    }
}

/// Returns a file that every chart must have.
pub(super) fn text<'a>(chart: ChartName, files: &'a Files, file: &'static str) -> Result<&'a str, AssembleError> {
    let text = files.get(file).and_then(|content| std::str::from_utf8(content).ok());
    text.ok_or(AssembleError::MissingFile { chart, file })
}

fn entry(name: ChartName, files: &Files, wanted: &Version) -> Result<ChartEntry, AssembleError> {
    let version = stamp::chart_version(text(name, files, "Chart.yaml")?);
    let version = version.map_err(|source| AssembleError::Stamp { chart: name, source })?;
    if version != wanted.to_string() {
        return Err(AssembleError::OtherVersion { chart: name, found: version, wanted: wanted.clone() });
    }
    Ok(ChartEntry { name, version, digest: Digest::of(files), origin: None })
}

/// Returns the hub and tag, which must be the same in all charts.
fn common_images(charts: &BTreeMap<ChartName, Files>) -> Result<ReleaseImages, AssembleError> {
    let mut common: Option<(String, String)> = None;
    for (chart, files) in charts.iter().filter(|(chart, _)| chart.has_images()) {
        let images = stamp::images(text(*chart, files, "values.yaml")?)
            .map_err(|source| AssembleError::Stamp { chart: *chart, source })?;
        let wanted = common.get_or_insert_with(|| images.clone());
        if *wanted != images {
            let name = |(hub, tag): &(String, String)| format!("{hub}:{tag}");
            return Err(AssembleError::ImagesDiffer { chart: *chart, found: name(&images), wanted: name(wanted) });
        }
    }
    // Every release has istiod, so there are images.
    let (hub, tag) = common.unwrap_or_default();
    let reason = shortened_commit(&tag).map(|commit| {
        format!(
            "development images are tagged with the full commit, but the version has only {commit}: no image with \
             this tag can be pulled"
        )
    });
    Ok(ReleaseImages { hub, tag, pullable: reason.is_none(), reason })
}

/// The commit in a development version, if it is abbreviated.
fn shortened_commit(version: &str) -> Option<&str> {
    const FULL_LENGTH: usize = 40;
    let commit = development_commit(version)?;
    (commit.len() < FULL_LENGTH).then_some(commit)
}

/// The commit in a version such as `1.32.0-alpha.eed52ebb66ad`; `1.32.0-alpha.1` has none.
pub(super) fn development_commit(version: &str) -> Option<&str> {
    const MIN_LENGTH: usize = 7;
    let (_, commit) = version.split_once("-alpha.")?;
    (commit.len() >= MIN_LENGTH && commit.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(commit)
}
