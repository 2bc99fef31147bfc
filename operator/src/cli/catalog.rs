//! `meshwright catalog`: adds, lists and verifies the Istio releases that the operator can install.

mod file;
mod images;
mod pull;
mod resolve;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use meshwright_api::version::{ParseVersionError, VersionRequest};
use semver::Version;

use super::directories::{Directories, paths};
use super::output::print;
use crate::catalog::{
    Catalog, Release, ReleaseFacts, error_chain,
    facts::{Minor, ParseFactsError},
    import::{ImportError, ImportOptions, PutOutcome, import},
    store::OpenError,
};

/// Arguments of `meshwright catalog`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # Add a release from a registry with Istio's Helm charts
  meshwright catalog pull oci://registry.example.com/istio/charts --version 1.31.2 --catalog releases

  # List all releases
  meshwright catalog list --catalog releases

  # Copy a release to an air-gapped network
  meshwright catalog export --version 1.31.2 --to istio-1.31.2.tar.gz --catalog releases
  meshwright catalog import --from istio-1.31.2.tar.gz --catalog releases")]
pub struct CatalogArgs {
    /// Catalog directory; can be repeated, the first directory with a release has precedence
    #[arg(long, env = "MESHWRIGHT_CATALOG", value_name = "DIR", global = true)]
    catalog: Vec<Directories>,
    #[command(subcommand)]
    command: CatalogCommand,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum CatalogCommand {
    /// Add a release from an unpacked Istio download or source tree
    Add(AddArgs),
    /// List releases with supported Kubernetes versions and state
    #[command(after_help = "Examples:\n  meshwright catalog list --catalog releases")]
    List,
    /// Verify the checksums of all charts; exit status 1 if one differs
    #[command(after_help = "Examples:\n  meshwright catalog verify --catalog releases")]
    Verify,
    /// List the container images of a release
    Images(images::ImagesArgs),
    /// Export a release to a file, for networks without a registry
    Export(file::ExportArgs),
    /// Import a release from an exported file
    Import(file::ImportArgs),
    /// Add a release from a registry with Istio's Helm charts
    Pull(pull::PullArgs),
}

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshwright catalog add --from istio-1.31.2 --version 1.31.2 --catalog releases")]
struct AddArgs {
    /// Directory of an unpacked Istio release, its manifests directory, or a directory with the charts
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Version of the release, for example 1.31.2
    #[arg(long, value_name = "VERSION", value_parser = release_version)]
    version: Version,
    /// Description of the charts' origin [default: the directory]
    #[arg(long, value_name = "TEXT")]
    source: Option<String>,
    /// Replace an existing release with the same version and other content
    #[arg(long)]
    replace: bool,
}

/// Why `meshwright catalog` failed.
#[derive(Debug, thiserror::Error)]
pub enum CatalogCliError {
    /// No catalog directory is set.
    #[error("no catalog; set --catalog or MESHWRIGHT_CATALOG")]
    NoCatalog,
    /// A release can only be added to one directory.
    #[error("a release can only be added to one catalog, but --catalog has {0}")]
    SeveralCatalogs(usize),
    /// The release can't be added.
    #[error("can't add Istio {version} from {from:?}")]
    Add {
        /// Version of the release.
        version: Version,
        /// The source directory.
        from: PathBuf,
        /// The underlying error.
        #[source]
        source: Box<ImportError>,
    },
    /// The images can't be listed.
    #[error(transparent)]
    Images(images::ImagesError),
    /// A release can't be exported or imported.
    #[error(transparent)]
    File(file::FileError),
    /// A release can't be pulled.
    #[error(transparent)]
    Pull(pull::PullCliError),
    /// The catalog can't be read.
    #[error("can't open the catalog")]
    Open(#[source] OpenError),
    /// The bundled data about Istio's minor releases is invalid.
    #[error("can't read the bundled release data")]
    Facts(#[source] ParseFactsError),
    /// The output can't be written.
    #[error("can't write the output")]
    Print(#[source] io::Error),
}

fn release_version(text: &str) -> Result<Version, String> {
    match text.parse::<VersionRequest>() {
        Ok(VersionRequest::Exact(version)) => Ok(version),
        Ok(VersionRequest::Minor { .. }) => {
            Err(format!("{text} is a minor version; use an exact version, such as {text}.0"))
        }
        Err(error @ ParseVersionError::LeadingV { .. }) => Err(error.to_string()),
        Err(_) => Err("use an exact version, such as 1.31.2 or 1.32.0-alpha.1".to_owned()),
    }
}

/// Runs the command. Fails if `verify` finds a difference.
pub fn run(args: CatalogArgs) -> Result<ExitCode, CatalogCliError> {
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let mut text = Vec::new();
    let code = run_at(args, today, &mut text)?;
    print(io::stdout().lock(), &String::from_utf8_lossy(&text)).map_err(CatalogCliError::Print)?;
    Ok(code)
}

fn run_at(args: CatalogArgs, today: Date, out: &mut impl Write) -> Result<ExitCode, CatalogCliError> {
    let CatalogArgs { catalog, command } = args;
    let catalog = paths(&catalog);
    if catalog.is_empty() {
        return Err(CatalogCliError::NoCatalog);
    }
    let facts = ReleaseFacts::bundled().map_err(CatalogCliError::Facts)?;
    let open = || Catalog::open(&catalog).map_err(CatalogCliError::Open);
    let printed = match command {
        CatalogCommand::Add(add) => {
            let version = add.version.clone();
            let outcome = add_release(add, &catalog, &facts)?;
            writeln!(out, "Istio {version}: {outcome}").map(|()| true)
        }
        CatalogCommand::List => list(&open()?, &facts, today, out).map(|()| true),
        CatalogCommand::Verify => verify(&open()?, out),
        CatalogCommand::Images(args) => {
            let text = images::text(&args, &open()?, &facts).map_err(CatalogCliError::Images)?;
            out.write_all(text.as_bytes()).map(|()| true)
        }
        CatalogCommand::Export(args) => {
            let summary = file::export(&args, &open()?).map_err(CatalogCliError::File)?;
            writeln!(out, "{summary}").map(|()| true)
        }
        CatalogCommand::Import(args) => {
            let summary = file::import(&args, single_catalog(&catalog)?).map_err(CatalogCliError::File)?;
            writeln!(out, "{summary}").map(|()| true)
        }
        CatalogCommand::Pull(args) => {
            let summary = pull::pull(args, single_catalog(&catalog)?, &facts).map_err(CatalogCliError::Pull)?;
            writeln!(out, "{summary}").map(|()| true)
        }
    };
    let valid = printed.map_err(CatalogCliError::Print)?;
    Ok(if valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The only catalog directory, for commands that add releases.
fn single_catalog(catalogs: &[PathBuf]) -> Result<&Path, CatalogCliError> {
    match catalogs {
        [catalog] => Ok(catalog),
        _ => Err(CatalogCliError::SeveralCatalogs(catalogs.len())),
    }
}

fn describe_outcome(outcome: PutOutcome) -> &'static str {
    match outcome {
        PutOutcome::Added => "added",
        PutOutcome::Unchanged => "unchanged",
        PutOutcome::Replaced => "replaced",
    }
}

fn add_release(add: AddArgs, catalogs: &[PathBuf], facts: &ReleaseFacts) -> Result<&'static str, CatalogCliError> {
    let catalog = single_catalog(catalogs)?;
    let AddArgs { from, version, source, replace } = add;
    let source = source.unwrap_or_else(|| from.display().to_string());
    let outcome = import(&ImportOptions { from: &from, version: &version, catalog, source: &source, replace }, facts);
    outcome.map(describe_outcome).map_err(|source| CatalogCliError::Add { version, from, source: Box::new(source) })
}

const EMPTY: &str = "no releases found; add one with `meshwright catalog pull` or `meshwright catalog add`";
const HEADINGS: [&str; 5] = ["VERSION", "KUBERNETES", "IMAGES", "CHARTS", "STATE"];

fn list(catalog: &Catalog, facts: &ReleaseFacts, today: Date, out: &mut impl Write) -> io::Result<()> {
    if catalog.releases().is_empty() && catalog.broken().is_empty() {
        return writeln!(out, "{EMPTY}");
    }
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(catalog.releases().iter().map(|release| row(release, facts, today)));
    rows.extend(catalog.broken().iter().map(|broken| {
        let version = broken.directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let unknown = || "-".to_owned();
        [version, unknown(), unknown(), unknown(), format!("broken: {}", broken.reason)]
    }));
    print_table(&rows, out)
}

fn row(release: &Release, facts: &ReleaseFacts, today: Date) -> [String; 5] {
    let known = facts.minor(Minor::of(release.version()));
    let kubernetes = match &known {
        Ok(facts) => format!("{}-{}", facts.kubernetes.supported.0, facts.kubernetes.supported.1),
        Err(_) => "-".to_owned(),
    };
    let images = release.images();
    let note = if images.pullable { "" } else { " (not published)" };
    let charts: Vec<&str> = release.charts().keys().map(|chart| chart.as_str()).collect();
    let corrupted = release.verify();
    let state = match known {
        _ if !corrupted.is_empty() => "corrupted (see catalog verify)".to_owned(),
        Err(_) => "unsupported".to_owned(),
        Ok(facts) => match facts.end_of_life {
            Some(end) if end.reached(today) => format!("end of life {end}"),
            _ if facts.development => "development".to_owned(),
            _ => "ok".to_owned(),
        },
    };
    let images = format!("{}:{}{note}", images.hub, images.tag);
    [release.version().to_string(), kubernetes, images, charts.join(","), state]
}

/// Prints a table without trailing spaces.
fn print_table(rows: &[[String; 5]], out: &mut impl Write) -> io::Result<()> {
    let mut widths = [0; 5];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", cells.join("   ").trim_end())?;
    }
    Ok(())
}

/// Prints differences and returns whether there are none.
fn verify(catalog: &Catalog, out: &mut impl Write) -> io::Result<bool> {
    let mut valid = true;
    for release in catalog.releases() {
        let corrupted = release.verify();
        if corrupted.is_empty() {
            writeln!(out, "{}: ok", release.version())?;
        }
        for chart in &corrupted {
            valid = false;
            writeln!(out, "{}", error_chain(chart))?;
        }
    }
    for broken in catalog.broken() {
        valid = false;
        writeln!(out, "{}: {}", broken.directory.display(), broken.reason)?;
    }
    Ok(valid)
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use clap::Parser;
    use tempfile::TempDir;

    use super::*;
    use crate::catalog::tests::source_tree;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: CatalogArgs,
    }

    pub(super) fn run(words: &[&str]) -> Result<(ExitCode, String), CatalogCliError> {
        let cli = Cli::try_parse_from([&["catalog"], words].concat()).unwrap();
        let mut out = Vec::new();
        let code = run_at(cli.args, "2026-11-21".parse().unwrap(), &mut out)?;
        Ok((code, String::from_utf8(out).unwrap()))
    }

    pub(in crate::cli) fn with_release(version: &str) -> (TempDir, String) {
        let source = source_tree();
        let catalog = TempDir::new().unwrap();
        let dir = catalog.path().to_str().unwrap().to_owned();
        let from = source.path().to_str().unwrap();
        run(&["add", "--from", from, "--version", version, "--catalog", &dir]).unwrap();
        (catalog, dir)
    }

    #[test]
    fn lists_added_release_with_facts() {
        let (_catalog, dir) = with_release("1.31.2");
        let (_, out) = run(&["list", "--catalog", &dir]).unwrap();
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines.len(), 2, "{out}");
        let cells: Vec<&str> = lines[1].split_whitespace().collect();
        let images = "registry.istio.io/release:1.31.2";
        assert_eq!(cells, ["1.31.2", "1.32-1.36", images, "base,istiod,gateway,cni,ztunnel", "ok"]);
    }

