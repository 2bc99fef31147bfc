//! `meshwright status`: what the operator says about the mesh, as a person would like to read it.

mod history;
mod line;
mod picture;
mod proxies;
mod sheet;
mod show;
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

use crate::apply::{RevisionError, absent};

use super::cluster::{self, ClusterArgs, ClusterError};
use super::names::namespace;
use super::output::{Output, print};
use super::text;
use show::Screen;

/// Where an installation is not ready, so that a script can tell that from a command that failed.
const NOT_READY: u8 = 3;

/// Flags of `meshwright status`.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit status: 0 when every installation shown is ready, 3 when one is not or there is none, 1 on an error. With --proxies or --history: 0, or 1 on an error.\n\nThe JSON form of --proxies is one object: format (1) and proxies, a list of namespace, kind and name of the workload, version (or Unknown), revision, meshVersion (null where no mesh of that revision runs), pods and outdated."
)]
pub struct StatusArgs {
    /// The MeshInstallation to show; all of them if absent
    name: Option<String>,
    /// Show it again whenever it changes, until interrupted
    #[arg(long, short)]
    watch: bool,
    /// Show the proxies that run, by workload and version, instead
    #[arg(long, conflicts_with = "watch")]
    proxies: bool,
    /// Show the specs that the operator has accepted instead, what became of each, and what it changed
    #[arg(long, conflicts_with = "watch")]
    history: bool,
    /// Namespace of the operator, where it remembers what --history shows
    #[arg(long, value_parser = namespace, default_value = super::OPERATOR_NAMESPACE, requires = "history", value_name = "NAMESPACE")]
    operator_namespace: String,
    /// How to show it; json prints the objects themselves, one line for each change with --watch
    #[arg(long, short, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
    output: Output,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// The state could not be shown.
#[derive(Debug, Error)]
pub enum StatusError {
    /// The cluster can't be asked.
    #[error(transparent)]
    Cluster(ClusterError),
    /// The process can't be told of Ctrl-C.
    #[error("can't listen for an interrupt")]
    ListenForInterrupt(#[source] io::Error),
    /// The cluster has no such kind.
    #[error(
        "this cluster does not know MeshInstallations, so the operator isn't installed; docs/install.md has the ways, the \
         shortest is: meshwright install --image IMAGE | kubectl apply --server-side -f -"
    )]
    NotServed,
    /// There is no installation of that name.
    #[error("no MeshInstallation is called {name:?}; {known}")]
    NotFound {
        /// What was asked for.
        name: String,
        /// Those that there are, as a sentence.
        known: String,
    },
    /// The API server didn't answer, or refused.
    #[error("can't read MeshInstallations")]
    List(#[source] Box<kube::Error>),
    /// What is remembered can't be read.
    #[error("can't read the history")]
    History(#[source] RevisionError),
    /// The first list of a watch failed.
    #[error("can't watch MeshInstallations")]
    Watch(#[source] Box<watcher::Error>),
    /// Pods could not be listed.
    #[error("can't list pods with a proxy")]
    ListPods(#[source] Box<kube::Error>),
    /// The object has no JSON form.
    #[error("can't write a MeshInstallation as JSON")]
    Encode(#[source] serde_json::Error),
    /// Nothing can be printed.
    #[error("can't print the state")]
    Print(#[source] io::Error),
}

/// Shows the installations of a cluster.
pub fn run(args: &StatusArgs) -> Result<ExitCode, StatusError> {
    match cluster::block_on(status(args)).map_err(StatusError::Cluster)? {
        // Whoever read has read enough: `meshwright status | head`.
        Err(StatusError::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        outcome => outcome,
    }
}

async fn status(args: &StatusArgs) -> Result<ExitCode, StatusError> {
    let clients = cluster::connect(&args.cluster).await.map_err(StatusError::Cluster)?.clients;
    let found = find(&clients.requests, args.name.as_deref()).await?;
    if args.proxies {
        return proxies::show(&clients.requests, &found, args.name.is_some(), args.output == Output::Json).await;
    }
    if args.history {
        let histories = history::read(&clients.requests, &args.operator_namespace, &found).await?;
        let text = match args.output {
            Output::Text => history::text(&histories),
            Output::Json => format!("{:#}\n", history::object(&histories)),
        };
        print(anstream::stdout().lock(), &text).map_err(StatusError::Print)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut screen = Screen::new(args.output == Output::Json, args.watch, args.name.is_some());
    screen.show(&found, None)?;
    let last = if args.watch { watch::watch(&clients, args.name.as_deref(), found, &mut screen).await? } else { found };
    let ready = !last.is_empty() && last.iter().all(is_ready);
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::from(NOT_READY) })
}

/// The installation of that name, or all, by name.
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

/// The status, where there is one that the operator wrote: the CRD gives every new object an empty one.
fn observed(mesh: &MeshInstallation) -> Option<&MeshInstallationStatus> {
    mesh.status.as_ref().filter(|status| status.observed_generation >= 0)
}

/// The operator has looked at the present spec.
fn is_current(mesh: &MeshInstallation) -> bool {
    let generation = mesh.metadata.generation.unwrap_or_default();
    observed(mesh).is_some_and(|status| status.observed_generation >= generation)
}

/// The mesh is as the present spec says, and works.
fn is_ready(mesh: &MeshInstallation) -> bool {
    is_current(mesh) && observed(mesh).is_some_and(|status| is_true(&status.conditions, ConditionType::Ready))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_there_is_answered_with_those_that_are() {
        let error = StatusError::NotFound { name: "mesh".into(), known: known(&["\"demo\"".into()]) };
        assert_eq!(error.to_string(), "no MeshInstallation is called \"mesh\"; the cluster has \"demo\"");
        assert_eq!(known(&[]), "the cluster has none");
    }

    #[test]
    fn a_mesh_is_ready_only_for_the_spec_that_was_looked_at() {
        let mut mesh = picture::samples::ready();
        assert!(is_ready(&mesh));
        mesh.metadata.generation = Some(2);
        assert!(!is_ready(&mesh));
        mesh.status = Some(MeshInstallationStatus::default());
        mesh.metadata.generation = None;
        assert!(!is_ready(&mesh));
    }
}
