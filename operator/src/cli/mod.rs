//! The command line: one file per subcommand. Subcommands may do I/O.

mod adopt;
mod catalog;
mod check;
mod cluster;
mod completion;
mod crd;
mod directories;
#[cfg(test)]
mod documents;
mod field_diff;
mod install;
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

use crate::mesh::operator_defaults::OPERATOR_NAMESPACE;
use crate::runtime::requests::api_error_chain;

/// Default of `--mesh-namespace`.
const MESH_NAMESPACE: &str = "istio-system";

const EXAMPLES: &str = "\
Examples:
  # Check a cluster before the installation
  meshwright check

  # Install the operator
  meshwright install --image registry.example.com/meshwright:0.1.0 | kubectl apply --server-side -f -

  # Show the changes that a MeshInstallation would make, apply it and follow its rollout
  meshwright plan -f mesh.yaml
  kubectl apply --server-side -f mesh.yaml
  meshwright status --watch";

/// Install, upgrade and operate the Istio service mesh on Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "meshwright", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator (the Deployment's entrypoint)
    Operator(operator::OperatorArgs),
    /// Show the status of the mesh, its components, gateways and ports
    Status(status::StatusArgs),
    /// Run pre-install checks
    Check(check::CheckArgs),
    /// Show the changes that a MeshInstallation would make
    Plan(plan::PlanArgs),
    /// Generate a MeshInstallation from an existing Istio installation
    Adopt(adopt::AdoptArgs),
    /// Render the manifests of a MeshInstallation locally
    Render(render::RenderArgs),
    /// Manage a catalog of Istio releases
    Catalog(catalog::CatalogArgs),
    /// Print the manifest that installs the operator
    Install(install::InstallArgs),
    /// Uninstall the operator and, optionally, its meshes
    Uninstall(uninstall::UninstallArgs),
    /// Print the MeshInstallation CRD
    Crd(crd::CrdArgs),
    /// Print the RBAC manifests that the operator needs
    Rbac(rbac::RbacArgs),
    /// Generate a shell completion script
    Completion(completion::CompletionArgs),
}

impl Cli {
    /// Parses the command line and exits if it is invalid. An empty environment variable counts as unset, because
    /// manifests and scripts often disable a variable that way.
    #[must_use]
    pub fn read() -> Self {
        let matches = ignore_empty_variables(Self::command()).get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// Runs the subcommand; on failure, prints the error with its causes.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let result = match self.command {
            Command::Operator(args) => operator::run(&args).map_err(box_error),
            Command::Status(args) => status::run(&args).map_err(box_error),
            Command::Check(args) => check::run(&args).map_err(box_error),
            Command::Plan(args) => plan::run(&args).map_err(box_error),
            Command::Adopt(args) => adopt::run(&args).map_err(box_error),
            Command::Render(args) => render::run(&args).map_err(box_error),
            Command::Catalog(args) => catalog::run(args).map_err(box_error),
            Command::Install(args) => install::run(&args).map_err(box_error),
            Command::Uninstall(args) => uninstall::run(&args).map_err(box_error),
            Command::Crd(args) => crd::run(&args).map_err(box_error),
            Command::Rbac(args) => rbac::run(&args).map_err(box_error),
            Command::Completion(args) => completion::run(&args, Self::command()).map_err(box_error),
        };
        result.unwrap_or_else(|error| {
            // If standard error is closed there is no place left to report to.
            let _ = output::print(io::stderr().lock(), &format!("meshwright: {}\n", api_error_chain(error.as_ref())));
            ExitCode::FAILURE
        })
    }
}

fn ignore_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &clap::Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    command
        .mut_args(|arg| if is_empty(&arg) { arg.env(Resettable::Reset) } else { arg })
        .mut_subcommands(ignore_empty_variables)
}

fn box_error(error: impl Error + 'static) -> Box<dyn Error> {
    Box::new(error)
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn accepts_version_flag_only_without_subcommand() {
        let kind = |words: &[&str]| Cli::command().try_get_matches_from(words).unwrap_err().kind();
        assert_eq!(kind(&["meshwright", "--version"]), ErrorKind::DisplayVersion);
        let unsupported = ["meshwright", "render", "--file=x", "--catalog=y", "--version", "1.31.2"];
        assert_eq!(kind(&unsupported), ErrorKind::UnknownArgument);
    }
}
