//! Interrupts every stage of a mesh's lifecycle after every number of writes, by killing the operator or changing the
//! spec, compares the result with an uninterrupted run, and prints a table. A full run takes about an hour and a half.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use meshwright_e2e::crash::{Baseline, ClusterSnapshot, CrashResult, Lifecycle, MAX_EXTRA_WRITES, Stage};
use meshwright_e2e::mesh::{LAB_1_32, LAB_1_32_PATCH};
use meshwright_e2e::{LabOptions, TestResult, with_lab};

const LONG: [Stage; 5] = [Stage::Install, Stage::Upgrade, Stage::Rollback, Stage::Revert, Stage::Uninstall];
const SHORT: [Stage; 3] = [Stage::Install, Stage::Retarget, Stage::Uninstall];
const CANARY: [Stage; 3] = [Stage::Install, Stage::Canary, Stage::Uninstall];

/// Sequences of stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CrashScenario {
    /// Install, upgrade, roll back, start and revert a patch upgrade, uninstall
    Long,
    /// Install, upgrade with a version change during the upgrade, uninstall
    Short,
    /// Install, canary upgrade, uninstall
    Canary,
}

impl CrashScenario {
    const fn stages(self) -> &'static [Stage] {
        match self {
            Self::Long => &LONG,
            Self::Short => &SHORT,
            Self::Canary => &CANARY,
        }
    }
}

#[derive(Parser)]
#[command(
    name = "meshwright-crash-matrix",
    about = "Interrupt the operator after every number of writes and compare the result with an uninterrupted run"
)]
struct MatrixOptions {
    /// Test only every n-th number of writes
    #[arg(long, env = "CRASH_EVERY", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    every: u16,
    /// First number of writes
    #[arg(long, env = "CRASH_FROM", default_value_t = 0)]
    from: usize,
    /// Last number of writes
    #[arg(long, env = "CRASH_TO", default_value_t = usize::MAX)]
    to: usize,
    /// Scenarios to run
    #[arg(long, env = "CRASH_SCENARIOS", value_enum, value_delimiter = ',', default_value = "long,short,canary")]
    scenarios: Vec<CrashScenario>,
}

/// Uninterrupted runs and expected cluster states, by stage.
struct Expectations {
    baselines: BTreeMap<Stage, Baseline>,
    snapshots: BTreeMap<Stage, ClusterSnapshot>,
}

fn main() -> ExitCode {
    match run_matrix(&MatrixOptions::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("meshwright-crash-matrix: {error}");
            ExitCode::FAILURE
        }
    }
}

fn lab_options() -> LabOptions {
    LabOptions::default().needs_own_lab()
}

fn run_matrix(options: &MatrixOptions) -> TestResult<bool> {
    let expectations = with_lab(lab_options(), async |lab| run_baselines(&mut Lifecycle::start(lab).await?).await)?;
    let mut results = Vec::new();
    for stages in options.scenarios.iter().map(|scenario| scenario.stages()) {
        let mut limits = write_limits(options, stages, &expectations).into_iter().peekable();
        while limits.peek().is_some() {
            // A lab is reused until the first failure.
            let lab_results = with_lab(lab_options(), async |lab| {
                let mut lifecycle = Lifecycle::start(lab).await?;
                let mut results = Vec::new();
                while results.iter().all(CrashResult::passed) {
                    let Some(writes) = limits.next() else { break };
                    run_scenario(&mut lifecycle, stages, writes, &expectations, &mut results).await?;
                }
                Ok(results)
            });
            match lab_results {
                Ok(lab_results) => results.extend(lab_results),
                Err(error) => eprintln!("a lab failed: {error}"),
            }
        }
    }
    print_table(&results, &expectations);
    Ok(results.iter().all(CrashResult::passed))
}

