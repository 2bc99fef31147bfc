//! `meshwright crd`: the CRD, as it is committed below config/crd.

use std::io;
use std::process::ExitCode;

use meshwright_api::{CrdYamlError, crd_yaml};

use super::output::print;

/// The CRD can't be printed.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    /// It has no YAML form.
    #[error(transparent)]
    Yaml(CrdYamlError),
    /// The output can't be written.
    #[error("can't write the output")]
    Print(#[source] io::Error),
}

/// Prints the CRD.
pub fn run() -> Result<ExitCode, CrdError> {
    let text = crd_yaml().map_err(CrdError::Yaml)?;
    print(io::stdout().lock(), &text).map_err(CrdError::Print)?;
    Ok(ExitCode::SUCCESS)
}
