//! How the operator is run.

use std::path::PathBuf;
use std::time::Duration;

use crate::catalog::place::Place;
use crate::mesh::cluster_objects::ClusterObjects;

/// What a person may set.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directories and registries with releases.
    pub catalogs: Vec<Place>,
    /// Where the releases of registries are kept.
    pub catalog_cache: Option<PathBuf>,
    /// Whether registries are talked to without TLS.
    pub catalog_plain_http: bool,
    /// How often injection is proved when nothing gives cause to.
    pub probe_interval: Duration,
    /// Who writes what is in no namespace.
    pub cluster_objects: ClusterObjects,
}
