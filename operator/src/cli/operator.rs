//! `meshwright operator`: the process that the Deployment runs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::app::{self, RunError};
use crate::catalog::place::Places;
use crate::controller::Options;
use crate::mesh::cluster_objects::ClusterObjects;
use crate::runtime::admin::AdminArgs;
use crate::runtime::leader::LeaderArgs;
use crate::runtime::telemetry::LogArgs;

/// Flags of the operator.
#[derive(Args, Debug)]
pub struct OperatorArgs {
    /// Where Istio releases are: directories as `meshwright catalog` makes them, and registries, oci:// and registry and
    /// path; in the order in which they are looked through, with ':' between them
    #[arg(long = "catalog", env = "MESHWRIGHT_CATALOG", required = true, value_name = "DIR|oci://REGISTRY/PATH")]
    catalogs: Vec<Places>,
    /// Directory in which the releases of registries are kept; this process's own
    #[arg(long, env = "MESHWRIGHT_CATALOG_CACHE", value_name = "DIR")]
    catalog_cache: Option<PathBuf>,
    /// Talk HTTP without TLS to the registries of --catalog
    #[arg(long, env = "MESHWRIGHT_CATALOG_PLAIN_HTTP")]
    catalog_plain_http: bool,
    /// How often injection is proved by a dry run when nothing gives cause to, in seconds
    #[arg(long, env = "MESHWRIGHT_PROBE_INTERVAL", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..), value_name = "SECONDS")]
    probe_interval: u64,
    /// Who writes the objects of a mesh that are in no namespace: definitions, cluster roles, webhooks and the like
    #[arg(long, env = "MESHWRIGHT_CLUSTER_OBJECTS", value_enum, default_value_t = ClusterObjects::Managed, value_name = "WHO")]
    cluster_objects: ClusterObjects,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    leader: LeaderArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// Runs the operator until it is told to stop.
pub fn run(args: &OperatorArgs) -> Result<ExitCode, RunError> {
    let options = Options {
        catalogs: args.catalogs.iter().flat_map(|places| places.0.clone()).collect(),
        catalog_cache: args.catalog_cache.clone(),
        catalog_plain_http: args.catalog_plain_http,
        probe_interval: Duration::from_secs(args.probe_interval),
        cluster_objects: args.cluster_objects,
    };
    app::run(options, &args.admin, &args.leader, &args.log)
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;

    /// The flags that the Deployment gives, with the pod's address filled in as the kubelet does it.
    fn flags(pod_ip: &str) -> Vec<String> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/manager/deployment.yaml");
        let deployment: serde_json::Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let args = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
        args.iter().map(|arg| arg.as_str().unwrap().replace("$(POD_IP)", pod_ip)).collect()
    }

    #[test]
    fn the_deployments_flags_are_good_for_pods_of_either_family() {
        for (pod_ip, socket) in [("10.1.2.3", "10.1.2.3:8080"), ("fd00::7", "[fd00::7]:8080")] {
            let flags = flags(pod_ip).into_iter().chain(["--catalog=/catalog".to_owned()]);
            let matches = OperatorArgs::augment_args(Command::new("operator")).try_get_matches_from(flags).unwrap();
            let args = OperatorArgs::from_arg_matches(&matches).unwrap();
            assert_eq!(args.admin.socket().to_string(), socket);
        }
    }
}
