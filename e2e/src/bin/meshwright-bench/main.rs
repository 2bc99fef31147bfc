//! What Meshwright costs, measured on the lab with a release build: prints a table of figures beside their budgets and
//! those of the strongest peer. Timings are reported and never judged: they say as much of the machine as of the operator.
//! Everything here does I/O but `cost.rs` and `table.rs`.

mod cost;
mod heal;
mod install;
mod memory;
mod silence;
mod start;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use meshwright_e2e::{LabOptions, TestResult, mesh, with_lab};
use table::Table;

/// What can be measured apart from the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Time and writes of an installation, with istiod played by kwok
    Install,
    /// The same with the real istiod, until it is Ready
    Ready,
    /// What is deleted or edited comes back
    Heal,
    /// Writes at rest and while pods come and go
    Silence,
    /// Start, restart and hand-over
    Start,
    /// Resident set
    Memory,
}

#[derive(Parser)]
#[command(name = "meshwright-bench", about = "Measures the operator on the lab; needs a release build of it")]
struct Options {
    /// The operator; default: the release build of this checkout
    #[arg(long, env = "MESHWRIGHT_BIN", default_value = "target/release/meshwright")]
    operator: PathBuf,
    /// Only these parts
    #[arg(long, env = "BENCH_ONLY", value_delimiter = ',', value_enum)]
    only: Vec<Part>,
    /// Installations measured; the median is shown
    #[arg(long, env = "BENCH_INSTALLS", default_value_t = 3)]
    installs: usize,
    /// Deletions of each kind; the median is shown
    #[arg(long, env = "BENCH_HEALS", default_value_t = 5)]
    heals: usize,
    /// Only these kinds are deleted: plurals, with commas
    #[arg(long, env = "BENCH_KINDS", value_delimiter = ',')]
    kinds: Vec<String>,
    /// How long writes at rest are counted
    #[arg(long, env = "BENCH_IDLE_SECONDS", default_value_t = 300)]
    idle_seconds: u64,
    /// Injected pods that come and go
    #[arg(long, env = "BENCH_CHURN", default_value_t = 500)]
    churn: usize,
    /// Pods that are there when the resident set is measured
    #[arg(long, env = "BENCH_PODS", default_value_t = 10_000)]
    pods: usize,
}

impl Options {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    fn lab(&self) -> LabOptions {
        let mut options = LabOptions::default().needs_own_lab();
        options.operator = Some(self.operator.clone());
        options
    }
}

fn main() -> ExitCode {
    match bench(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("meshwright-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(mut options: Options) -> TestResult {
    let given = options.operator.display().to_string();
    let missing = |error| format!("{given}: {error}; build the operator with: make release");
    options.operator = options.operator.canonicalize().map_err(missing)?;
    let mut table = Table::default();
    let outcome = measure(&options, &mut table);
    // What was measured before something failed took minutes, too.
    table.print();
    outcome
}

fn measure(options: &Options, table: &mut Table) -> TestResult {
    sizes(options, table)?;
    if options.wants(Part::Install) {
        install::measure(options, table)?;
    }
    if [Part::Ready, Part::Heal, Part::Silence, Part::Start].into_iter().any(|part| options.wants(part)) {
        with_lab(options.lab().audited(), async |lab| {
            let mesh = mesh::Mesh::operator(lab).await?;
            install::ready(lab, &mesh, table).await?;
            if options.wants(Part::Silence) {
                silence::measure(lab, &mesh, options, table).await?;
            }
            if options.wants(Part::Heal) {
                heal::measure(lab, &mesh, options, table).await?;
            }
            if options.wants(Part::Start) {
                start::measure(lab, &mesh, table).await?;
            }
            Ok(())
        })?;
    }
    if options.wants(Part::Memory) {
        with_lab(options.lab(), async |lab| memory::measure(lab, options, table).await)?;
    }
    Ok(())
}

fn sizes(options: &Options, table: &mut Table) -> TestResult {
    let of = |path: &std::path::Path| std::fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()));
    let crd = mesh::config().join("crd/meshinstallations.yaml");
    table.row("size of the binary", table::megabytes(of(&options.operator)?.len()), "< 20 MB", "74 MB");
    table.row("size of its CRD", table::megabytes(of(&crd)?.len()), "< 0.2 MB", "2.2 MB");
    Ok(())
}