/// Runs every stage uninterrupted and determines the expected cluster states.
async fn run_baselines(lifecycle: &mut Lifecycle<'_>) -> TestResult<Expectations> {
    let mut baselines = BTreeMap::new();
    for stage in [Stage::Install, Stage::Upgrade, Stage::Rollback, Stage::Uninstall] {
        baselines.insert(stage, print_baseline(stage, lifecycle.run_baseline(stage).await?));
    }
    let minor = lifecycle.install_directly(LAB_1_32).await?;
    // The baseline of Revert gives only the number of writes; its expected state is a direct installation.
    baselines.insert(Stage::Revert, print_baseline(Stage::Revert, lifecycle.run_baseline(Stage::Revert).await?));
    lifecycle.run_baseline(Stage::Uninstall).await?;
    let patch = lifecycle.install_directly(LAB_1_32_PATCH).await?;
    lifecycle.run_baseline(Stage::Uninstall).await?;
    if let Some(upgraded) = baselines.get(&Stage::Upgrade).cloned() {
        let differences = minor.differences(&upgraded.snapshot);
        println!("differences between an upgrade and a direct installation: {differences:#?}");
        baselines.insert(Stage::Retarget, upgraded);
    }
    lifecycle.run_baseline(Stage::Install).await?;
    baselines.insert(Stage::Canary, print_baseline(Stage::Canary, lifecycle.run_baseline(Stage::Canary).await?));
    lifecycle.run_baseline(Stage::Uninstall).await?;
    let mut snapshots: BTreeMap<Stage, ClusterSnapshot> =
        baselines.iter().map(|(stage, baseline)| (*stage, baseline.snapshot.clone())).collect();
    snapshots.extend([(Stage::Revert, minor), (Stage::Retarget, patch)]);
    Ok(Expectations { baselines, snapshots })
}

fn print_baseline(stage: Stage, baseline: Baseline) -> Baseline {
    let objects = baseline.mesh_writes();
    println!("{}, uninterrupted: {} writes, {objects} to objects of the mesh", stage.name(), baseline.sent);
    baseline
}

/// Write limits to test for a scenario.
fn write_limits(options: &MatrixOptions, stages: &[Stage], expectations: &Expectations) -> Vec<usize> {
    let sent = stages.iter().filter_map(|stage| expectations.baselines.get(stage)).map(|baseline| baseline.sent);
    let last = sent.max().unwrap_or_default();
    (options.from..=last.min(options.to)).step_by(usize::from(options.every)).collect()
}

/// Runs a scenario with an interruption after `writes` writes in every stage; stops at the first failure.
async fn run_scenario(
    lifecycle: &mut Lifecycle<'_>,
    stages: &[Stage],
    writes: usize,
    expectations: &Expectations,
    results: &mut Vec<CrashResult>,
) -> TestResult {
    for stage in stages {
        let baseline = expectations.baselines.get(stage);
        let (Some(baseline), Some(expected)) = (baseline, expectations.snapshots.get(stage)) else { continue };
        // The long scenario already covers these stages.
        let covered = stages != LONG && matches!(stage, Stage::Install | Stage::Uninstall);
        if writes > baseline.sent || covered {
            lifecycle.run_baseline(*stage).await?;
            continue;
        }
        let result = lifecycle.run_interrupted(*stage, writes, baseline, expected).await?;
        let passed = result.passed();
        println!("{result}");
        if !passed {
            eprintln!("{}", result.report());
        }
        results.push(result);
        if !passed {
            break;
        }
    }
    Ok(())
}

fn print_table(results: &[CrashResult], expectations: &Expectations) {
    println!("| stage | runs | limit reached | passed | object writes, uninterrupted | maximum |");
    println!("|---|---|---|---|---|---|");
    for (stage, baseline) in &expectations.baselines {
        let of_stage: Vec<_> = results.iter().filter(|result| result.stage == *stage).collect();
        let reached = of_stage.iter().filter(|result| result.reached).count();
        let passed = of_stage.iter().filter(|result| result.passed()).count();
        let maximum = of_stage.iter().map(|result| result.mesh_writes.1).max().unwrap_or_default();
        let (name, runs, objects) = (stage.name(), of_stage.len(), baseline.mesh_writes());
        println!("| {name} | {runs} | {reached} | {passed} | {objects} | {maximum} |");
    }
    println!("A restarted operator may send at most {MAX_EXTRA_WRITES} additional object writes.");
}
