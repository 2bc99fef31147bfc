//! Names in Rust code: length of test names, types that share a name, doc comments that say nothing.

use std::collections::BTreeMap;

use regex::Regex;

use crate::assert_none;
use crate::source::{SourceFile, tracked_files};

/// A test name has at most this many words.
const TEST_NAME_WORDS: usize = 9;
/// This many types may share a name.
const TYPES_OF_A_NAME: usize = 2;
/// Names that every program of the workspace may use for its command line (clap), and associated types of traits.
const SHARED_NAMES: [&str; 3] = ["Cli", "Command", "Error"];

fn rust_files() -> impl Iterator<Item = SourceFile> {
    tracked_files().into_iter().filter(SourceFile::is_rust)
}

/// The names of test functions in a Rust file, each with its line.
fn test_names(text: &str) -> Vec<(usize, String)> {
    let function = Regex::new(r"^\s*(?:async )?fn ([a-z0-9_]+)").unwrap();
    let mut names = Vec::new();
    let mut is_test = false;
    for (index, line) in text.lines().enumerate() {
        let line_start = line.trim_start();
        if line_start.starts_with("#[test]") || line_start.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some(found) = function.captures(line) {
            if is_test {
                names.push((index + 1, found[1].to_owned()));
            }
            is_test = false;
        }
    }
    names
}

#[test]
fn test_names_are_short() {
    let mut findings = Vec::new();
    for file in rust_files() {
        for (line, name) in test_names(&file.text) {
            let words = name.split('_').count();
            if words > TEST_NAME_WORDS {
                findings.push(format!("{}:{line}: {name} ({words} words)", file.path));
            }
        }
    }
    assert_none(&findings, "a test name states behaviour in at most 9 words");
}

#[test]
fn finds_test_names() {
    let text = "#[test]\n#[ignore]\nfn one() {}\nfn helper() {}\n    #[tokio::test(start_paused = true)]\n    async fn two() {}\n";
    assert_eq!(test_names(text), [(3, "one".to_owned()), (6, "two".to_owned())]);
}

#[test]
fn types_have_names_of_their_own() {
    let definition = Regex::new(r"^\s*(?:pub(?:\([a-z:]+\))? )?(?:struct|enum|trait|union) ([A-Z]\w*)").unwrap();
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in rust_files() {
        for (line, text) in file.lines() {
            if let Some(found) = definition.captures(text) {
                places.entry(found[1].to_owned()).or_default().push(format!("{}:{line}", file.path));
            }
        }
    }
    let findings: Vec<String> = places
        .into_iter()
        .filter(|(name, places)| places.len() > TYPES_OF_A_NAME && !SHARED_NAMES.contains(&name.as_str()))
        .map(|(name, places)| format!("{name}: {}", places.join(", ")))
        .collect();
    assert_none(&findings, "a type's name is used at most twice; qualify it with what it is for");
}

/// Whether a block of doc comments has no more than two words.
fn says_nothing(doc: &str) -> bool {
    doc.split_whitespace().count() <= 2 && !doc.contains("http")
}

/// Doc comments that say nothing, each with its line.
fn empty_docs(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut block: Vec<&str> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if let Some(doc) = line.trim_start().strip_prefix("///") {
            block.push(doc.trim());
            continue;
        }
        let doc = block.join(" ");
        if !block.is_empty() && says_nothing(&doc) {
            found.push((index, doc));
        }
        block.clear();
    }
    found
}

#[test]
fn doc_comments_add_to_the_name() {
    let mut findings = Vec::new();
    // Doc comments of the command line's fields are its help texts.
    for file in rust_files().filter(|file| !file.path.starts_with("operator/src/cli/")) {
        findings
            .extend(empty_docs(&file.text).into_iter().map(|(line, doc)| format!("{}:{line}: /// {doc}", file.path)));
    }
    assert_none(&findings, "a doc comment of two words repeats the name: narrow the visibility or write what it adds");
}

#[test]
fn finds_empty_docs() {
    assert_eq!(
        empty_docs("/// Cause.\nfn a() {}\n/// The reason\n/// of it.\nfn b() {}\n"),
        [(1, "Cause.".to_owned())]
    );
}
