//! One release of a catalog, and the way to its charts: no chart is given out that isn't what its
//! digest says. Reads files, writes none.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use meshwright_chart::{Chart, LoadError};
use semver::Version;

use super::{
    ChartName, Digest,
    files::{self, Files, ReadChartError},
    release_file::{FILE_NAME, Images, ParseReleaseError, ReleaseFile},
};

/// A release that a catalog has.
#[derive(Clone, Debug)]
pub struct Release {
    folder: PathBuf,
    file: ReleaseFile,
    charts: BTreeMap<ChartName, Digest>,
}

/// A folder in a catalog holds no release.
#[derive(Debug, thiserror::Error)]
pub enum OpenReleaseError {
    /// `release.yaml` can't be read.
    #[error("can't read {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// `release.yaml` makes no sense.
    #[error("{path:?} is not usable")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: ParseReleaseError,
    },
    /// The folder was renamed, or the file copied.
    #[error("{path:?} is for {version}: its folder must have that name")]
    Folder {
        /// The file.
        path: PathBuf,
        /// The version in it.
        version: Version,
    },
}

/// A chart of a release can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// The release has no such chart.
    #[error("release {version} has no chart {chart}")]
    Absent {
        /// The chart.
        chart: ChartName,
        /// The release.
        version: Version,
    },
    /// Its files can't be read.
    #[error("chart {chart} of release {version} can't be read")]
    Read {
        /// The chart.
        chart: ChartName,
        /// The release.
        version: Version,
        /// Cause.
        #[source]
        source: ReadChartError,
    },
    /// Its files are not those that were imported.
    #[error(
        "chart {chart} of release {version} is damaged: the files in {folder:?} have digest {found}, not {recorded}; \
         add the release again with --replace"
    )]
    Damaged {
        /// The chart.
        chart: ChartName,
        /// The release.
        version: Version,
        /// The chart's folder.
        folder: PathBuf,
        /// Digest in `release.yaml`.
        recorded: Digest,
        /// Digest of the files.
        found: Digest,
    },
    /// Its templates can't be parsed.
    #[error("chart {chart} of release {version} can't be parsed")]
    Load {
        /// The chart.
        chart: ChartName,
        /// The release.
        version: Version,
        /// Cause.
        #[source]
        source: Box<LoadError>,
    },
}

impl Release {
    /// Reads the `release.yaml` of a folder; the charts are left alone until they are needed.
    pub(super) fn open(folder: &Path) -> Result<Self, OpenReleaseError> {
        let path = folder.join(FILE_NAME);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(OpenReleaseError::Read { path, source }),
        };
        let file = match ReleaseFile::parse(&text) {
            Ok(file) => file,
            Err(source) => return Err(OpenReleaseError::Parse { path, source }),
        };
        if folder.file_name().and_then(|name| name.to_str()) != Some(file.version.to_string().as_str()) {
            return Err(OpenReleaseError::Folder { path, version: file.version });
        }
        let charts = file.charts.iter().map(|chart| (chart.name, chart.digest.clone())).collect();
        Ok(Self { folder: folder.to_owned(), file, charts })
    }

    /// The exact version.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.file.version
    }

    /// The charts that the release has, with their digests.
    #[must_use]
    pub fn charts(&self) -> &BTreeMap<ChartName, Digest> {
        &self.charts
    }

    /// The images that its charts name by default.
    #[must_use]
    pub fn images(&self) -> &Images {
        &self.file.images
    }

    /// Where it lies.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What its `release.yaml` says.
    pub(super) fn file(&self) -> &ReleaseFile {
        &self.file
    }

    /// Reads and parses a chart. The bytes that are parsed are those that the digest was taken of.
    pub fn load_chart(&self, chart: ChartName) -> Result<Chart, ChartError> {
        let files = self.read_chart(chart)?;
        Chart::from_files(files).map_err(|source| ChartError::Load {
            chart,
            version: self.file.version.clone(),
            source: Box::new(source),
        })
    }

    /// Reads and parses charts, each once however often it is named.
    pub fn load_charts(
        &self,
        wanted: impl IntoIterator<Item = ChartName>,
    ) -> Result<BTreeMap<ChartName, Arc<Chart>>, ChartError> {
        let mut charts = BTreeMap::new();
        for chart in wanted {
            if let Entry::Vacant(slot) = charts.entry(chart) {
                slot.insert(Arc::new(self.load_chart(chart)?));
            }
        }
        Ok(charts)
    }

    /// All charts that aren't what was imported; empty when the release is whole.
    #[must_use]
    pub fn verify(&self) -> Vec<ChartError> {
        self.charts.keys().filter_map(|chart| self.read_chart(*chart).err()).collect()
    }

    /// The files of a chart, if they are what its digest says.
    pub(super) fn read_chart(&self, chart: ChartName) -> Result<Files, ChartError> {
        let version = || self.file.version.clone();
        let Some(recorded) = self.charts.get(&chart) else {
            return Err(ChartError::Absent { chart, version: version() });
        };
        let folder = self.folder.join("charts").join(chart.as_str());
        let files = files::read(&folder).map_err(|source| ChartError::Read { chart, version: version(), source })?;
        let found = Digest::of(&files);
        if found == *recorded {
            Ok(files)
        } else {
            Err(ChartError::Damaged { chart, version: version(), folder, recorded: recorded.clone(), found })
        }
    }
}
