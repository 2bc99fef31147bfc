//! Measures the operator's cost on the lab with a release build and prints a table with budgets and the Sail Operator's
//! figures. Timings are reported but not checked, because they depend on the machine. Everything here does I/O except
//! `cost.rs` and `table.rs`.

mod cost;
mod drift;
mod idle;
mod install;
mod memory;
mod start;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use meshwright_e2e::{LabOptions, TestResult, mesh, with_lab};
use table::Table;

/// Separately measurable sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Section {
    /// Time and writes of an installation, with istiod simulated by kwok
    Install,
    /// Time until Ready with the real istiod
    Ready,
    /// Time until deleted and edited objects are restored
    Drift,
    /// Writes while idle and during pod churn
    Idle,
    /// Start, restart and leader change
    Start,
    /// Resident set size
    Memory,
}

#[derive(Parser)]
#[command(name = "meshwright-bench", about = "Measure the operator on the lab; requires a release build")]
struct BenchOptions {
    /// Path of the operator
    #[arg(long, env = "MESHWRIGHT_BIN", default_value = "target/release/meshwright")]
    operator: PathBuf,
    /// Run only these sections
    #[arg(long, env = "BENCH_ONLY", value_delimiter = ',', value_enum)]
    only: Vec<Section>,
    /// Number of installations; the table shows the median
    #[arg(long, env = "BENCH_INSTALLS", default_value_t = 3)]
    installs: usize,
    /// Number of deletions per kind; the table shows the median
    #[arg(long, env = "BENCH_REPAIRS", default_value_t = 5)]
    repairs: usize,
    /// Delete only these kinds, as comma-separated plural names
    #[arg(long, env = "BENCH_KINDS", value_delimiter = ',')]
    kinds: Vec<String>,
    /// Duration of the idle measurement in seconds
    #[arg(long, env = "BENCH_IDLE_SECONDS", default_value_t = 300)]
    idle_seconds: u64,
    /// Number of injected pods that are created and deleted
    #[arg(long, env = "BENCH_CHURN", default_value_t = 500)]
    churn: usize,
    /// Number of pods during the memory measurement
    #[arg(long, env = "BENCH_PODS", default_value_t = 10_000)]
    pods: usize,
}

impl BenchOptions {
    fn wants(&self, section: Section) -> bool {
        self.only.is_empty() || self.only.contains(&section)
    }

    fn lab(&self) -> LabOptions {
        let mut options = LabOptions::default().needs_own_lab();
        options.operator = Some(self.operator.clone());
        options
    }
}

fn main() -> ExitCode {
    match bench(BenchOptions::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("meshwright-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(mut options: BenchOptions) -> TestResult {
    let path = options.operator.display().to_string();
    let missing = |error| format!("{path}: {error}; build the operator with: make release");
    options.operator = options.operator.canonicalize().map_err(missing)?;
    let mut table = Table::default();
    let outcome = measure(&options, &mut table);
    // Prints partial results after a failure too: the measurements take minutes.
    table.print();
    outcome
}

fn measure(options: &BenchOptions, table: &mut Table) -> TestResult {
    sizes(options, table)?;
    if options.wants(Section::Install) {
        install::measure(options, table)?;
    }
    if [Section::Ready, Section::Drift, Section::Idle, Section::Start].into_iter().any(|section| options.wants(section))
    {
        with_lab(options.lab().audited(), async |lab| {
            let mesh = mesh::Mesh::install_operator(lab).await?;
            install::ready(lab, &mesh, table).await?;
            if options.wants(Section::Idle) {
                idle::measure(lab, &mesh, options, table).await?;
            }
            if options.wants(Section::Drift) {
                drift::measure(lab, &mesh, options, table).await?;
            }
            if options.wants(Section::Start) {
                start::measure(lab, &mesh, table).await?;
            }
            Ok(())
        })?;
    }
    if options.wants(Section::Memory) {
        with_lab(options.lab(), async |lab| memory::measure(lab, options, table).await)?;
    }
    Ok(())
}

fn sizes(options: &BenchOptions, table: &mut Table) -> TestResult {
    let of = |path: &std::path::Path| std::fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()));
    let crd = mesh::config_dir().join("crd/meshinstallations.yaml");
    table.row("binary size", table::megabytes(of(&options.operator)?.len()), "< 20 MB", "74 MB");
    table.row("CRD size", table::megabytes(of(&crd)?.len()), "< 0.2 MB", "2.2 MB");
    Ok(())
}
