//! `meshwright crd`: the CRD, as it is committed below config/crd.

use std::process::ExitCode;

/// Prints the CRD.
pub fn run() -> Result<ExitCode, meshwright_api::CrdYamlError> {
    print!("{}", meshwright_api::crd_yaml()?);
    Ok(ExitCode::SUCCESS)
}
