//! Generates the bundle's files. Pure.

use serde_json::{Value, json};

use super::csv::{self, CsvError};
use super::sources::Sources;
use super::{ANNOTATIONS, Files, MANIFESTS, PACKAGE, PublicationSettings, text};
use crate::yaml;

/// The bundle can't be generated.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The `ClusterServiceVersion` can't be built.
    #[error("can't build the ClusterServiceVersion")]
    Csv(#[source] CsvError),
    /// An object in `config/manager` is neither in the bundle nor listed as omitted.
    #[error(
        "config/manager has {kind} {name:?}; add it to make.rs, or with the reason to `omitted` in \
         config/olm/base/base.yaml"
    )]
    UnhandledObject {
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
    },
    /// The CRD is not YAML.
    #[error("config/crd is not YAML")]
    Crd(#[source] Box<serde_saphyr::Error>),
    /// An object can't be serialized as YAML.
    #[error("can't write {path}")]
    Write {
        /// The path in the bundle.
        path: String,
        /// The serialization error.
        #[source]
        source: Box<serde_saphyr::ser::Error>,
    },
}

/// The header of generated files.
const HEADER: &str = "# Generated from config/ by `make bundle`; don't edit.\n";

/// Generates the files of the bundle of a version.
pub fn make(sources: Sources, publication: PublicationSettings, version: &str) -> Result<Files, MakeError> {
    let image = publication.image.clone().unwrap_or_else(|| format!("{}:{version}", sources.base.image));
    let sources = Sources { base: sources.base.published(publication), ..sources };
    let crd: Value = yaml::parse(&sources.crd).map_err(MakeError::Crd)?;
    let csv = csv::csv(&sources, &crd, &image, version).map_err(MakeError::Csv)?;
    let base = &sources.base;

    let mut files = Files::new();
    write(&mut files, format!("{MANIFESTS}{}.clusterserviceversion.yaml", base.package), &csv)?;
    files.insert(format!("{MANIFESTS}meshwright.dev_meshinstallations.yaml"), sources.crd.clone());
    for object in &sources.manager {
        let (kind, name) = (text(object, "/kind"), text(object, "/metadata/name"));
        match kind {
            // Part of the ClusterServiceVersion.
            "Deployment" | "ServiceAccount" => {}
            "Service" | "PodDisruptionBudget" => {
                let path = format!("{MANIFESTS}{name}.{}.yaml", kind.to_lowercase());
                write(&mut files, path, &without_namespace(object))?;
            }
            kind if base.omitted.contains_key(kind) => {}
            _ => return Err(MakeError::UnhandledObject { kind: kind.to_owned(), name: name.to_owned() }),
        }
    }
    write(&mut files, ANNOTATIONS.to_owned(), &annotations(&sources))?;
    files.insert("tests/scorecard/config.yaml".to_owned(), sources.scorecard.clone());
    Ok(files)
}

/// The bundle's annotations: package, channels and layout.
fn annotations(sources: &Sources) -> Value {
    let base = &sources.base;
    json!({"annotations": {
        "operators.operatorframework.io.bundle.mediatype.v1": "registry+v1",
        "operators.operatorframework.io.bundle.manifests.v1": "manifests/",
        "operators.operatorframework.io.bundle.metadata.v1": "metadata/",
        PACKAGE: base.package,
        "operators.operatorframework.io.bundle.channels.v1": base.channels.join(","),
        "operators.operatorframework.io.bundle.channel.default.v1": base.default_channel,
        "operators.operatorframework.io.test.mediatype.v1": "scorecard+v1",
        "operators.operatorframework.io.test.config.v1": "tests/scorecard/",
        "com.redhat.openshift.versions": base.openshift_versions,
    }})
}

/// Removes the namespace: OLM sets it to that of the operator.
fn without_namespace(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("namespace");
    }
    object
}

fn write(files: &mut Files, path: String, value: &Value) -> Result<(), MakeError> {
    let body = serde_saphyr::to_string(value)
        .map_err(|error| MakeError::Write { path: path.clone(), source: Box::new(error) })?;
    files.insert(path, format!("{HEADER}{body}"));
    Ok(())
}