    #[test]
    fn list_shows_end_of_life_and_unpublished_images() {
        let (_catalog, dir) = with_release("1.28.10");
        assert!(run(&["list", "--catalog", &dir]).unwrap().1.contains("end of life on 2026-07-01"));
        let (_catalog, dir) = with_release("1.32.0-alpha.eed52ebb66ad");
        let out = run(&["list", "--catalog", &dir]).unwrap().1;
        assert!(out.contains("registry.istio.io/testing:1.32.0-alpha.eed52ebb66ad (not published)"), "{out}");
        assert!(out.contains("development"), "{out}");
    }

    #[test]
    fn verify_reports_corrupted_charts() {
        let (catalog, dir) = with_release("1.31.2");
        let verify = || run(&["verify", "--catalog", &dir]).unwrap();
        assert_eq!(verify(), (ExitCode::SUCCESS, "1.31.2: ok\n".to_owned()));
        fs::write(catalog.path().join("1.31.2/charts/istiod/values.yaml"), "evil: true\n").unwrap();
        let (code, out) = verify();
        assert_eq!(code, ExitCode::FAILURE);
        assert!(out.contains("chart istiod of release 1.31.2 is damaged"), "{out}");
    }

    #[test]
    fn lists_broken_release_and_fails_verify() {
        let (catalog, dir) = with_release("1.31.2");
        fs::create_dir(catalog.path().join("1.30.3")).unwrap();
        let (_, out) = run(&["list", "--catalog", &dir]).unwrap();
        assert!(out.contains("1.31.2") && out.contains("broken: can't read"), "{out}");
        assert_eq!(run(&["verify", "--catalog", &dir]).unwrap().0, ExitCode::FAILURE);
    }

    #[test]
    fn empty_catalog_suggests_commands() {
        let empty = TempDir::new().unwrap();
        let (_, out) = run(&["list", "--catalog", empty.path().to_str().unwrap()]).unwrap();
        assert!(out.contains("no releases found") && out.contains("catalog pull"), "{out}");
    }

    #[test]
    fn add_requires_one_catalog() {
        let add = ["add", "--from", "x", "--version", "1.31.2"];
        let two = [&add[..], &["--catalog", "a:b"]].concat();
        assert!(matches!(run(&two), Err(CatalogCliError::SeveralCatalogs(2))));
    }

    #[test]
    fn rejects_inexact_versions_with_example() {
        assert_eq!(
            release_version("1.31").unwrap_err(),
            "1.31 is a minor version; use an exact version, such as 1.31.0"
        );
        assert!(release_version("v1.31.2").unwrap_err().contains("write 1.31.2"));
        assert!(release_version("latest").unwrap_err().contains("1.31.2"));
    }
}
