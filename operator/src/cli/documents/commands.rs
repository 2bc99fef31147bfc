//! Commands in documents: programs, flags, targets and paths are those that there are.

use std::fs;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};

use super::super::Cli;
use super::markdown::{Block, Document};
use super::{documents, root, shell};

/// What a block of commands may need.
const MARKS: [&str; 5] = ["lab", "checkout", "yours", "engine", "cloud"];
/// The document whose blocks marked `lab` are run.
const RUN: &str = "docs/quick-start.md";
/// What is there wherever somebody works on Kubernetes.
const PROGRAMS: [&str; 14] = [
    "cargo",
    "cat",
    "export",
    "git",
    "go",
    "helm",
    "istioctl",
    "kubectl",
    "kustomize",
    "make",
    "meshwright",
    "sed",
    "unshare",
    "xargs",
];
/// What needs a container engine.
const ENGINES: [&str; 4] = ["kind", "minikube", "docker", "podman"];
/// What needs an account.
const CLOUDS: [&str; 3] = ["gcloud", "tkgi", "pks"];
/// Folders of the repository: a path that begins so must be there.
const FOLDERS: [&str; 9] =
    ["api/", "bundled-manifests/", "chart/", "config/", "docs/", "e2e/", "operator/", "ship/", "dist/"];

/// What is wrong with one command.
fn complaint(words: &[String], mark: &str) -> Option<String> {
    let (program, arguments) = words.split_first()?;
    let known = match program.as_str() {
        engine if ENGINES.contains(&engine) => mark == "engine",
        cloud if CLOUDS.contains(&cloud) => mark == "cloud",
        program => PROGRAMS.contains(&program),
    };
    if !known {
        return Some(format!("{program} is not what a block marked {mark} may use"));
    }
    let own = match program.as_str() {
        // What a variable holds isn't known here.
        "meshwright" if arguments.iter().any(|word| word.contains('$')) => {
            refused(words, &[ErrorKind::ValueValidation])
        }
        "meshwright" => refused(words, &[]),
        "make" => {
            arguments.iter().find(|word| !word.contains('=') && !is_target(word)).map(|t| format!("no target {t}"))
        }
        _ => None,
    };
    own.or_else(|| arguments.iter().find_map(|word| missing(word)))
}

/// What the command line says of a command of ours, but for errors of these kinds.
fn refused(words: &[String], forgiven: &[ErrorKind]) -> Option<String> {
    let mut command = Cli::command();
    for word in words.iter().skip(1) {
        command = command.find_subcommand(word).cloned().unwrap_or(command);
    }
    let mut words = words.to_vec();
    // The catalog may be in the environment.
    if command.get_arguments().any(|arg| arg.get_long() == Some("catalog") && arg.is_required_set()) {
        words.extend(["--catalog".to_owned(), "DIR".to_owned()]);
    }
    match Cli::try_parse_from(words) {
        Ok(_) => None,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => None,
        Err(error) if forgiven.contains(&error.kind()) => None,
        Err(error) => Some(error.to_string()),
    }
}

fn is_target(word: &str) -> bool {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    makefile.lines().any(|line| line.strip_prefix(word).is_some_and(|rest| rest.starts_with(':')))
}

/// A path of the repository that isn't there. What `make` makes below `dist` is.
fn missing(word: &str) -> Option<String> {
    let path = word.rsplit_once('=').map_or(word, |(_, path)| path);
    let ours = FOLDERS.iter().any(|folder| path.starts_with(folder));
    let made = path.starts_with("dist/");
    (ours && !made && !root().join(path).exists()).then(|| format!("there is no {path}"))
}

/// What a block says that it needs; `None` where it isn't one of commands.
fn mark(block: &Block) -> Option<&str> {
    let mut words = block.info.split_whitespace();
    (words.next() == Some("sh")).then(|| words.next().unwrap_or_default())
}

fn complaints(document: &Document) -> Vec<String> {
    let mut found = Vec::new();
    for block in &document.blocks {
        let at = |what: String| format!("{}:{}: {what}", document.path, block.line);
        match mark(block) {
            Some("lab") if document.path != RUN => found.push(at(format!("only those of {RUN} are run on the lab"))),
            Some(mark) if MARKS.contains(&mark) => {
                let commands = shell::commands(&block.text);
                found.extend(commands.iter().filter_map(|words| complaint(words, mark)).map(at));
            }
            None if !is_of_commands(block) => {}
            _ => found.push(at(format!("say behind ```sh what the commands need: {}", MARKS.join(", ")))),
        }
    }
    // In a sentence a flag's value may be left out.
    let forgiven = [ErrorKind::InvalidValue, ErrorKind::MissingRequiredArgument, ErrorKind::ValueValidation];
    for piece in document.code.iter().filter(|piece| piece.text.starts_with("meshwright ")) {
        let commands = shell::commands(&piece.text);
        let ours = |words: &&Vec<String>| words.first().is_some_and(|program| program == "meshwright");
        let refused = commands.iter().filter(ours).find_map(|words| refused(words, &forgiven));
        found.extend(refused.map(|what| format!("{}:{}: {what}", document.path, piece.line)));
    }
    found
}

/// Whether a block without a mark holds commands all the same.
fn is_of_commands(block: &Block) -> bool {
    let programs = || PROGRAMS.iter().chain(&ENGINES).chain(&CLOUDS);
    let begins =
        |line: &str| programs().any(|program| line.strip_prefix(program).is_some_and(|rest| rest.starts_with(' ')));
    matches!(block.info.as_str(), "" | "bash" | "shell" | "console") && block.text.lines().any(begins)
}

#[test]
fn every_command_in_a_document_is_marked_and_one_that_there_is() {
    let found: Vec<String> = documents().iter().flat_map(complaints).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn what_is_not_there_is_complained_of() {
    let of = |text: &str| complaints(&Document::parse("x.md", text)).len();
    let block = |mark: &str, text: &str| of(&format!("```{mark}\n{text}\n```\n"));
    assert_eq!(block("sh yours", "meshwright status --watch | cat && kubectl apply -f config/samples/demo.yaml"), 0);
    assert_eq!(block("sh yours", "meshwright plan -f mesh.yaml\nmake demo DEMO_EXIT=1"), 0);
    for wrong in [
        "meshwright status --wach",
        "meshwright statu",
        "make dmo",
        "kubectl apply -k config/overlay",
        "minikube start",
        "gcloud container clusters list",
        "sudo make demo",
    ] {
        assert_eq!(block("sh yours", wrong), 1, "{wrong}");
    }
    assert_eq!((block("sh engine", "kind create cluster"), block("sh cloud", "gcloud version")), (0, 0));
    assert_eq!(block("sh lab", "make demo"), 1);
    assert_eq!((block("", "make demo"), block("sh", "make demo"), block("sh later", "make demo")), (1, 1, 1));
    assert_eq!((of("`meshwright check -f` and `meshwright rbac --catalog`"), of("`meshwright check --fail`")), (0, 1));
}
