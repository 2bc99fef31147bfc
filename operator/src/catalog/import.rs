//! Adds a release to a catalog from an unpacked Istio release or source tree.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use semver::Version;

use super::{
    ChartName, ReleaseFacts,
    assemble::{self, AssembleError, text},
    facts::Minor,
    files::{self, Files, ReadChartError},
    put::{self, PutError},
    stamp,
};

pub use super::put::PutOutcome;

/// Arguments of [`import`].
#[derive(Clone, Copy, Debug)]
pub struct ImportOptions<'a> {
    /// An unpacked release, its `manifests` directory, or a directory of charts.
    pub from: &'a Path,
    /// The release's version.
    pub version: &'a Version,
    /// The catalog; created if it doesn't exist.
    pub catalog: &'a Path,
    /// The source of the charts, as free text.
    pub source: &'a str,
    /// Whether to replace different content of the same version.
    pub replace: bool,
}

/// A release can't be imported; the catalog is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// There are no charts.
    #[error(
        "{from:?} has no charts; set the directory of an unpacked Istio release, its manifests directory, or a \
         directory with base/Chart.yaml"
    )]
    NoCharts { from: PathBuf },
    /// A required chart is missing.
    #[error("{charts:?} has no chart {chart}; tried {tried}")]
    MissingChart { charts: PathBuf, chart: ChartName, tried: String },
    /// A chart's files can't be read.
    #[error("can't read chart {chart}")]
    ReadChart {
        chart: ChartName,
        #[source]
        source: ReadChartError,
    },
    /// The registry of the images is unknown for an unknown minor.
    #[error("can't set the image registry of charts from a source tree: {0}")]
    Facts(String),
    /// The charts can't be used as this release.
    #[error(transparent)]
    Assemble(AssembleError),
    /// The release can't be written to the catalog.
    #[error(transparent)]
    Put(PutError),
}

/// Imports a release: stamps and parses its charts and writes them to the catalog atomically.
pub fn import(request: &ImportOptions<'_>, facts: &ReleaseFacts) -> Result<PutOutcome, ImportError> {
    let charts = prepare(request, facts)?;
    let file =
        assemble::release_file(request.version, request.source, &charts, facts).map_err(ImportError::Assemble)?;
    put::put(request.catalog, &file, &charts, request.replace).map_err(ImportError::Put)
}

/// Reads, stamps and parses the charts.
fn prepare(request: &ImportOptions<'_>, facts: &ReleaseFacts) -> Result<BTreeMap<ChartName, Files>, ImportError> {
    let from = request.from;
    let roots = [from.join("manifests/charts"), from.join("charts"), from.to_owned()];
    let Some(root) = roots.into_iter().find(|root| root.join("base/Chart.yaml").is_file()) else {
        return Err(ImportError::NoCharts { from: from.to_owned() });
    };
    let mut charts = BTreeMap::new();
    for chart in ChartName::ALL {
        let directories = chart.directories().map(|directory| root.join(directory));
        match directories.iter().find(|directory| directory.is_dir()) {
            Some(directory) => {
                let mut files = files::read(directory).map_err(|source| ImportError::ReadChart { chart, source })?;
                stamp_chart(chart, &mut files, request.version, facts)?;
                assemble::check_chart(chart, &files).map_err(ImportError::Assemble)?;
                charts.insert(chart, files);
            }
            None if chart.is_required() => {
                let tried = chart.directories().join(", ");
                return Err(ImportError::MissingChart { charts: root, chart, tried });
            }
            None => {}
        }
    }
    Ok(charts)
}

/// Sets version, hub and tag in a chart of a source tree, as Istio's release build does. A stamped chart keeps its hub,
/// which may be that of a distribution.
fn stamp_chart(
    chart: ChartName,
    files: &mut Files,
    version: &Version,
    facts: &ReleaseFacts,
) -> Result<(), ImportError> {
    let failed = |source| ImportError::Assemble(AssembleError::Stamp { chart, source });
    let chart_file = text(chart, files, "Chart.yaml").map_err(ImportError::Assemble)?;
    let found = stamp::chart_version(chart_file).map_err(failed)?;
    let wanted = version.to_string();
    if found == wanted {
        return Ok(());
    }
    if found != stamp::UNSTAMPED {
        return Err(ImportError::Assemble(AssembleError::OtherVersion { chart, found, wanted: version.clone() }));
    }
    let stamped = stamp::chart(chart_file, &wanted).map_err(failed)?;
    if chart.has_images() {
        let hub = facts.hub(version).map_err(|refusal| ImportError::Facts(refusal.to_string()))?;
        let values = text(chart, files, "values.yaml").map_err(ImportError::Assemble)?;
        let values = stamp::values(values, hub, &wanted).map_err(failed)?;
        files.insert("values.yaml".to_owned(), values.into_bytes());
    }
    files.insert("Chart.yaml".to_owned(), stamped.into_bytes());
    Ok(())
}

impl ReleaseFacts {
    /// The registry of a release's images; development builds have their own.
    fn hub(&self, version: &Version) -> Result<&str, super::facts::VersionRefusal> {
        let facts = self.minor(Minor::of(version))?;
        let development = assemble::development_commit(&version.to_string()).is_some();
        Ok(if development { &facts.development_hub } else { &facts.hub })
    }
}
