//! From the files of charts to a release: what is to be true of them, wherever they came from. Pure.

use std::collections::BTreeMap;

use meshwright_chart::{Chart, LoadError};
use semver::Version;

use super::{
    ChartName, Digest, Facts,
    definitions::{self, ListDefinitionsError},
    facts::Minor,
    files::Files,
    release_file::{ChartEntry, Images, ReleaseFile},
    stamp::{self, StampError},
};

/// Charts don't make a release.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// A file that every chart has is missing or no text.
    #[error("chart {chart} has no {file}, or it is no text")]
    MissingFile {
        /// The chart.
        chart: ChartName,
        /// The file.
        file: &'static str,
    },
    /// The charts belong to another release.
    #[error("chart {chart} is of version {found}, not {wanted}: import it under its own version")]
    OtherVersion {
        /// The chart.
        chart: ChartName,
        /// Version in `Chart.yaml`.
        found: String,
        /// Version asked for.
        wanted: Version,
    },
    /// Version, hub or tag can't be set or read.
    #[error("chart {chart} can't be stamped")]
    Stamp {
        /// The chart.
        chart: ChartName,
        /// Cause.
        #[source]
        source: StampError,
    },
    /// The charts name different images.
    #[error("chart {chart} names images {found}, the others {wanted}")]
    ImagesDiffer {
        /// The chart.
        chart: ChartName,
        /// Its hub and tag.
        found: String,
        /// The others'.
        wanted: String,
    },
    /// A template can't be parsed, or uses a function that isn't there.
    #[error("chart {chart} can't be parsed")]
    Load {
        /// The chart.
        chart: ChartName,
        /// Cause.
        #[source]
        source: Box<LoadError>,
    },
    /// A folder has another chart in it.
    #[error("the chart in place of {chart} calls itself {found:?}")]
    OtherChart {
        /// The chart that was looked for.
        chart: ChartName,
        /// Its name.
        found: String,
    },
    /// What the base chart brings can't be found out.
    #[error("chart base: can't tell which definitions it brings")]
    ListDefinitions(#[source] Box<ListDefinitionsError>),
    /// Nothing would define the kinds that istiod serves.
    #[error(
        "chart base doesn't bring the definitions {missing}: some distributions keep theirs elsewhere, and a mesh of such \
         charts would have none; take the charts of Istio's own release"
    )]
    MissingDefinitions {
        /// Names of definitions, as `plural.group`, with commas.
        missing: String,
    },
}

/// The `release.yaml` of charts that have their version, hub and tag.
pub(super) fn release_file(
    version: &Version,
    source: &str,
    charts: &BTreeMap<ChartName, Files>,
    facts: &Facts,
) -> Result<ReleaseFile, AssembleError> {
    if let Some(base) = charts.get(&ChartName::Base) {
        check_definitions(&parse(ChartName::Base, base)?, version, facts)?;
    }
    let images = common_images(charts)?;
    let entries = charts.iter().map(|(name, files)| entry(*name, files, version)).collect::<Result<_, _>>()?;
    Ok(ReleaseFile::new(version.clone(), source.to_owned(), images, entries))
}

/// What would fail when a mesh is installed shall fail now.
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

/// Of a minor that nothing is known about nobody knows what to expect.
fn check_definitions(base: &Chart, version: &Version, facts: &Facts) -> Result<(), AssembleError> {
    let minor = Minor::of(version);
    let (Ok(known), Ok(expected)) = (facts.minor(minor), facts.crds(minor)) else { return Ok(()) };
    let kubernetes = format!("v{}.0", known.kubernetes.supported.1);
    match definitions::missing(base, expected, &kubernetes) {
        Ok(missing) if missing.is_empty() => Ok(()),
        Ok(missing) => Err(AssembleError::MissingDefinitions { missing: missing.join(", ") }),
        Err(error) => Err(AssembleError::ListDefinitions(Box::new(error))),
    }
}

/// A file that every chart has.
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

/// The hub and tag that all charts name.
fn common_images(charts: &BTreeMap<ChartName, Files>) -> Result<Images, AssembleError> {
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
    // Nobody makes a release without istiod, which has images.
    let (hub, tag) = common.unwrap_or_default();
    let reason = shortened_commit(&tag).map(|commit| {
        format!(
            "development builds are tagged with the whole commit, of which only {commit} is known: no image can be \
             pulled under this tag"
        )
    });
    Ok(Images { hub, tag, pullable: reason.is_none(), reason })
}

/// The commit in a development version, if it isn't whole.
fn shortened_commit(version: &str) -> Option<&str> {
    const WHOLE: usize = 40;
    let commit = development_commit(version)?;
    (commit.len() < WHOLE).then_some(commit)
}

/// The commit in a version such as `1.32.0-alpha.eed52ebb66ad`; `1.32.0-alpha.1` has none.
pub(super) fn development_commit(version: &str) -> Option<&str> {
    const SHORTEST: usize = 7;
    let (_, commit) = version.split_once("-alpha.")?;
    (commit.len() >= SHORTEST && commit.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(commit)
}
