//! Kills the operator, or changes its spec, after every number of writes of every stage of a mesh's life, compares what
//! comes of it with what comes of it undisturbed, and prints a table. All of it takes about an hour and a half.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use meshwright_e2e::crash::{End, Life, MORE_WRITES, Stage, Undisturbed, Verdict};
use meshwright_e2e::mesh::{LAB_1_32, LAB_1_32_PATCH};
use meshwright_e2e::{LabOptions, TestResult, with_lab};

/// The stages of the longer life.
const LONG: [Stage; 5] = [Stage::Install, Stage::Upgrade, Stage::Rollback, Stage::Change, Stage::Uninstall];
/// Those of the shorter.
const SHORT: [Stage; 3] = [Stage::Install, Stage::Forward, Stage::Uninstall];
/// Those of one with two control planes.
const CANARY: [Stage; 3] = [Stage::Install, Stage::Canary, Stage::Uninstall];

/// The lives that a mesh can lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Installed, upgraded, rolled back, set back on the way to a patch, uninstalled
    Long,
    /// Installed, upgraded to a release that changes on the way, uninstalled
    Short,
    /// Installed, upgraded by a canary, uninstalled
    Canary,
}

impl Kind {
    const fn stages(self) -> &'static [Stage] {
        match self {
            Self::Long => &LONG,
            Self::Short => &SHORT,
            Self::Canary => &CANARY,
        }
    }
}

#[derive(Parser)]
#[command(name = "meshwright-crash-matrix", about = "Kills the operator at every moment and compares what comes of it")]
struct Options {
    /// Only every n-th number of writes
    #[arg(long, env = "CRASH_EVERY", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    every: u16,
    /// The first number of writes
    #[arg(long, env = "CRASH_FROM", default_value_t = 0)]
    from: usize,
    /// No stage is disturbed after more writes than that
    #[arg(long, env = "CRASH_TO", default_value_t = usize::MAX)]
    to: usize,
    /// Only such lives
    #[arg(long, env = "CRASH_LIVES", value_enum, value_delimiter = ',', default_value = "long,short,canary")]
    lives: Vec<Kind>,
}

/// What everything is compared with.
struct Known {
    was: BTreeMap<Stage, Undisturbed>,
    ends: BTreeMap<Stage, End>,
}

fn main() -> ExitCode {
    let done = matrix(&Options::parse());
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("meshwright-crash-matrix: {error}");
            ExitCode::FAILURE
        }
    }
}

fn lab() -> LabOptions {
    LabOptions::default().needs_own_lab()
}

fn matrix(options: &Options) -> TestResult<bool> {
    let known = with_lab(lab(), async |lab| known(&mut Life::begin(lab).await?).await)?;
    let mut verdicts = Vec::new();
    for stages in options.lives.iter().map(|kind| kind.stages()) {
        let mut points = points(options, stages, &known).into_iter().peekable();
        while points.peek().is_some() {
            // A lab serves as long as all is well in it; then it proves nothing more.
            let here = with_lab(lab(), async |lab| {
                let mut life = Life::begin(lab).await?;
                let mut here = Vec::new();
                while here.iter().all(Verdict::is_good) {
                    let Some(writes) = points.next() else { break };
                    lead(&mut life, stages, writes, &known, &mut here).await?;
                }
                Ok(here)
            });
            match here {
                Ok(here) => verdicts.extend(here),
                Err(error) => eprintln!("a lab ended early: {error}"),
            }
        }
    }
    table(&verdicts, &known);
    Ok(verdicts.iter().all(Verdict::is_good))
}

/// Everything undisturbed, and what the last specs come to when they are installed directly.
async fn known(life: &mut Life<'_>) -> TestResult<Known> {
    let mut was = BTreeMap::new();
    for stage in [Stage::Install, Stage::Upgrade, Stage::Rollback, Stage::Uninstall] {
        was.insert(stage, tell(stage, life.undisturbed(stage).await?));
    }
    let first = life.directly(LAB_1_32).await?;
    // Neither is changed on the way: what counts is how many writes they take.
    was.insert(Stage::Change, tell(Stage::Change, life.undisturbed(Stage::Change).await?));
    life.undisturbed(Stage::Uninstall).await?;
    let patch = life.directly(LAB_1_32_PATCH).await?;
    life.undisturbed(Stage::Uninstall).await?;
    if let Some(upgraded) = was.get(&Stage::Upgrade).cloned() {
        let differences = first.differences(&upgraded.end);
        println!("an upgrade differs from an installation in: {differences:#?}");
        was.insert(Stage::Forward, upgraded);
    }
    life.undisturbed(Stage::Install).await?;
    was.insert(Stage::Canary, tell(Stage::Canary, life.undisturbed(Stage::Canary).await?));
    life.undisturbed(Stage::Uninstall).await?;
    let mut ends: BTreeMap<Stage, End> = was.iter().map(|(stage, was)| (*stage, was.end.clone())).collect();
    ends.extend([(Stage::Change, first), (Stage::Forward, patch)]);
    Ok(Known { was, ends })
}

fn tell(stage: Stage, was: Undisturbed) -> Undisturbed {
    println!("{}, undisturbed: {} writes, {} of the mesh's objects", stage.name(), was.sent, was.of_mesh());
    was
}

/// The numbers of writes after which any of the stages can be disturbed.
fn points(options: &Options, stages: &[Stage], known: &Known) -> Vec<usize> {
    let last = stages.iter().filter_map(|stage| known.was.get(stage)).map(|was| was.sent).max().unwrap_or_default();
    (options.from..=last.min(options.to)).step_by(usize::from(options.every)).collect()
}

/// Leads one life, and disturbs every stage after so many writes; ends it where something goes wrong.
async fn lead(
    life: &mut Life<'_>,
    stages: &[Stage],
    writes: usize,
    known: &Known,
    verdicts: &mut Vec<Verdict>,
) -> TestResult {
    for stage in stages {
        let (Some(was), Some(end)) = (known.was.get(stage), known.ends.get(stage)) else { continue };
        // The other lives differ from the long one in what they are about.
        let same = stages != LONG && matches!(stage, Stage::Install | Stage::Uninstall);
        if writes > was.sent || same {
            life.undisturbed(*stage).await?;
            continue;
        }
        let verdict = life.disturbed(*stage, writes, was, end).await?;
        let good = verdict.is_good();
        println!("{verdict}");
        if !good {
            eprintln!("{}", verdict.report());
        }
        verdicts.push(verdict);
        if !good {
            break;
        }
    }
    Ok(())
}

fn table(verdicts: &[Verdict], known: &Known) {
    println!("| stage | tried | came so far | as undisturbed | writes of objects, undisturbed | most |");
    println!("|---|---|---|---|---|---|");
    for (stage, was) in &known.was {
        let of: Vec<_> = verdicts.iter().filter(|verdict| verdict.stage == *stage).collect();
        let reached = of.iter().filter(|verdict| verdict.reached).count();
        let good = of.iter().filter(|verdict| verdict.is_good()).count();
        let most = of.iter().map(|verdict| verdict.of_mesh.1).max().unwrap_or_default();
        println!("| {} | {} | {reached} | {good} | {} | {most} |", stage.name(), of.len(), was.of_mesh());
    }
    println!("A killed operator may write {MORE_WRITES} objects more often than one that goes on.");
}
