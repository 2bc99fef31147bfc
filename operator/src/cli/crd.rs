//! `meshwright crd`: the CRD, as it is committed below config/crd, and the reference of its fields.

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
pub struct CrdArgs {
    /// Print the reference of all fields, with an example of each, instead of the manifest
    #[arg(long)]
    document: bool,
}

/// The CRD can't be printed.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    /// It has no YAML form.
    #[error(transparent)]
    Yaml(CrdYamlError),
    /// It can't be told of in a document.
    #[error("making the reference failed")]
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
