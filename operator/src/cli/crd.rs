//! `meshwright crd`: the CRD manifest, and the API reference generated from it.

mod fields;
mod reference;

use std::io;
use std::process::ExitCode;

use clap::Args;
use meshwright_api::{CrdYamlError, crd_yaml};

use self::reference::{ReferenceError, reference};
use super::output::print;

/// Flags of `meshwright crd`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  # Apply the CRD
  meshwright crd | kubectl apply --server-side -f -

  # Print the API reference
  meshwright crd --document")]
pub struct CrdArgs {
    /// Print the API reference as Markdown, instead of the manifest
    #[arg(long)]
    document: bool,
}

/// The CRD can't be printed.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    /// The CRD can't be serialized as YAML.
    #[error(transparent)]
    Yaml(CrdYamlError),
    /// The API reference can't be generated.
    #[error("can't generate the API reference")]
    Reference(#[source] ReferenceError),
    /// The output can't be written.
    #[error("can't write the output")]
    Print(#[source] io::Error),
}

/// Prints the CRD.
pub fn run(args: &CrdArgs) -> Result<ExitCode, CrdError> {
    let text =
        if args.document { reference().map_err(CrdError::Reference)? } else { crd_yaml().map_err(CrdError::Yaml)? };
    print(io::stdout().lock(), &text).map_err(CrdError::Print)?;
    Ok(ExitCode::SUCCESS)
}
