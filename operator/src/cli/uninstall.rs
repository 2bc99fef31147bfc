//! `meshwright uninstall`: uninstalls the operator so that no deletion hangs: first the MeshInstallations, then the
//! operator's resources.

mod discover;
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
use plan::UninstallBlocker;

/// Flags of `meshwright uninstall`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  # Show what would be deleted
  meshwright uninstall --meshes uninstall --dry-run

  # Uninstall all meshes and the operator
  meshwright uninstall --meshes uninstall --crd

  # Uninstall the operator and keep the meshes running
  meshwright uninstall --meshes orphan

Lists what will be deleted and asks for confirmation; without a terminal, --yes is required. Istio's namespace is always kept \
because its Secret istio-ca-secret has the mesh's root certificate. Resources managed by Helm, Flux, Argo CD or OLM are kept.

Exit status: 0 if everything is deleted, and with --dry-run; 1 if the command is rejected, fails or takes longer than --timeout. \
It can be run again to continue.")]
pub struct UninstallArgs {
    /// How to handle the meshes; required if there are MeshInstallations
    #[arg(long, value_enum, value_name = "POLICY")]
    meshes: Option<MeshPolicy>,
    /// Also delete the MeshInstallation CRD
    #[arg(long)]
    crd: bool,
    /// Namespace of the operator
    #[arg(long, value_parser = namespace, default_value = super::OPERATOR_NAMESPACE, value_name = "NAMESPACE")]
    operator_namespace: String,
    /// Only show what would be deleted
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Don't ask for confirmation
    #[arg(long, short)]
    yes: bool,
    /// Time to wait for all deletions, in seconds
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400), value_name = "SECONDS")]
    timeout: u64,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// How to handle meshes when the operator is uninstalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MeshPolicy {
    /// The operator uninstalls the meshes before it is deleted
    Uninstall,
    /// The meshes keep running without an operator
    Orphan,
}

impl MeshPolicy {
    const fn policy(self) -> DeletionPolicy {
        match self {
            Self::Uninstall => DeletionPolicy::Uninstall,
            Self::Orphan => DeletionPolicy::Orphan,
        }
    }
}

/// The operator can't be uninstalled, or not completely.
#[derive(Debug, thiserror::Error)]
pub enum UninstallError {
    /// The cluster can't be reached.
    #[error(transparent)]
    Cluster(ClusterError),
    /// A resource can't be read.
    #[error("can't read {what}")]
    Read {
        /// The resource or resources.
        what: String,
        /// The failed request.
        #[source]
        source: Box<kube::Error>,
    },
    /// The command is rejected.
    #[error("{0}. Nothing was changed")]
    Refused(UninstallBlocker),
    /// There is no terminal for the confirmation.
    #[error("standard input is not a terminal; confirm with --yes. Nothing was changed")]
    NoTerminal,
    /// The user didn't confirm.
    #[error("aborted; nothing was changed")]
    Declined,
    /// The confirmation can't be read.
    #[error("can't read the confirmation; nothing was changed")]
    ReadConfirmation(#[source] io::Error),
    /// A resource can't be changed or deleted.
    #[error("can't delete {what}")]
    Write {
        /// The resource or resources.
        what: String,
        /// The failed request.
        #[source]
        source: Box<kube::Error>,
    },
    /// A MeshInstallation was created during the command.
    #[error("MeshInstallation {0} was created in the meantime; the operator is kept, run the command again")]
    NewInstallation(String),
    /// A deletion takes too long.
    #[error("{what} still exists after {} s: {state}{advice}", .after.as_secs())]
    Deadline {
        /// The resource or resources.
        what: String,
        /// The value of `--timeout`.
        after: Duration,
        /// What blocks the deletion.
        state: String,
        /// What the user can do instead.
        advice: &'static str,
    },
    /// The output can't be written.
    #[error("can't write the output")]
    Print(#[source] io::Error),
}

/// Uninstalls the operator from a cluster.
pub fn run(args: &UninstallArgs) -> Result<ExitCode, UninstallError> {
    cluster::block_on(uninstall(args)).map_err(UninstallError::Cluster)?
}

async fn uninstall(args: &UninstallArgs) -> Result<ExitCode, UninstallError> {
    let client = cluster::connect(&args.cluster).await.map_err(UninstallError::Cluster)?.clients.requests;
    let found = discover::find(&client, &args.operator_namespace).await?;
    if let Some(blocker) = plan::blocker(&found, args.meshes) {
        return Err(UninstallError::Refused(blocker));
    }
    say(&plan::text(&found, args.meshes, args.crd))?;
    if args.dry_run || plan::is_done(&found, args.crd) {
        return Ok(ExitCode::SUCCESS);
    }
    if !args.yes {
        confirm()?;
    }
    let after = Duration::from_secs(args.timeout);
    let steps = steps::Uninstaller { client, after, until: Instant::now() + after };
    steps.delete_meshes(&found, args.meshes).await?;
    if found.managed_by.is_none() {
        steps.remove(&found, args.crd, &args.operator_namespace).await?;
    }
    Ok(ExitCode::SUCCESS)
}

fn say(text: &str) -> Result<(), UninstallError> {
    print(anstream::stdout().lock(), text).map_err(UninstallError::Print)
}

fn confirm() -> Result<(), UninstallError> {
    let input = io::stdin();
    if !input.is_terminal() {
        return Err(UninstallError::NoTerminal);
    }
    say("Continue? [y/N] ")?;
    let mut answer = String::new();
    input.read_line(&mut answer).map_err(UninstallError::ReadConfirmation)?;
    if plan::is_yes(&answer) { Ok(()) } else { Err(UninstallError::Declined) }
}
