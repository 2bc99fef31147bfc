//! `meshwright catalog`: brings, lists and checks the Istio releases that the operator can install.

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
    Catalog, Facts, Release, explain,
    facts::{Minor, ParseFactsError},
    import::{Import, ImportError, Outcome, import},
    store::OpenError,
};

/// Arguments of `meshwright catalog`.
#[derive(Clone, Debug, clap::Args)]
pub struct CatalogArgs {
    /// Directory with Istio releases; give it several times for several, the first wins
    #[arg(long, env = "MESHWRIGHT_CATALOG", value_name = "DIR", global = true)]
    catalog: Vec<Directories>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Add a release from an unpacked Istio download or source tree
    Add(AddArgs),
    /// List the releases and what is known about them
    List,
    /// Check that every chart is what was added; exits with 1 if one isn't
    Verify,
    /// List the images that a release can ask nodes to pull
    Images(images::ImagesArgs),
    /// Write a release into a file, to be carried to where no registry can be reached
    Export(file::ExportArgs),
    /// Add the release of a file that `catalog export` wrote
    Import(file::ImportArgs),
    /// Add a release from a registry that has Istio's Helm charts
    Pull(pull::PullArgs),
}

#[derive(Clone, Debug, clap::Args)]
struct AddArgs {
    /// Folder of an unpacked Istio release, its manifests folder, or a folder with the charts
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The release's version, for example 1.31.2
    #[arg(long, value_name = "VERSION", value_parser = release_version)]
    version: Version,
    /// Where the charts came from, for people to read; the folder if not given
    #[arg(long, value_name = "TEXT")]
    source: Option<String>,
    /// Put it in the place of other content under the same version
    #[arg(long)]
    replace: bool,
}

