//! Reads the bundle's sources, and bundles. Writes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Base, Files};
use crate::yaml;

/// The sources of the bundle.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The manually written part.
    pub base: Base,
    /// The description, in Markdown.
    pub description: String,
    /// The icon, as SVG.
    pub icon: String,
    /// The scorecard's configuration.
    pub scorecard: String,
    /// The committed CRD.
    pub crd: String,
    /// The objects of `config/rbac`.
    pub rbac: Vec<Value>,
    /// The objects of `config/manager`.
    pub manager: Vec<Value>,
    /// The images of the add-ons, by add-on name.
    pub add_ons: BTreeMap<String, String>,
    /// The samples, shortest first: consoles use the first example as template.
    pub samples: Vec<Value>,
}

/// A source can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file or directory can't be read.
    #[error("can't read {path}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The I/O error.
        #[source]
        source: io::Error,
    },
    /// The content is invalid.
    #[error("{path} is invalid")]
    Yaml {
        /// The invalid file.
        path: PathBuf,
        /// The YAML error.
        #[source]
        source: Box<serde_saphyr::Error>,
    },
}

/// The values of an add-on that determine its image.
#[derive(Deserialize)]
struct AddOnValues {
    image: AddOnImage,
}

#[derive(Deserialize)]
struct AddOnImage {
    repository: String,
    tag: String,
}

impl Sources {
    /// Reads a `config` directory and the add-ons' charts.
    pub fn read(config: &Path, add_ons: &Path) -> Result<Self, ReadError> {
        let base = config.join("olm/base");
        Ok(Self {
            base: document(&base.join("base.yaml"))?,
            description: text(&base.join("description.md"))?,
            icon: text(&base.join("icon.svg"))?,
            scorecard: text(&base.join("scorecard.yaml"))?,
            crd: text(&config.join("crd/meshinstallations.yaml"))?,
            rbac: objects(&config.join("rbac"))?,
            manager: objects(&config.join("manager"))?,
            add_ons: images(add_ons)?,
            samples: shortest_first(objects(&config.join("samples"))?),
        })
    }
}

/// Reads the files of a bundle, in `manifests`, `metadata` and `tests`.
pub fn bundle(directory: &Path) -> Result<Files, ReadError> {
    let mut files = Files::new();
    for part in ["manifests", "metadata", "tests"] {
        collect(directory, &directory.join(part), &mut files)?;
    }
    Ok(files)
}

fn collect(root: &Path, directory: &Path, files: &mut Files) -> Result<(), ReadError> {
    for path in entries(directory)? {
        if path.is_dir() {
            collect(root, &path, files)?;
        } else {
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            files.insert(name, text(&path)?);
        }
    }
    Ok(())
}

/// Reads the objects in a directory's YAML files, except kustomizations.
fn objects(directory: &Path) -> Result<Vec<Value>, ReadError> {
    let mut objects = Vec::new();
    for path in entries(directory)? {
        if path.is_file() && path.extension().is_some_and(|extension| extension == "yaml") {
            let documents: Vec<Value> =
                yaml::parse_all(&text(&path)?).map_err(|source| ReadError::Yaml { path, source })?;
            objects.extend(documents.into_iter().filter(|object| {
                let version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
                !object.is_null() && !version.starts_with("kustomize.config.k8s.io/")
            }));
        }
    }
    Ok(objects)
}

/// Reads the images of the charts in a directory; subdirectories without values are not charts.
fn images(charts: &Path) -> Result<BTreeMap<String, String>, ReadError> {
    let mut images = BTreeMap::new();
    for chart in entries(charts)? {
        let values = chart.join("values.yaml");
        if let (Some(name), true) = (chart.file_name(), values.is_file()) {
            let AddOnValues { image } = document(&values)?;
            images.insert(name.to_string_lossy().into_owned(), format!("{}:{}", image.repository, image.tag));
        }
    }
    Ok(images)
}

fn shortest_first(mut samples: Vec<Value>) -> Vec<Value> {
    samples.sort_by_cached_key(|sample| sample.to_string().len());
    samples
}

fn document<T: DeserializeOwned>(path: &Path) -> Result<T, ReadError> {
    yaml::parse(&text(path)?).map_err(|source| ReadError::Yaml { path: path.to_owned(), source })
}

fn text(path: &Path) -> Result<String, ReadError> {
    fs::read_to_string(path).map_err(|source| ReadError::Io { path: path.to_owned(), source })
}

/// Lists a directory, sorted by name.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let failed = |source| ReadError::Io { path: directory.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    Ok(paths)
}
