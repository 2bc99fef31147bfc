//! `make demo`: a mesh from nothing, on this machine, as a person would like to watch it.
//!
//! Starts a lab, installs the operator as a person would, applies config/samples, breaks the mesh and shows it heal.
//! Everything here does I/O; what is computed lies in small functions beside it.

mod act;
mod farewell;
mod heal;
mod interrupt;
mod sample;
mod shop;
mod tell;
mod watching;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use meshwright_e2e::{Lab, LabOptions, NodeSpec, Programs, TestResult, programs, with_lab};
use tokio_util::sync::CancellationToken;

/// The range that a provider without load balancers gave its customers.
const NODE_PORT_RANGE: &str = "30400-30449";
const NODES: usize = 3;
/// What a shell makes of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;
/// What went wrong must not be hidden by a dump that hangs.
const DUMP_DEADLINE: Duration = Duration::from_mins(1);

/// How the demo came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Shown,
    Interrupted,
}

/// What the demo needs beside the lab.
struct Tools {
    /// The operator, which is also the command that shows the state.
    meshwright: PathBuf,
    /// Releases of Istio.
    catalog: PathBuf,
    /// config/ of the checkout.
    config: PathBuf,
    /// Ends by itself rather than wait for Ctrl-C.
    exit: bool,
}

fn main() -> ExitCode {
    match demo() {
        Ok(End::Shown) => ExitCode::SUCCESS,
        Ok(End::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(error) => {
            eprintln!("\nThe demo failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> TestResult<End> {
    let tools = Tools::find()?;
    let interrupted = interrupt::listen()?;
    let mut options = LabOptions::default().node_port_range(NODE_PORT_RANGE);
    options.nodes = (1..=NODES).map(|n| NodeSpec::new(format!("node-{n}"))).collect();
    options.operator = Some(tools.meshwright.clone());
    options.catalog = Some(tools.catalog.clone());
    tell::step(
        1,
        &format!("a cluster: etcd, API server, controllers, scheduler, {NODES} nodes, node ports {NODE_PORT_RANGE}"),
    );
    let started = Instant::now();
    with_lab(options, async |lab| {
        tell::done("the API server is ready", started.elapsed());
        play(lab, &tools, &interrupted).await
    })
}

/// The demo, until its end or Ctrl-C. What a person would ask for after a failure is printed while the lab is there.
async fn play(lab: &Lab, tools: &Tools, interrupted: &CancellationToken) -> TestResult<End> {
    let outcome = tokio::select! {
        outcome = act::play(lab, tools) => outcome.map(|()| End::Shown),
        () = interrupted.cancelled() => Ok(End::Interrupted),
    };
    if outcome.is_err() {
        let dump = tokio::time::timeout(DUMP_DEADLINE, lab.dump()).await;
        eprintln!("{}", dump.unwrap_or_else(|_| "the API server didn't answer in time for a dump".to_owned()));
    } else if matches!(outcome, Ok(End::Shown)) && !tools.exit {
        tell::line("\nThe cluster stays until you press Ctrl-C.");
        interrupted.cancelled().await;
    }
    tell::line("\nStopping the cluster; nothing is left behind.");
    outcome
}

impl Tools {
    /// Looks for everything before anything is started.
    fn find() -> TestResult<Self> {
        if Lab::is_external() {
            return Err(
                "the demo starts a cluster of its own and breaks it; run it without MESHWRIGHT_LAB=external".into()
            );
        }
        Programs::find()?;
        // Pods have working directories of their own, so paths are made absolute.
        let catalog = programs::catalog().and_then(|dir| dir.canonicalize().ok());
        let catalog = catalog.ok_or("MESHWRIGHT_CATALOG names no directory of Istio releases; `make demo` sets it")?;
        let meshwright = programs::operator();
        let missing = |_| format!("the operator is not built: no {}; cargo build -p meshwright", meshwright.display());
        let meshwright = meshwright.canonicalize().map_err(missing)?;
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config").canonicalize()?;
        let exit = std::env::var_os("DEMO_EXIT").is_some_and(|value| value == "1");
        Ok(Self { meshwright, catalog, config, exit })
    }
}