/// Why `meshwright catalog` failed.
#[derive(Debug, thiserror::Error)]
pub enum CatalogCliError {
    /// No directory was named.
    #[error("no catalog: name its directory with --catalog, or in MESHWRIGHT_CATALOG")]
    NoCatalog,
    /// Adding needs one directory.
    #[error("a release is added to one catalog, and {0} are named: give --catalog once")]
    SeveralCatalogs(usize),
    /// The release can't be added.
    #[error("can't add Istio {version} from {from:?}")]
    Add {
        /// The version.
        version: Version,
        /// Where it was to come from.
        from: PathBuf,
        /// Cause.
        #[source]
        source: Box<ImportError>,
    },
    /// The images can't be told.
    #[error(transparent)]
    Images(images::ImagesError),
    /// A release can't be carried by file.
    #[error(transparent)]
    File(file::FileError),
    /// A release can't be pulled.
    #[error(transparent)]
    Pull(pull::PullCliError),
    /// The catalog can't be read.
    #[error("can't open the catalog")]
    Open(#[source] OpenError),
    /// The program's own data are faulty.
    #[error("can't read the bundled facts")]
    Facts(#[source] ParseFactsError),
    /// The output can't be written.
    #[error("can't write the output")]
    Print(#[source] io::Error),
}

fn release_version(text: &str) -> Result<Version, String> {
    match text.parse::<VersionRequest>() {
        Ok(VersionRequest::Exact(version)) => Ok(version),
        Ok(VersionRequest::Minor { .. }) => Err(format!("{text} is a minor: name the release, such as {text}.0")),
        Err(error @ ParseVersionError::LeadingV { .. }) => Err(error.to_string()),
        Err(_) => Err("a release is needed, such as 1.31.2 or 1.32.0-alpha.1".to_owned()),
    }
}

/// Runs the command. The exit code is a failure when `verify` finds one.
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
    let facts = Facts::bundled().map_err(CatalogCliError::Facts)?;
    let open = || Catalog::open(&catalog).map_err(CatalogCliError::Open);
    let printed = match command {
        Command::Add(add) => {
            let version = add.version.clone();
            let outcome = add_release(add, &catalog, &facts)?;
            writeln!(out, "Istio {version}: {outcome}").map(|()| true)
        }
        Command::List => list(&open()?, &facts, today, out).map(|()| true),
        Command::Verify => verify(&open()?, out),
        Command::Images(args) => {
            let text = images::text(&args, &open()?, &facts).map_err(CatalogCliError::Images)?;
            out.write_all(text.as_bytes()).map(|()| true)
        }
        Command::Export(args) => {
            let said = file::export(&args, &open()?).map_err(CatalogCliError::File)?;
            writeln!(out, "{said}").map(|()| true)
        }
        Command::Import(args) => {
            let said = file::import(&args, the_one(&catalog)?).map_err(CatalogCliError::File)?;
            writeln!(out, "{said}").map(|()| true)
        }
        Command::Pull(args) => {
            let said = pull::pull(args, the_one(&catalog)?, &facts).map_err(CatalogCliError::Pull)?;
            writeln!(out, "{said}").map(|()| true)
        }
    };
    let whole = printed.map_err(CatalogCliError::Print)?;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Releases are put into one catalog.
fn the_one(catalogs: &[PathBuf]) -> Result<&Path, CatalogCliError> {
    match catalogs {
        [catalog] => Ok(catalog),
        _ => Err(CatalogCliError::SeveralCatalogs(catalogs.len())),
    }
}

fn told(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Added => "added",
        Outcome::Unchanged => "there already, nothing changed",
        Outcome::Replaced => "replaced",
    }
}

fn add_release(add: AddArgs, catalogs: &[PathBuf], facts: &Facts) -> Result<&'static str, CatalogCliError> {
    let catalog = the_one(catalogs)?;
    let AddArgs { from, version, source, replace } = add;
    let source = source.unwrap_or_else(|| from.display().to_string());
    let outcome = import(&Import { from: &from, version: &version, catalog, source: &source, replace }, facts);
    outcome.map(told).map_err(|source| CatalogCliError::Add { version, from, source: Box::new(source) })
}

const EMPTY: &str =
    "no release yet: `meshwright catalog add` brings one from a folder, `meshwright catalog pull` from a registry";
const HEADINGS: [&str; 5] = ["VERSION", "KUBERNETES", "IMAGES", "CHARTS", "STATE"];

fn list(catalog: &Catalog, facts: &Facts, today: Date, out: &mut impl Write) -> io::Result<()> {
    if catalog.releases().is_empty() && catalog.broken().is_empty() {
        return writeln!(out, "{EMPTY}");
    }
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(catalog.releases().iter().map(|release| row(release, facts, today)));
    rows.extend(catalog.broken().iter().map(|broken| {
        let version = broken.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let unknown = || "-".to_owned();
        [version, unknown(), unknown(), unknown(), format!("broken: {}", broken.reason)]
    }));
    print_table(&rows, out)
}

fn row(release: &Release, facts: &Facts, today: Date) -> [String; 5] {
    let known = facts.minor(Minor::of(release.version()));
    let kubernetes = match &known {
        Ok(facts) => format!("{}-{}", facts.kubernetes.supported.0, facts.kubernetes.supported.1),
        Err(_) => "-".to_owned(),
    };
    let images = release.images();
    let note = if images.pullable { "" } else { " (none to pull)" };
    let charts: Vec<&str> = release.charts().keys().map(|chart| chart.as_str()).collect();
    let damaged = release.verify();
    let state = match known {
        _ if !damaged.is_empty() => "damaged: see catalog verify".to_owned(),
        Err(_) => "unknown to this operator".to_owned(),
        Ok(facts) => match facts.end_of_life {
            Some(end) if end.reached(today) => format!("life ended {end}"),
            _ if facts.development => "development".to_owned(),
            _ => "ok".to_owned(),
        },
    };
    let images = format!("{}:{}{note}", images.hub, images.tag);
    [release.version().to_string(), kubernetes, images, charts.join(","), state]
}

/// Columns as wide as their widest cell; nothing behind the last.
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

/// Whether everything is whole; says what isn't.
fn verify(catalog: &Catalog, out: &mut impl Write) -> io::Result<bool> {
    let mut whole = true;
    for release in catalog.releases() {
        let damaged = release.verify();
        if damaged.is_empty() {
            writeln!(out, "{}: ok", release.version())?;
        }
        for chart in &damaged {
            whole = false;
            writeln!(out, "{}", explain(chart))?;
        }
    }
    for broken in catalog.broken() {
        whole = false;
        writeln!(out, "{}: {}", broken.folder.display(), broken.reason)?;
    }
    Ok(whole)
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
    fn what_was_added_is_listed_with_what_is_known_about_it() {
        let (_catalog, dir) = with_release("1.31.2");
        let (_, out) = run(&["list", "--catalog", &dir]).unwrap();
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines.len(), 2, "{out}");
        let cells: Vec<&str> = lines[1].split_whitespace().collect();
        let images = "registry.istio.io/release:1.31.2";
        assert_eq!(cells, ["1.31.2", "1.32-1.36", images, "base,istiod,gateway,cni,ztunnel", "ok"]);
    }

