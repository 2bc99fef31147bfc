//! Adds a release to a catalog from an unpacked Istio release or source tree. The only code here
//! that writes files.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process,
};

use meshwright_chart::{Chart, LoadError};
use semver::Version;

use super::{
    ChartName, Digest, Facts,
    definitions::{self, ListDefinitionsError},
    facts::Minor,
    files::{self, Files, ReadChartError},
    release::Release,
    release_file::{ChartEntry, FILE_NAME, Images, ReleaseFile},
    stamp::{self, StampError},
};

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

/// What an import did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The release is new.
    Added,
    /// The catalog had exactly this already; nothing was written.
    Unchanged,
    /// It took the place of other content.
    Replaced,
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
    /// Version, hub or tag can't be set.
    #[error("chart {chart} can't be stamped")]
    Stamp {
        /// The chart.
        chart: ChartName,
        /// Cause.
        #[source]
        source: StampError,
    },
    /// Nothing is known of the minor, so not where its images are.
    #[error("charts without a hub of their own need facts about their release: {0}")]
    Facts(String),
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
    /// The catalog has something else under this version.
    #[error("{folder:?} has other content: give --replace to put this in its place")]
    DifferentContent {
        /// The release's folder.
        folder: PathBuf,
    },
    /// The catalog can't be written to.
    #[error("can't write {path:?}")]
    Write {
        /// File or folder.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// `release.yaml` can't be made.
    #[error("can't write {FILE_NAME}")]
    Serialize(#[source] Box<serde_saphyr::SerializeError>),
}

/// Imports a release: stamps its charts, parses them, and puts them into the catalog in one step.
pub fn import(request: &Import<'_>, facts: &Facts) -> Result<Outcome, ImportError> {
    let charts = prepare(request, facts)?;
    let images = common_images(&charts)?;
    let entries = charts.iter().map(|(name, files)| entry(*name, files)).collect::<Result<_, _>>()?;
    let file = ReleaseFile::new(request.version.clone(), request.source.to_owned(), images, entries);
    let folder = request.catalog.join(request.version.to_string());
    let exists = folder.exists();
    if exists {
        let existing = Release::open(&folder).ok();
        if existing.is_some_and(|known| known.file().same_content(&file) && known.verify().is_empty()) {
            return Ok(Outcome::Unchanged);
        }
        if !request.replace {
            return Err(ImportError::DifferentContent { folder });
        }
    }
    let staged = Staging::create(request.catalog, request.version)?;
    write_release(&staged.folder, &file, &charts)?;
    staged.put_in_place(&folder, exists)?;
    Ok(if exists { Outcome::Replaced } else { Outcome::Added })
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
                check_chart(chart, &files, request.version, facts)?;
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
    let failed = |source| ImportError::Stamp { chart, source };
    let text = text(chart, files, "Chart.yaml")?;
    let found = stamp::chart_version(text).map_err(failed)?;
    let wanted = version.to_string();
    if found == wanted {
        return Ok(());
    }
    if found != stamp::UNSTAMPED {
        return Err(ImportError::OtherVersion { chart, found, wanted: version.clone() });
    }
    let stamped = stamp::chart(text, &wanted).map_err(failed)?;
    if chart.has_images() {
        let hub = facts.hub(version).map_err(|refusal| ImportError::Facts(refusal.to_string()))?;
        let values = stamp::values(self::text(chart, files, "values.yaml")?, hub, &wanted).map_err(failed)?;
        files.insert("values.yaml".to_owned(), values.into_bytes());
    }
    files.insert("Chart.yaml".to_owned(), stamped.into_bytes());
    Ok(())
}

fn text<'a>(chart: ChartName, files: &'a Files, file: &'static str) -> Result<&'a str, ImportError> {
    let text = files.get(file).and_then(|content| std::str::from_utf8(content).ok());
    text.ok_or(ImportError::MissingFile { chart, file })
}

/// What would fail when a mesh is installed shall fail now.
fn check_chart(chart: ChartName, files: &Files, version: &Version, facts: &Facts) -> Result<(), ImportError> {
    let parsed =
        Chart::from_files(files.clone()).map_err(|source| ImportError::Load { chart, source: Box::new(source) })?;
    if parsed.name() != chart.as_str() {
        return Err(ImportError::OtherChart { chart, found: parsed.name().to_owned() });
    }
    if chart == ChartName::Base { check_definitions(&parsed, version, facts) } else { Ok(()) }
}

/// Of a minor that nothing is known about nobody knows what to expect.
fn check_definitions(base: &Chart, version: &Version, facts: &Facts) -> Result<(), ImportError> {
    let minor = Minor::of(version);
    let (Ok(known), Ok(expected)) = (facts.minor(minor), facts.crds(minor)) else { return Ok(()) };
    let kubernetes = format!("v{}.0", known.kubernetes.supported.1);
    match definitions::missing(base, expected, &kubernetes) {
        Ok(missing) if missing.is_empty() => Ok(()),
        Ok(missing) => Err(ImportError::MissingDefinitions { missing: missing.join(", ") }),
        Err(error) => Err(ImportError::ListDefinitions(Box::new(error))),
    }
}

fn entry(name: ChartName, files: &Files) -> Result<ChartEntry, ImportError> {
    let version = stamp::chart_version(text(name, files, "Chart.yaml")?);
    let version = version.map_err(|source| ImportError::Stamp { chart: name, source })?;
    Ok(ChartEntry { name, version, digest: Digest::of(files) })
}

/// The hub and tag that all charts name.
fn common_images(charts: &BTreeMap<ChartName, Files>) -> Result<Images, ImportError> {
    let mut common: Option<(String, String)> = None;
    for (chart, files) in charts.iter().filter(|(chart, _)| chart.has_images()) {
        let images = stamp::images(text(*chart, files, "values.yaml")?)
            .map_err(|source| ImportError::Stamp { chart: *chart, source })?;
        let wanted = common.get_or_insert_with(|| images.clone());
        if *wanted != images {
            let name = |(hub, tag): &(String, String)| format!("{hub}:{tag}");
            return Err(ImportError::ImagesDiffer { chart: *chart, found: name(&images), wanted: name(wanted) });
        }
    }
    // `prepare` refuses a release without istiod, which has images.
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
fn development_commit(version: &str) -> Option<&str> {
    const SHORTEST: usize = 7;
    let (_, commit) = version.split_once("-alpha.")?;
    (commit.len() >= SHORTEST && commit.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(commit)
}

impl Facts {
    /// Where the images of a release are: development builds have a registry of their own.
    fn hub(&self, version: &Version) -> Result<&str, super::facts::Refusal> {
        let facts = self.minor(Minor::of(version))?;
        let development = development_commit(&version.to_string()).is_some();
        Ok(if development { &facts.development_hub } else { &facts.hub })
    }
}

fn write_release(folder: &Path, file: &ReleaseFile, charts: &BTreeMap<ChartName, Files>) -> Result<(), ImportError> {
    for (chart, files) in charts {
        for (path, content) in files {
            write(&folder.join("charts").join(chart.as_str()).join(path), content)?;
        }
    }
    let text = file.text().map_err(|error| ImportError::Serialize(Box::new(error)))?;
    write(&folder.join(FILE_NAME), text.as_bytes())
}

fn write(path: &Path, content: &[u8]) -> Result<(), ImportError> {
    let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
    folder.and_then(|()| fs::write(path, content)).map_err(|source| write_error(path, source))
}

fn write_error(path: &Path, source: io::Error) -> ImportError {
    ImportError::Write { path: path.to_owned(), source }
}

/// A hidden folder beside the release's, which readers of a catalog pass over. It is deleted when
/// this goes out of scope before it was put in place.
struct Staging {
    folder: PathBuf,
    replaced: PathBuf,
}

impl Staging {
    fn create(catalog: &Path, version: &Version) -> Result<Self, ImportError> {
        let id = process::id();
        let folder = catalog.join(format!(".importing-{version}-{id}"));
        let replaced = catalog.join(format!(".replaced-{version}-{id}"));
        fs::create_dir_all(&folder).map_err(|source| write_error(&folder, source))?;
        Ok(Self { folder, replaced })
    }

    fn put_in_place(&self, folder: &Path, exists: bool) -> Result<(), ImportError> {
        if exists {
            fs::rename(folder, &self.replaced).map_err(|source| write_error(folder, source))?;
        }
        if let Err(source) = fs::rename(&self.folder, folder) {
            // The old content goes back, or there would be none. If even that fails, it stays where it is.
            let _ = fs::rename(&self.replaced, folder);
            return Err(write_error(folder, source));
        }
        if exists {
            fs::remove_dir_all(&self.replaced).map_err(|source| write_error(&self.replaced, source))?;
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Nobody is left to hear of a failure, and what stays is hidden.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
