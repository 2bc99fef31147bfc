//! What the documents say, held against the code: commands against the command line, YAML against the schema, links
//! against files and headings, reasons against the API. Tests alone; they read files.
//!
//! A block of commands says behind `sh` what it needs, which a reader must know:
//!
//! | mark | it needs | what tests do |
//! |---|---|---|
//! | `lab` | a cluster, and an image of the operator | run it, in `e2e/tests/operator/documents.rs`; and what is below |
//! | `checkout` | this repository, and what `make` needs | hold flags, paths and targets against what is there |
//! | `yours` | a cluster, a registry or files of the reader's | the same |
//! | `engine` | a container engine | the same |
//! | `cloud` | an account at a provider | the same |

mod commands;
mod kept;
mod markdown;
mod shell;
mod yaml;

use std::fs;
use std::path::{Path, PathBuf};

use self::markdown::Document;
pub(in crate::cli) use self::yaml::refusal;

/// The folders of the repository that hold nothing written by people.
const NOT_OURS: [&str; 4] = ["target", "dist", ".git", "node_modules"];

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Every document of the repository, by its path in it.
fn documents() -> Vec<Document> {
    let mut found = Vec::new();
    collect(&root(), &mut found);
    assert!(found.len() > 10, "the documents are not where they are looked for");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(folder: &Path, found: &mut Vec<Document>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !NOT_OURS.contains(&name.as_str()) {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(read(&path));
        }
    }
}

fn read(path: &Path) -> Document {
    let root = root();
    let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
    Document::parse(&name, &fs::read_to_string(path).unwrap())
}
