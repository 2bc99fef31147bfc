//! `make demo`: installs a mesh on a local lab cluster and shows how the operator reverts drift.
//!
//! Starts a lab, installs the operator from config/, applies config/samples, deletes objects of the mesh and shows that
//! the operator recreates them.

mod drift;
mod interrupt;
mod next_steps;
mod output;
mod sample;
mod shop;
mod status;
mod steps;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use meshwright_e2e::{Lab, LabOptions, NodeSpec, Programs, TestResult, programs, with_lab};
use tokio_util::sync::CancellationToken;

/// A narrow range, as on VMware Cloud PKS.
const NODE_PORT_RANGE: &str = "30400-30449";
const NODES: usize = 3;
/// Exit code of a program that was ended by Ctrl-C.
const INTERRUPTED: u8 = 130;
/// Limits the dump, so that the original error is always printed.
const DUMP_DEADLINE: Duration = Duration::from_mins(1);

/// How the demo ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DemoEnd {
    Completed,
    Interrupted,
}

/// Paths and options of the demo.
struct Tools {
    /// The meshwright binary: operator and CLI.
    meshwright: PathBuf,
    /// Catalog of Istio releases.
    catalog: PathBuf,
    /// The repository's config directory.
    config: PathBuf,
    /// Exits at the end instead of waiting for Ctrl-C.
    exit: bool,
}

fn main() -> ExitCode {
    match demo() {
        Ok(DemoEnd::Completed) => ExitCode::SUCCESS,
        Ok(DemoEnd::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(error) => {
            eprintln!("\nThe demo failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> TestResult<DemoEnd> {
    let tools = Tools::find()?;
    let interrupted = interrupt::listen()?;
    let mut options = LabOptions::default().node_port_range(NODE_PORT_RANGE);
    options.nodes = (1..=NODES).map(|n| NodeSpec::new(format!("node-{n}"))).collect();
    options.operator = Some(tools.meshwright.clone());
    options.catalog = Some(tools.catalog.clone());
    output::step(
        1,
        &format!(
            "start a cluster: etcd, API server, controllers, scheduler, {NODES} nodes, node ports {NODE_PORT_RANGE}"
        ),
    );
    let started = Instant::now();
    with_lab(options, async |lab| {
        output::done("the API server is ready", started.elapsed());
        run(lab, &tools, &interrupted).await
    })
}

/// Runs the demo until its end or Ctrl-C. Prints a dump of the cluster state after a failure.
async fn run(lab: &Lab, tools: &Tools, interrupted: &CancellationToken) -> TestResult<DemoEnd> {
    let outcome = tokio::select! {
        outcome = steps::run(lab, tools) => outcome.map(|()| DemoEnd::Completed),
        () = interrupted.cancelled() => Ok(DemoEnd::Interrupted),
    };
    if outcome.is_err() {
        let dump = tokio::time::timeout(DUMP_DEADLINE, lab.dump()).await;
        eprintln!("{}", dump.unwrap_or_else(|_| "the API server didn't respond in time for a dump".to_owned()));
    } else if matches!(outcome, Ok(DemoEnd::Completed)) && !tools.exit {
        output::line("\nThe cluster runs until you press Ctrl-C.");
        interrupted.cancelled().await;
    }
    output::line("\nStopping the cluster and deleting its files.");
    outcome
}

impl Tools {
    /// Locates all files before the cluster starts.
    fn find() -> TestResult<Self> {
        if Lab::is_external() {
            return Err(
                "the demo starts a cluster of its own and breaks it; run it without MESHWRIGHT_LAB=external".into()
            );
        }
        Programs::find()?;
        // Paths must be absolute, because Pods have their own working directories.
        let catalog = programs::catalog().and_then(|dir| dir.canonicalize().ok());
        let catalog = catalog.ok_or("MESHWRIGHT_CATALOG is not set to an existing directory; `make demo` sets it")?;
        let meshwright = programs::operator();
        let missing = |_| format!("{} does not exist; build it with: cargo build -p meshwright", meshwright.display());
        let meshwright = meshwright.canonicalize().map_err(missing)?;
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config").canonicalize()?;
        let exit = std::env::var_os("DEMO_EXIT").is_some_and(|value| value == "1");
        Ok(Self { meshwright, catalog, config, exit })
    }
}
