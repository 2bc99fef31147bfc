//! Tests that commands in documents use existing programs, flags, targets and paths.

use std::fs;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};

use super::super::Cli;
use super::markdown::{CodeBlock, Document};
use super::{documents, root, shell};

/// Valid requirements of command blocks.
const REQUIREMENTS: [&str; 5] = ["lab", "checkout", "yours", "engine", "cloud"];
/// The document whose `lab` blocks are executed.
const EXECUTED_DOCUMENT: &str = "docs/quick-start.md";
/// Programs that readers are expected to have.
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
/// Programs that need a container engine.
const ENGINES: [&str; 4] = ["kind", "minikube", "docker", "podman"];
/// Programs that need a cloud account.
const CLOUDS: [&str; 3] = ["gcloud", "tkgi", "pks"];
/// Directories of the repository; paths with these prefixes must exist.
const FOLDERS: [&str; 9] =
    ["api/", "bundled-manifests/", "chart/", "config/", "docs/", "e2e/", "operator/", "ship/", "dist/"];

/// The problem of one command, if any.
fn command_problem(words: &[String], requirement: &str) -> Option<String> {
    let (program, arguments) = words.split_first()?;
    let known = match program.as_str() {
        engine if ENGINES.contains(&engine) => requirement == "engine",
        cloud if CLOUDS.contains(&cloud) => requirement == "cloud",
        program => PROGRAMS.contains(&program),
    };
    if !known {
        return Some(format!("{program} is not allowed in a block with requirement {requirement}"));
    }
    let own = match program.as_str() {
        // The value of a variable is unknown.
        "meshwright" if arguments.iter().any(|word| word.contains('$')) => {
            parse_error(words, &[ErrorKind::ValueValidation])
        }
        "meshwright" => parse_error(words, &[]),
        "make" => {
            arguments.iter().find(|word| !word.contains('=') && !is_target(word)).map(|t| format!("no target {t}"))
        }
        _ => None,
    };
    own.or_else(|| arguments.iter().find_map(|word| missing(word)))
}

/// The parse error of a `meshwright` command, except errors of these kinds.
fn parse_error(words: &[String], ignored: &[ErrorKind]) -> Option<String> {
    let mut command = Cli::command();
    for word in words.iter().skip(1) {
        command = command.find_subcommand(word).cloned().unwrap_or(command);
    }
    let mut words = words.to_vec();
    // The catalog may be set in the environment.
    if command.get_arguments().any(|arg| arg.get_long() == Some("catalog") && arg.is_required_set()) {
        words.extend(["--catalog".to_owned(), "DIR".to_owned()]);
    }
    match Cli::try_parse_from(words) {
        Ok(_) => None,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => None,
        Err(error) if ignored.contains(&error.kind()) => None,
        Err(error) => Some(error.to_string()),
    }
}

fn is_target(word: &str) -> bool {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    makefile.lines().any(|line| line.strip_prefix(word).is_some_and(|rest| rest.starts_with(':')))
}

/// The error for a missing path of the repository. `make` creates the paths below `dist`.
fn missing(word: &str) -> Option<String> {
    let path = word.rsplit_once('=').map_or(word, |(_, path)| path);
    let ours = FOLDERS.iter().any(|folder| path.starts_with(folder));
    let generated = path.starts_with("dist/");
    (ours && !generated && !root().join(path).exists()).then(|| format!("{path} does not exist"))
}

/// The requirement of a block; `None` if it isn't a command block.
fn requirement(block: &CodeBlock) -> Option<&str> {
    let mut words = block.info.split_whitespace();
    (words.next() == Some("sh")).then(|| words.next().unwrap_or_default())
}

fn document_problems(document: &Document) -> Vec<String> {
    let mut found = Vec::new();
    for block in &document.blocks {
        let at = |what: String| format!("{}:{}: {what}", document.path, block.line);
        match requirement(block) {
            Some("lab") if document.path != EXECUTED_DOCUMENT => {
                found.push(at(format!("only blocks of {EXECUTED_DOCUMENT} can have the requirement lab")));
            }
            Some(requirement) if REQUIREMENTS.contains(&requirement) => {
                let commands = shell::commands(&block.text);
                found.extend(commands.iter().filter_map(|words| command_problem(words, requirement)).map(at));
            }
            None if !has_commands(block) => {}
            _ => found.push(at(format!("add a requirement after ```sh: {}", REQUIREMENTS.join(", ")))),
        }
    }
    // In sentences, flags may have no value.
    let ignored = [ErrorKind::InvalidValue, ErrorKind::MissingRequiredArgument, ErrorKind::ValueValidation];
    for snippet in document.code.iter().filter(|snippet| snippet.text.starts_with("meshwright ")) {
        let commands = shell::commands(&snippet.text);
        let ours = |words: &&Vec<String>| words.first().is_some_and(|program| program == "meshwright");
        let parse_error = commands.iter().filter(ours).find_map(|words| parse_error(words, &ignored));
        found.extend(parse_error.map(|what| format!("{}:{}: {what}", document.path, snippet.line)));
    }
    found
}

/// Whether a block without a requirement contains commands.
fn has_commands(block: &CodeBlock) -> bool {
    let programs = || PROGRAMS.iter().chain(&ENGINES).chain(&CLOUDS);
    let begins =
        |line: &str| programs().any(|program| line.strip_prefix(program).is_some_and(|rest| rest.starts_with(' ')));
    matches!(block.info.as_str(), "" | "bash" | "shell" | "console") && block.text.lines().any(begins)
}

#[test]
fn commands_in_documents_are_valid() {
    let found: Vec<String> = documents().iter().flat_map(document_problems).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn reports_invalid_commands() {
    let problems_of = |text: &str| document_problems(&Document::parse("x.md", text)).len();
    let block = |requirement: &str, text: &str| problems_of(&format!("```{requirement}\n{text}\n```\n"));
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
    assert_eq!(
        (
            problems_of("`meshwright check -f` and `meshwright rbac --catalog`"),
            problems_of("`meshwright check --fail`")
        ),
        (0, 1)
    );
}
