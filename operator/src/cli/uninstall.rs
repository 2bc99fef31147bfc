//! `meshwright uninstall`: takes the operator away so that nothing hangs: first the meshes, as its user says, then what
//! the operator consists of.

mod found;
mod plan;
mod steps;

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use meshwright_api::DeletionPolicy;
use tokio::time::Instant;

use super::cluster::{self, ClusterArgs, ClusterError};
use super::names::namespace;
use super::output::print;
use plan::Refusal;

/// Flags of `meshwright uninstall`.
#[derive(Args, Debug)]
#[command(after_help = "\
Says what it is going to do and asks, or wants --yes where there is no terminal. Istio's namespace always stays: the \
mesh's certificate authority is in it, in Secret istio-ca-secret. What Helm, Flux, Argo CD or OLM has made is left to them.

Exit status: 0 when nothing of it is left, and with --dry-run; 1 where it is refused, fails, or takes longer than --timeout. \
It can be run again, and goes on from there.")]
pub struct UninstallArgs {
    /// What becomes of the meshes; where there are any, it has to be said
    #[arg(long, value_enum, value_name = "FATE")]
    meshes: Option<Fate>,
    /// Remove the definition of MeshInstallations too
    #[arg(long)]
    crd: bool,
    /// Namespace of the operator
    #[arg(long, value_parser = namespace, default_value = super::OPERATOR_NAMESPACE, value_name = "NAMESPACE")]
    operator_namespace: String,
    /// Only say what would be done
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Don't ask
    #[arg(long, short)]
    yes: bool,
    /// How long to wait for it all to be gone, in seconds
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400), value_name = "SECONDS")]
    timeout: u64,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// What becomes of meshes when their operator goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Fate {
    /// They are removed, by the operator, before it goes
    Uninstall,
    /// They go on running, without an operator
    Orphan,
}

impl Fate {
    const fn policy(self) -> DeletionPolicy {
        match self {
            Self::Uninstall => DeletionPolicy::Uninstall,
            Self::Orphan => DeletionPolicy::Orphan,
        }
    }
}

/// The operator is not removed, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum UninstallError {
    /// The cluster can't be asked.
    #[error(transparent)]
    Cluster(ClusterError),
    /// Something that may have to go can't be read.
    #[error("can't read {what}")]
    Read {
        /// What.
        what: String,
        /// Cause.
        #[source]
        source: Box<kube::Error>,
    },
    /// It must not be done like this.
    #[error("{0}; nothing was changed")]
    Refused(Refusal),
    /// Nobody said yes.
    #[error("nobody to ask, since standard input is no terminal: say --yes; nothing was changed")]
    NobodyToAsk,
    /// Somebody said no.
    #[error("nothing was changed")]
    Declined,
    /// The answer can't be read.
    #[error("can't read the answer; nothing was changed")]
    Ask(#[source] io::Error),
    /// Something can't be changed or deleted.
    #[error("can't remove {what}")]
    Write {
        /// What.
        what: String,
        /// Cause.
        #[source]
        source: Box<kube::Error>,
    },
    /// A mesh came while the others went.
    #[error("meanwhile there is MeshInstallation {0}: the operator stays; run it again")]
    Newcomer(String),
    /// Something doesn't go.
    #[error("{what} is still there after {} s: {state}{advice}", .after.as_secs())]
    Deadline {
        /// What.
        what: String,
        /// How long it was waited for.
        after: Duration,
        /// What it waits for.
        state: String,
        /// What else can be done.
        advice: &'static str,
    },
    /// The output can't be written.
    #[error("can't write the output")]
    Print(#[source] io::Error),
}

/// Removes the operator from a cluster.
pub fn run(args: &UninstallArgs) -> Result<ExitCode, UninstallError> {
    cluster::block_on(uninstall(args)).map_err(UninstallError::Cluster)?
}

async fn uninstall(args: &UninstallArgs) -> Result<ExitCode, UninstallError> {
    let client = cluster::connect(&args.cluster).await.map_err(UninstallError::Cluster)?.clients.requests;
    let found = found::find(&client, &args.operator_namespace).await?;
    if let Some(refusal) = plan::refusal(&found, args.meshes) {
        return Err(UninstallError::Refused(refusal));
    }
    say(&plan::text(&found, args.meshes, args.crd))?;
    if args.dry_run || plan::is_done(&found, args.crd) {
        return Ok(ExitCode::SUCCESS);
    }
    if !args.yes {
        ask()?;
    }
    let after = Duration::from_secs(args.timeout);
    let steps = steps::Steps { client, after, until: Instant::now() + after };
    steps.end_meshes(&found, args.meshes).await?;
    if found.maker.is_none() {
        steps.remove(&found, args.crd, &args.operator_namespace).await?;
    }
    Ok(ExitCode::SUCCESS)
}

fn say(text: &str) -> Result<(), UninstallError> {
    print(anstream::stdout().lock(), text).map_err(UninstallError::Print)
}

fn ask() -> Result<(), UninstallError> {
    let input = io::stdin();
    if !input.is_terminal() {
        return Err(UninstallError::NobodyToAsk);
    }
    say("Do it? [y/N] ")?;
    let mut answer = String::new();
    input.read_line(&mut answer).map_err(UninstallError::Ask)?;
    if plan::means_yes(&answer) { Ok(()) } else { Err(UninstallError::Declined) }
}
