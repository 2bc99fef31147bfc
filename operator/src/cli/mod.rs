//! The command line: one file per subcommand. Each may do the I/O that its work needs.

mod adopt;
mod catalog;
mod check;
mod cluster;
mod completion;
mod crd;
mod directories;
#[cfg(test)]
mod documents;
mod install;
mod lines;
mod manifest;
mod names;
mod operator;
mod output;
mod plan;
mod rbac;
mod render;
mod status;
mod text;
mod uninstall;

use std::error::Error;
use std::io;
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::runtime::requests::told;

/// Where the operator is, unless a flag names another namespace.
const OPERATOR_NAMESPACE: &str = "meshwright-system";
/// Where the control plane is, unless a flag names another namespace.
const MESH_NAMESPACE: &str = "istio-system";

/// Owns the life of an Istio service mesh on Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "meshwright", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator (what the Deployment does)
    Operator(operator::OperatorArgs),
    /// Show the mesh of the cluster: state, components, gateways and their ports
    Status(status::StatusArgs),
    /// Check what speaks for and against a mesh in a cluster, before anything is installed
    Check(check::CheckArgs),
    /// Show what would change in the cluster, before a MeshInstallation is applied
    Plan(plan::PlanArgs),
    /// Print the MeshInstallation for a mesh that Helm, istioctl or the Sail Operator installed
    Adopt(adopt::AdoptArgs),
    /// Print the objects that the operator would apply, without a cluster
    Render(render::RenderArgs),
    /// Maintain a catalog of Istio releases
    Catalog(catalog::CatalogArgs),
    /// Print the manifest that installs the operator
    Install(install::InstallArgs),
    /// Remove the operator from a cluster, its meshes before it
    Uninstall(uninstall::UninstallArgs),
    /// Print the MeshInstallation CRD
    Crd(crd::CrdArgs),
    /// Print the rights that the operator needs for a catalog's releases
    Rbac(rbac::RbacArgs),
    /// Print a script by which a shell completes commands and flags
    Completion(completion::CompletionArgs),
}

impl Cli {
    /// Reads the command line; ends the process where it is wrong. An environment variable that is empty counts as one that
    /// isn't set, which is how many a manifest and script leave one out.
    #[must_use]
    pub fn read() -> Self {
        let matches = without_empty_variables(Self::command()).get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// Runs the subcommand; prints its error, if any, with what led to it.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let result = match self.command {
            Command::Operator(args) => operator::run(&args).map_err(boxed),
            Command::Status(args) => status::run(&args).map_err(boxed),
            Command::Check(args) => check::run(&args).map_err(boxed),
            Command::Plan(args) => plan::run(&args).map_err(boxed),
            Command::Adopt(args) => adopt::run(&args).map_err(boxed),
            Command::Render(args) => render::run(&args).map_err(boxed),
            Command::Catalog(args) => catalog::run(args).map_err(boxed),
            Command::Install(args) => install::run(&args).map_err(boxed),
            Command::Uninstall(args) => uninstall::run(&args).map_err(boxed),
            Command::Crd(args) => crd::run(&args).map_err(boxed),
            Command::Rbac(args) => rbac::run(&args).map_err(boxed),
            Command::Completion(args) => completion::run(&args, Self::command()).map_err(boxed),
        };
        result.unwrap_or_else(|error| {
            // Who has closed the standard error doesn't want to know.
            let _ = output::print(io::stderr().lock(), &format!("meshwright: {}\n", told(error.as_ref())));
            ExitCode::FAILURE
        })
    }
}

fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &clap::Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    command
        .mut_args(|arg| if is_empty(&arg) { arg.env(Resettable::Reset) } else { arg })
        .mut_subcommands(without_empty_variables)
}

fn boxed(error: impl Error + 'static) -> Box<dyn Error> {
    Box::new(error)
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_programs_version_is_asked_of_the_program_alone() {
        let kind = |words: &[&str]| Cli::command().try_get_matches_from(words).unwrap_err().kind();
        assert_eq!(kind(&["meshwright", "--version"]), ErrorKind::DisplayVersion);
        let mistaken = ["meshwright", "render", "--file=x", "--catalog=y", "--version", "1.31.2"];
        assert_eq!(kind(&mistaken), ErrorKind::UnknownArgument);
    }
}
