//! A release in a catalog. Returns only charts that match their digests. Reads files, writes none.

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
    release_file::{FILE_NAME, ParseReleaseError, ReleaseFile, ReleaseImages},
};

/// A release in a catalog.
#[derive(Clone, Debug)]
pub struct Release {
    directory: PathBuf,
    file: ReleaseFile,
    charts: BTreeMap<ChartName, Digest>,
}

/// A directory in a catalog is not a release.
#[derive(Debug, thiserror::Error)]
pub enum OpenReleaseError {
    /// `release.yaml` can't be read.
    #[error("can't read {path:?}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// `release.yaml` is invalid.
    #[error("{path:?} is invalid")]
    Parse {
        path: PathBuf,
        #[source]
        source: ParseReleaseError,
    },
    /// The directory was renamed, or the file copied.
    #[error("{path:?} is for {version}; its directory must have this name")]
    Folder { path: PathBuf, version: Version },
}

/// A chart of a release can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// The release has no such chart.
    #[error("release {version} has no chart {chart}")]
    Absent { chart: ChartName, version: Version },
    /// Its files can't be read.
    #[error("can't read chart {chart} of release {version}")]
    Read {
        chart: ChartName,
        version: Version,
        #[source]
        source: ReadChartError,
    },
    /// Its files don't match the digest in `release.yaml`.
    #[error(
        "chart {chart} of release {version} is damaged: the files in {directory:?} have digest {found}, expected \
         {recorded}; add the release again with --replace"
    )]
    Damaged {
        chart: ChartName,
        version: Version,
        /// The chart's directory.
        directory: PathBuf,
        /// The digest in `release.yaml`.
        recorded: Digest,
        /// The digest of the files.
        found: Digest,
    },
    /// Its templates can't be parsed.
    #[error("can't parse chart {chart} of release {version}")]
    Load {
        chart: ChartName,
        version: Version,
        #[source]
        source: Box<LoadError>,
    },
}

impl Release {
    /// Reads the `release.yaml` of a directory; the charts are read on demand.
    pub(super) fn open(directory: &Path) -> Result<Self, OpenReleaseError> {
        let path = directory.join(FILE_NAME);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(OpenReleaseError::Read { path, source }),
        };
        let file = match ReleaseFile::parse(&text) {
            Ok(file) => file,
            Err(source) => return Err(OpenReleaseError::Parse { path, source }),
        };
        if directory.file_name().and_then(|name| name.to_str()) != Some(file.version.to_string().as_str()) {
            return Err(OpenReleaseError::Folder { path, version: file.version });
        }
        let charts = file.charts.iter().map(|chart| (chart.name, chart.digest.clone())).collect();
        Ok(Self { directory: directory.to_owned(), file, charts })
    }

    /// The exact version.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.file.version
    }

    /// The charts of the release, with their digests.
    #[must_use]
    pub fn charts(&self) -> &BTreeMap<ChartName, Digest> {
        &self.charts
    }

    /// The default images of its charts.
    #[must_use]
    pub fn images(&self) -> &ReleaseImages {
        &self.file.images
    }

    /// The release's directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The content of `release.yaml`.
    pub(super) fn file(&self) -> &ReleaseFile {
        &self.file
    }

    /// Reads and parses a chart. Parses the same bytes that the digest was computed of.
    pub fn load_chart(&self, chart: ChartName) -> Result<Chart, ChartError> {
        let files = self.read_chart(chart)?;
        Chart::from_files(files).map_err(|source| ChartError::Load {
            chart,
            version: self.file.version.clone(),
            source: Box::new(source),
        })
    }

    /// Reads and parses charts, each of them once.
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

    /// Returns an error for each chart that doesn't match its digest.
    #[must_use]
    pub fn verify(&self) -> Vec<ChartError> {
        self.charts.keys().filter_map(|chart| self.read_chart(*chart).err()).collect()
    }

    /// Returns the files of a chart if they match its digest.
    pub(super) fn read_chart(&self, chart: ChartName) -> Result<Files, ChartError> {
        let version = || self.file.version.clone();
        let Some(recorded) = self.charts.get(&chart) else {
            return Err(ChartError::Absent { chart, version: version() });
        };
        let directory = self.directory.join("charts").join(chart.as_str());
        let files = files::read(&directory).map_err(|source| ChartError::Read { chart, version: version(), source })?;
        let found = Digest::of(&files);
        if found == *recorded {
            Ok(files)
        } else {
            Err(ChartError::Damaged { chart, version: version(), directory, recorded: recorded.clone(), found })
        }
    }
}
