//! `meshwright status`: shows the status that the operator reports.

mod describe;
mod history;
mod proxies;
mod screen;
mod summary;
mod table;
mod watch;

use std::io;
use std::process::ExitCode;

use clap::Args;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use kube_runtime::watcher;
use meshwright_api::conditions::{ConditionType, is_true};
use meshwright_api::{MeshInstallation, MeshInstallationStatus};
use thiserror::Error;

use crate::apply::{RevisionHistoryError, absent};

use super::cluster::{self, ClusterArgs, ClusterError};
use super::names::namespace;
use super::output::{OutputFormat, print};
use super::text;
use screen::Screen;

/// Exit status if a MeshInstallation isn't ready, so that scripts can distinguish it from an error.
const NOT_READY: u8 = 3;

/// Flags of `meshwright status`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  # Show the status of all MeshInstallations
  meshwright status

  # Follow the status of one MeshInstallation
  meshwright status mesh --watch

  # List workloads with their proxy versions
  meshwright status --proxies

  # Show the revision history with the changes of each revision
  meshwright status mesh --history

Exit status: 0 if all shown MeshInstallations are ready, 3 if one is not ready or there is none, 1 on an error. With --proxies \
or --history: 0, or 1 on an error.

The JSON output of --proxies is one object: format (1) and proxies, a list with namespace, kind and name of the workload, \
version (or Unknown), revision, meshVersion (null if no mesh has this revision), pods and outdated.")]
pub struct StatusArgs {
    /// Name of the MeshInstallation [default: all]
    name: Option<String>,
    /// Keep watching for changes
    #[arg(long, short)]
    watch: bool,
    /// Show proxies by workload and version
    #[arg(long, conflicts_with = "watch")]
    proxies: bool,
    /// Show the revision history, with outcome and changes of each revision
    #[arg(long, conflicts_with = "watch")]
    history: bool,
    /// Namespace of the operator, which has the revision history
    #[arg(long, value_parser = namespace, default_value = super::OPERATOR_NAMESPACE, requires = "history", value_name = "NAMESPACE")]
    operator_namespace: String,
    /// Output format; json prints the MeshInstallations, with --watch one line per change
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Text, value_name = "FORMAT")]
    output: OutputFormat,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// The status can't be shown.
#[derive(Debug, Error)]
pub enum StatusError {
    /// The cluster can't be reached.
    #[error(transparent)]
    Cluster(ClusterError),
    /// Signal handlers can't be installed.
    #[error("can't install a signal handler")]
    ListenForInterrupt(#[source] io::Error),
    /// The CRD isn't installed.
    #[error(
        "the MeshInstallation CRD is not installed; to install the operator (docs/install.md), run: meshwright install \
         --image IMAGE | kubectl apply --server-side -f -"
    )]
    NotServed,
    /// There is no MeshInstallation with this name.
    #[error("MeshInstallation {name:?} not found; {known}")]
    NotFound {
        /// The requested name.
        name: String,
        /// The existing ones, for the message.
        known: String,
    },
    /// MeshInstallations can't be listed.
    #[error("can't read MeshInstallations")]
    List(#[source] Box<kube::Error>),
    /// The revision history can't be read.
    #[error("can't read the revision history")]
    History(#[source] RevisionHistoryError),
    /// The watch can't be started.
    #[error("can't watch MeshInstallations")]
    Watch(#[source] Box<watcher::Error>),
    /// Pods can't be listed.
    #[error("can't list pods")]
    ListPods(#[source] Box<kube::Error>),
    /// The object can't be serialized.
    #[error("can't write a MeshInstallation as JSON")]
    Encode(#[source] serde_json::Error),
    /// The output can't be written.
    #[error("can't write the output")]
    Print(#[source] io::Error),
}

/// Shows the MeshInstallations of a cluster.
pub fn run(args: &StatusArgs) -> Result<ExitCode, StatusError> {
    match cluster::block_on(status(args)).map_err(StatusError::Cluster)? {
        // A closed pipe is not an error: `meshwright status | head`.
        Err(StatusError::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        outcome => outcome,
    }
}

async fn status(args: &StatusArgs) -> Result<ExitCode, StatusError> {
    let clients = cluster::connect(&args.cluster).await.map_err(StatusError::Cluster)?.clients;
    let found = find(&clients.requests, args.name.as_deref()).await?;
    if args.proxies {
        return proxies::show(&clients.requests, &found, args.name.is_some(), args.output == OutputFormat::Json).await;
    }
    if args.history {
        let histories = history::read(&clients.requests, &args.operator_namespace, &found).await?;
        let text = match args.output {
            OutputFormat::Text => history::text(&histories),
            OutputFormat::Json => format!("{:#}\n", history::object(&histories)),
        };
        print(anstream::stdout().lock(), &text).map_err(StatusError::Print)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut screen = Screen::new(args.output == OutputFormat::Json, args.watch, args.name.is_some());
    screen.show(&found, None)?;
    let last = if args.watch { watch::watch(&clients, args.name.as_deref(), found, &mut screen).await? } else { found };
    let ready = !last.is_empty() && last.iter().all(is_ready);
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::from(NOT_READY) })
}

/// The MeshInstallation with this name, or all, sorted by name.
async fn find(client: &Client, name: Option<&str>) -> Result<Vec<MeshInstallation>, StatusError> {
    let api: Api<MeshInstallation> = Api::all(client.clone());
    let listed = api.list(&ListParams::default()).await;
    let all = listed.map_err(|error| match error {
        error if absent(&error) => StatusError::NotServed,
        error => StatusError::List(Box::new(error)),
    })?;
    let names: Vec<String> = all.iter().map(|mesh| format!("{:?}", mesh.name_any())).collect();
    let found: Vec<_> = all.items.into_iter().filter(|mesh| name.is_none_or(|name| mesh.name_any() == name)).collect();
    match name {
        Some(name) if found.is_empty() => Err(StatusError::NotFound { name: name.to_owned(), known: known(&names) }),
        _ => Ok(found),
    }
}

fn known(names: &[String]) -> String {
    if names.is_empty() { "the cluster has none".to_owned() } else { format!("the cluster has {}", names.join(", ")) }
}

/// The status, if the operator has written one: the CRD's default is an empty status.
fn observed(mesh: &MeshInstallation) -> Option<&MeshInstallationStatus> {
    mesh.status.as_ref().filter(|status| status.observed_generation >= 0)
}

/// Whether the status is for the current generation.
fn is_current(mesh: &MeshInstallation) -> bool {
    let generation = mesh.metadata.generation.unwrap_or_default();
    observed(mesh).is_some_and(|status| status.observed_generation >= generation)
}

/// Whether the mesh is ready for the current generation.
fn is_ready(mesh: &MeshInstallation) -> bool {
    is_current(mesh) && observed(mesh).is_some_and(|status| is_true(&status.conditions, ConditionType::Ready))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_found_error_lists_existing_names() {
        let error = StatusError::NotFound { name: "mesh".into(), known: known(&["\"demo\"".into()]) };
        assert_eq!(error.to_string(), "MeshInstallation \"mesh\" not found; the cluster has \"demo\"");
        assert_eq!(known(&[]), "the cluster has none");
    }

    #[test]
    fn ready_requires_current_generation() {
        let mut mesh = describe::samples::ready();
        assert!(is_ready(&mesh));
        mesh.metadata.generation = Some(2);
        assert!(!is_ready(&mesh));
        mesh.status = Some(MeshInstallationStatus::default());
        mesh.metadata.generation = None;
        assert!(!is_ready(&mesh));
    }
}
