//! Tests of the documentation: commands against the command line, YAML against the schema, links against files and
//! headings, reasons against the API. Test code only; it reads files.
//!
//! The info string of a command block states the requirements for readers after `sh`:
//!
//! | requirement | meaning | test |
//! |---|---|---|
//! | `lab` | a cluster, and an image of the operator | executed in `e2e/tests/operator/doc_commands.rs`, and as below |
//! | `checkout` | this repository with the prerequisites of `make` | flags, paths and targets exist |
//! | `yours` | the reader's cluster, registry or files | as above |
//! | `engine` | a container engine | as above |
//! | `cloud` | an account at a cloud provider | as above |

mod commands;
mod consistency;
mod markdown;
mod shell;
mod yaml;

use std::fs;
use std::path::{Path, PathBuf};

use self::markdown::Document;
pub(in crate::cli) use self::yaml::validation_error;

/// Directories without documentation.
const SKIPPED_DIRS: [&str; 4] = ["target", "dist", ".git", "node_modules"];

/// Root directory of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// All Markdown files of the repository, sorted by path.
fn documents() -> Vec<Document> {
    let mut found = Vec::new();
    collect(&root(), &mut found);
    assert!(found.len() > 10, "no documents found");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(folder: &Path, found: &mut Vec<Document>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !SKIPPED_DIRS.contains(&name.as_str()) {
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
