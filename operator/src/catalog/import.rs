//! Adds a release to a catalog from an unpacked Istio release or source tree.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use semver::Version;

use super::{
    ChartName, Facts,
    assemble::{self, AssembleError, text},
    facts::Minor,
    files::{self, Files, ReadChartError},
    put::{self, PutError},
    stamp,
};

pub use super::put::Outcome;

/// What to import, and where to.
#[derive(Clone, Copy, Debug)]
pub struct Import<'a> {
    /// An unpacked release, its `manifests` folder, or a folder that has the charts.
    pub from: &'a Path,
    /// The release's version.
    pub version: &'a Version,
    /// The catalog; made if it doesn't exist.
    pub catalog: &'a Path,
    /// Where the charts came from, for people.
    pub source: &'a str,
    /// Whether other content under the same version may be replaced.
    pub replace: bool,
}

/// A release can't be imported; the catalog is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// There are no charts.
    #[error(
        "{from:?} has no charts: give the folder of an unpacked Istio release, its manifests folder, or a folder in \
         which there is base/Chart.yaml"
    )]
    NoCharts {
        /// Where they were looked for.
        from: PathBuf,
    },
    /// A chart is missing that no mesh can do without.
    #[error("{charts:?} has no chart {chart}: looked for {looked_for}")]
    MissingChart {
        /// The charts' folder.
        charts: PathBuf,
        /// The chart.
        chart: ChartName,
        /// Its possible folders.
        looked_for: String,
    },
    /// A chart's files can't be read.
    #[error("chart {chart} can't be read")]
    ReadChart {
        /// The chart.
        chart: ChartName,
        /// Cause.
        #[source]
        source: ReadChartError,
    },
    /// Nothing is known of the minor, so not where its images are.
    #[error("charts without a hub of their own need facts about their release: {0}")]
    Facts(String),
    /// The charts don't make this release.
    #[error(transparent)]
    Assemble(AssembleError),
    /// The release can't be put into the catalog.
    #[error(transparent)]
    Put(PutError),
}

/// Imports a release: stamps its charts, parses them, and puts them into the catalog in one step.
pub fn import(request: &Import<'_>, facts: &Facts) -> Result<Outcome, ImportError> {
    let charts = prepare(request, facts)?;
    let file =
        assemble::release_file(request.version, request.source, &charts, facts).map_err(ImportError::Assemble)?;
    put::put(request.catalog, &file, &charts, request.replace).map_err(ImportError::Put)
}

/// The charts as they will be in the catalog.
fn prepare(request: &Import<'_>, facts: &Facts) -> Result<BTreeMap<ChartName, Files>, ImportError> {
    let from = request.from;
    let roots = [from.join("manifests/charts"), from.join("charts"), from.to_owned()];
    let Some(root) = roots.into_iter().find(|root| root.join("base/Chart.yaml").is_file()) else {
        return Err(ImportError::NoCharts { from: from.to_owned() });
    };
    let mut charts = BTreeMap::new();
    for chart in ChartName::ALL {
        let folders = chart.folders().map(|folder| root.join(folder));
        match folders.iter().find(|folder| folder.is_dir()) {
            Some(folder) => {
                let mut files = files::read(folder).map_err(|source| ImportError::ReadChart { chart, source })?;
                stamp_chart(chart, &mut files, request.version, facts)?;
                assemble::check_chart(chart, &files).map_err(ImportError::Assemble)?;
                charts.insert(chart, files);
            }
            None if chart.is_indispensable() => {
                let looked_for = chart.folders().join(", ");
                return Err(ImportError::MissingChart { charts: root, chart, looked_for });
            }
            None => {}
        }
    }
    Ok(charts)
}

/// Does to a chart of a source tree what Istio's release build does. A chart that was stamped
/// before keeps its hub: it may be a distribution with a registry of its own.
fn stamp_chart(chart: ChartName, files: &mut Files, version: &Version, facts: &Facts) -> Result<(), ImportError> {
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

impl Facts {
    /// Where the images of a release are: development builds have a registry of their own.
    fn hub(&self, version: &Version) -> Result<&str, super::facts::Refusal> {
        let facts = self.minor(Minor::of(version))?;
        let development = assemble::development_commit(&version.to_string()).is_some();
        Ok(if development { &facts.development_hub } else { &facts.hub })
    }
}
