//! Settings of the operator.

use std::path::PathBuf;
use std::time::Duration;

use crate::catalog::sources::CatalogSource;
use crate::mesh::cluster_scoped::ClusterScopedResources;

/// The settings of `meshwright operator` that reconciles use.
#[derive(Clone, Debug)]
pub struct OperatorOptions {
    /// Catalogs in order of precedence: directories and registries.
    pub catalogs: Vec<CatalogSource>,
    /// Directory that caches releases from registries.
    pub catalog_cache: Option<PathBuf>,
    /// Use plain HTTP for registries.
    pub catalog_plain_http: bool,
    /// Interval between periodic injection checks.
    pub injection_check_interval: Duration,
    /// Whether the operator manages cluster-scoped resources.
    pub cluster_scoped_resources: ClusterScopedResources,
}
