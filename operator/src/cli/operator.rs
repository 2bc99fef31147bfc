//! `meshwright operator`: the operator's entrypoint.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::app::{self, RunError};
use crate::catalog::sources::CatalogSources;
use crate::controller::OperatorOptions;
use crate::mesh::cluster_scoped::ClusterScopedResources;
use crate::runtime::admin::AdminArgs;
use crate::runtime::leader::LeaderArgs;
use crate::runtime::telemetry::LogArgs;

/// Flags of the operator.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  # Run with a catalog directory
  meshwright operator --catalog /catalog

  # Also use the charts in a registry
  meshwright operator --catalog /catalog:oci://registry.example.com/istio/charts --catalog-cache /cache")]
pub struct OperatorArgs {
    /// Catalogs of Istio releases, in order of precedence and separated by ':': directories created with `meshwright
    /// catalog`, and OCI registries (`oci://REGISTRY/PATH`)
    #[arg(long = "catalog", env = "MESHWRIGHT_CATALOG", required = true, value_name = "DIR|oci://REGISTRY/PATH")]
    catalogs: Vec<CatalogSources>,
    /// Directory that caches releases from registries; must not be shared between processes
    #[arg(long, env = "MESHWRIGHT_CATALOG_CACHE", value_name = "DIR")]
    catalog_cache: Option<PathBuf>,
    /// Use plain HTTP for the registries in --catalog
    #[arg(long, env = "MESHWRIGHT_CATALOG_PLAIN_HTTP")]
    catalog_plain_http: bool,
    /// Interval between periodic injection checks, in seconds
    #[arg(long, env = "MESHWRIGHT_INJECTION_CHECK_INTERVAL", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..), value_name = "SECONDS")]
    injection_check_interval: u64,
    /// How the mesh's cluster-scoped resources (CRDs, ClusterRoles, webhooks and others) are managed
    #[arg(long, env = "MESHWRIGHT_CLUSTER_SCOPED_RESOURCES", value_enum, default_value_t = ClusterScopedResources::Managed, value_name = "POLICY")]
    cluster_scoped_resources: ClusterScopedResources,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    leader: LeaderArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// Runs the operator until the process receives a termination signal.
pub fn run(args: &OperatorArgs) -> Result<ExitCode, RunError> {
    let options = OperatorOptions {
        catalogs: args.catalogs.iter().flat_map(|sources| sources.0.clone()).collect(),
        catalog_cache: args.catalog_cache.clone(),
        catalog_plain_http: args.catalog_plain_http,
        injection_check_interval: Duration::from_secs(args.injection_check_interval),
        cluster_scoped_resources: args.cluster_scoped_resources,
    };
    app::run(options, &args.admin, &args.leader, &args.log)
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;

    /// The Deployment's arguments, with `$(POD_IP)` expanded as the kubelet does it.
    fn flags(pod_ip: &str) -> Vec<String> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/manager/deployment.yaml");
        let deployment: serde_json::Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let args = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
        args.iter().map(|arg| arg.as_str().unwrap().replace("$(POD_IP)", pod_ip)).collect()
    }

    #[test]
    fn deployment_flags_parse_for_ipv4_and_ipv6() {
        for (pod_ip, socket) in [("10.1.2.3", "10.1.2.3:8080"), ("fd00::7", "[fd00::7]:8080")] {
            let flags = flags(pod_ip).into_iter().chain(["--catalog=/catalog".to_owned()]);
            let matches = OperatorArgs::augment_args(Command::new("operator")).try_get_matches_from(flags).unwrap();
            let args = OperatorArgs::from_arg_matches(&matches).unwrap();
            assert_eq!(args.admin.socket().to_string(), socket);
        }
    }
}
