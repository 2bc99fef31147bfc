//! `meshwright-ship`: makes what a release ships beside the operator.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use clap::{Args, Parser, Subcommand};
use meshwright_ship::bundle::rules::{Severity, all, judge};
use meshwright_ship::bundle::sources::{ReadError, Sources};
use meshwright_ship::bundle::{Bundle, Files, Maintainer, MakeError, ParseError, Publication, make};
use meshwright_ship::sbom::{Inputs, SbomError, sbom};

/// Makes what a release ships beside the operator.
#[derive(Debug, Parser)]
#[command(name = "meshwright-ship", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the `OperatorHub` bundle and judge it by the catalogs' rules
    Bundle(BundleArgs),
    /// Print the software bill of materials
    Sbom(SbomArgs),
}

#[derive(Args, Debug)]
struct BundleArgs {
    /// The folder that it is made from
    #[arg(long, default_value = "config", value_name = "DIR")]
    config: PathBuf,
    /// The folder with the add-ons' charts
    #[arg(long, default_value = "bundled-manifests/addons", value_name = "DIR")]
    add_ons: PathBuf,
    /// The folder that it is written to
    #[arg(long, default_value = "config/olm", value_name = "DIR")]
    out: PathBuf,
    /// The operator's image, with registry and tag or digest
    #[arg(long)]
    image: Option<String>,
    /// Address of the page where the source is and flaws are reported
    #[arg(long, value_name = "URL")]
    repository: Option<String>,
    /// Whom users may write to, as in `Name <address>`
    #[arg(long, value_parser = maintainer, value_name = "MAINTAINER")]
    maintainer: Option<Maintainer>,
}

#[derive(Args, Debug)]
struct SbomArgs {
    /// What `cargo metadata` printed
    #[arg(long, value_name = "FILE")]
    metadata: PathBuf,
    /// What `cargo tree` printed of all that is compiled
    #[arg(long, value_name = "FILE")]
    compiled: PathBuf,
    /// What `cargo tree` printed of all that is linked
    #[arg(long, value_name = "FILE")]
    linked: PathBuf,
    /// The lock file
    #[arg(long, default_value = "Cargo.lock", value_name = "FILE")]
    lock: PathBuf,
    /// The package whose program it is
    #[arg(long, default_value = "meshwright")]
    package: String,
}

/// A command failed.
#[derive(Debug, thiserror::Error)]
enum ShipError {
    #[error("reading what the bundle is made from failed")]
    Sources(#[source] ReadError),
    #[error("making the bundle failed")]
    Make(#[source] MakeError),
    #[error("reading the bundle that was made failed")]
    Parse(#[source] ParseError),
    #[error("reading {path} failed")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("writing {path} failed")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("making the software bill of materials failed")]
    Sbom(#[source] SbomError),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Bundle(args) => bundle(args),
        Command::Sbom(args) => bill(&args),
    };
    done.unwrap_or_else(|error| {
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

/// Writes nothing when the bundle would not be taken.
fn bundle(args: BundleArgs) -> Result<ExitCode, ShipError> {
    let sources = Sources::read(&args.config, &args.add_ons).map_err(ShipError::Sources)?;
    let publication = Publication { image: args.image, repository: args.repository, maintainer: args.maintainer };
    let files = make(sources, publication, env!("CARGO_PKG_VERSION")).map_err(ShipError::Make)?;
    let findings = judge(&Bundle::try_from(&files).map_err(ShipError::Parse)?);
    for finding in &findings {
        println!("{finding}");
    }
    let errors = findings.iter().filter(|finding| finding.rule.severity == Severity::Error).count();
    println!("{} rules: {errors} errors, {} warnings", all().count(), findings.len() - errors);
    if errors > 0 {
        return Ok(ExitCode::FAILURE);
    }
    write(&args.out, &files)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the files, and removes those of an older bundle.
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
        let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
        folder.and_then(|()| fs::write(&path, text)).map_err(|source| ShipError::Write { path, source })?;
    }
    Ok(())
}

fn bill(args: &SbomArgs) -> Result<ExitCode, ShipError> {
    let inputs = Inputs {
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

/// A maintainer can't be read.
#[derive(Debug, thiserror::Error)]
#[error("it is not as in `A Team <team@example.com>`")]
struct MaintainerError;

/// Reads `Name <address>`.
fn maintainer(text: &str) -> Result<Maintainer, MaintainerError> {
    let (name, email) = text.strip_suffix('>').and_then(|text| text.split_once('<')).ok_or(MaintainerError)?;
    Ok(Maintainer { name: name.trim().to_owned(), email: email.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_maintainer_has_a_name_and_an_address() {
        let read = maintainer("A Team <team@example.com>").unwrap();
        assert_eq!((read.name.as_str(), read.email.as_str()), ("A Team", "team@example.com"));
        assert!(maintainer("team@example.com").is_err());
    }

    #[test]
    fn a_bundle_is_written_anew_and_what_an_older_one_had_goes() {
        let folder = tempfile::tempdir().unwrap();
        let old = Files::from([("manifests/old.yaml".to_owned(), "a".to_owned())]);
        write(folder.path(), &old).unwrap();
        let new = Files::from([("manifests/new.yaml".to_owned(), "b".to_owned())]);
        write(folder.path(), &new).unwrap();
        assert!(!folder.path().join("manifests/old.yaml").exists());
        assert_eq!(fs::read_to_string(folder.path().join("manifests/new.yaml")).unwrap(), "b");
    }
}
