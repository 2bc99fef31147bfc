//! `meshwright operator`: the process that the Deployment runs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::app::{self, RunError};
use crate::controller::Options;
use crate::runtime::admin::AdminArgs;
use crate::runtime::leader::LeaderArgs;
use crate::runtime::telemetry::LogArgs;

/// Flags of the operator.
#[derive(Args, Debug)]
pub struct OperatorArgs {
    /// Directories of Istio releases, as `meshwright catalog` makes them
    #[arg(long = "catalog", env = "MESHWRIGHT_CATALOG", value_delimiter = ':', required = true, value_name = "DIR")]
    catalogs: Vec<PathBuf>,
    /// How often injection is proved by a dry run when nothing gives cause to, in seconds
    #[arg(long, env = "MESHWRIGHT_PROBE_INTERVAL", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..), value_name = "SECONDS")]
    probe_interval: u64,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    leader: LeaderArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// Runs the operator until it is told to stop.
pub fn run(args: &OperatorArgs) -> Result<ExitCode, RunError> {
    let options = Options { catalogs: args.catalogs.clone(), probe_interval: Duration::from_secs(args.probe_interval) };
    app::run(options, &args.admin, &args.leader, &args.log)
}
