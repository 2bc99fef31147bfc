//! `meshwright-ship`: builds release artifacts other than the operator itself.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use clap::{Args, Parser, Subcommand};
use meshwright_ship::bundle::rules::{Severity, all_rules, validate};
use meshwright_ship::bundle::sources::{ReadError, Sources};
use meshwright_ship::bundle::{Bundle, Files, Maintainer, MakeError, ParseError, PublicationSettings, make};
use meshwright_ship::sbom::{SbomError, SbomInputs, sbom};

/// Builds release artifacts other than the operator itself.
#[derive(Debug, Parser)]
#[command(name = "meshwright-ship", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Generate the `OperatorHub` bundle and validate it against the catalogs' rules
    Bundle(BundleArgs),
    /// Print the software bill of materials
    Sbom(SbomArgs),
}

#[derive(Args, Debug)]
struct BundleArgs {
    /// The directory with the manifests
    #[arg(long, default_value = "config", value_name = "DIR")]
    config: PathBuf,
    /// The directory with the add-ons' charts
    #[arg(long, default_value = "bundled-manifests/addons", value_name = "DIR")]
    add_ons: PathBuf,
    /// The output directory
    #[arg(long, default_value = "config/olm", value_name = "DIR")]
    out: PathBuf,
    /// The operator's image, with registry and tag or digest
    #[arg(long)]
    image: Option<String>,
    /// URL of the source repository and issue tracker
    #[arg(long, value_name = "URL")]
    repository: Option<String>,
    /// Contact for users, in the form `Name <address>`
    #[arg(long, value_parser = maintainer, value_name = "MAINTAINER")]
    maintainer: Option<Maintainer>,
}

#[derive(Args, Debug)]
struct SbomArgs {
    /// Output of `cargo metadata`
    #[arg(long, value_name = "FILE")]
    metadata: PathBuf,
    /// Output of `cargo tree` for all compiled crates
    #[arg(long, value_name = "FILE")]
    compiled: PathBuf,
    /// Output of `cargo tree` for the linked crates
    #[arg(long, value_name = "FILE")]
    linked: PathBuf,
    /// The lock file
    #[arg(long, default_value = "Cargo.lock", value_name = "FILE")]
    lock: PathBuf,
    /// The package of the binary
    #[arg(long, default_value = "meshwright")]
    package: String,
}

/// A command failed.
#[derive(Debug, thiserror::Error)]
enum ShipError {
    #[error("can't read the sources of the bundle")]
    Sources(#[source] ReadError),
    #[error("can't generate the bundle")]
    Make(#[source] MakeError),
    #[error("can't parse the generated bundle")]
    Parse(#[source] ParseError),
    #[error("can't read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("can't write {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("can't generate the software bill of materials")]
    Sbom(#[source] SbomError),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Bundle(args) => bundle(args),
        Command::Sbom(args) => print_sbom(&args),
    };
    result.unwrap_or_else(|error| {
        eprint!("meshwright-ship: {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            eprint!(": {error}");
            cause = error.source();
        }
        eprintln!();
        ExitCode::FAILURE
    })
}

/// Writes nothing if the bundle violates a rule of severity error.
fn bundle(args: BundleArgs) -> Result<ExitCode, ShipError> {
    let sources = Sources::read(&args.config, &args.add_ons).map_err(ShipError::Sources)?;
    let publication =
        PublicationSettings { image: args.image, repository: args.repository, maintainer: args.maintainer };
    let files = make(sources, publication, env!("CARGO_PKG_VERSION")).map_err(ShipError::Make)?;
    let violations = validate(&Bundle::try_from(&files).map_err(ShipError::Parse)?);
    for violation in &violations {
        println!("{violation}");
    }
    let errors = violations.iter().filter(|violation| violation.rule.severity == Severity::Error).count();
    println!("{} rules: {errors} errors, {} warnings", all_rules().count(), violations.len() - errors);
    if errors > 0 {
        return Ok(ExitCode::FAILURE);
    }
    write(&args.out, &files)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the files and removes those of an older bundle.
fn write(out: &Path, files: &Files) -> Result<(), ShipError> {
    for part in ["manifests", "metadata", "tests"] {
        let path = out.join(part);
        match fs::remove_dir_all(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(ShipError::Write { path, source }),
            _ => {}
        }
    }
    for (name, text) in files {
        let path = out.join(name);
        let directory = path.parent().map_or(Ok(()), fs::create_dir_all);
        directory.and_then(|()| fs::write(&path, text)).map_err(|source| ShipError::Write { path, source })?;
    }
    Ok(())
}

fn print_sbom(args: &SbomArgs) -> Result<ExitCode, ShipError> {
    let inputs = SbomInputs {
        metadata: &read(&args.metadata)?,
        compiled: &read(&args.compiled)?,
        linked: &read(&args.linked)?,
        lock: &read(&args.lock)?,
        package: &args.package,
    };
    print!("{}", sbom(inputs).map_err(ShipError::Sbom)?);
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<String, ShipError> {
    fs::read_to_string(path).map_err(|source| ShipError::Read { path: path.to_owned(), source })
}

/// The maintainer has the wrong form.
#[derive(Debug, thiserror::Error)]
#[error("must have the form `A Team <team@example.com>`")]
struct MaintainerError;

/// Parses `Name <address>`.
fn maintainer(text: &str) -> Result<Maintainer, MaintainerError> {
    let (name, email) = text.strip_suffix('>').and_then(|text| text.split_once('<')).ok_or(MaintainerError)?;
    Ok(Maintainer { name: name.trim().to_owned(), email: email.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn command_line_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn maintainer_has_name_and_address() {
        let read = maintainer("A Team <team@example.com>").unwrap();
        assert_eq!((read.name.as_str(), read.email.as_str()), ("A Team", "team@example.com"));
        assert!(maintainer("team@example.com").is_err());
    }

    #[test]
    fn replaces_files_of_older_bundle() {
        let directory = tempfile::tempdir().unwrap();
        let old = Files::from([("manifests/old.yaml".to_owned(), "a".to_owned())]);
        write(directory.path(), &old).unwrap();
        let new = Files::from([("manifests/new.yaml".to_owned(), "b".to_owned())]);
        write(directory.path(), &new).unwrap();
        assert!(!directory.path().join("manifests/old.yaml").exists());
        assert_eq!(fs::read_to_string(directory.path().join("manifests/new.yaml")).unwrap(), "b");
    }
}