    #[test]
    fn the_list_says_that_a_life_has_ended_and_that_images_cannot_be_pulled() {
        let (_catalog, dir) = with_release("1.28.10");
        assert!(run(&["list", "--catalog", &dir]).unwrap().1.contains("life ended on 2026-07-01"));
        let (_catalog, dir) = with_release("1.32.0-alpha.eed52ebb66ad");
        let out = run(&["list", "--catalog", &dir]).unwrap().1;
        assert!(out.contains("registry.istio.io/testing:1.32.0-alpha.eed52ebb66ad (none to pull)"), "{out}");
        assert!(out.contains("development"), "{out}");
    }

    #[test]
    fn verify_names_damaged_charts_and_fails() {
        let (catalog, dir) = with_release("1.31.2");
        let verify = || run(&["verify", "--catalog", &dir]).unwrap();
        assert_eq!(verify(), (ExitCode::SUCCESS, "1.31.2: ok\n".to_owned()));
        fs::write(catalog.path().join("1.31.2/charts/istiod/values.yaml"), "evil: true\n").unwrap();
        let (code, out) = verify();
        assert_eq!(code, ExitCode::FAILURE);
        assert!(out.contains("chart istiod of release 1.31.2 is damaged"), "{out}");
    }

    #[test]
    fn a_broken_release_is_listed_with_the_reason_and_fails_verify() {
        let (catalog, dir) = with_release("1.31.2");
        fs::create_dir(catalog.path().join("1.30.3")).unwrap();
        let (_, out) = run(&["list", "--catalog", &dir]).unwrap();
        assert!(out.contains("1.31.2") && out.contains("broken: can't read"), "{out}");
        assert_eq!(run(&["verify", "--catalog", &dir]).unwrap().0, ExitCode::FAILURE);
    }

    #[test]
    fn of_an_empty_catalog_it_is_said_how_it_is_filled() {
        let empty = TempDir::new().unwrap();
        let (_, out) = run(&["list", "--catalog", empty.path().to_str().unwrap()]).unwrap();
        assert!(out.contains("no release yet") && out.contains("catalog pull"), "{out}");
    }

    #[test]
    fn adding_needs_exactly_one_catalog() {
        let add = ["add", "--from", "x", "--version", "1.31.2"];
        let two = [&add[..], &["--catalog", "a:b"]].concat();
        assert!(matches!(run(&two), Err(CatalogCliError::SeveralCatalogs(2))));
    }

    #[test]
    fn a_version_that_is_no_release_is_refused_with_what_would_be_right() {
        assert_eq!(release_version("1.31").unwrap_err(), "1.31 is a minor: name the release, such as 1.31.0");
        assert!(release_version("v1.31.2").unwrap_err().contains("write 1.31.2"));
        assert!(release_version("latest").unwrap_err().contains("1.31.2"));
    }
}
