//! The tracked files of the repository.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A tracked text file.
pub struct SourceFile {
    /// Path from the repository's root.
    pub path: String,
    pub text: String,
}

impl SourceFile {
    /// Numbered lines, from 1.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    pub fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every tracked file that is text. Symbolic links are followed by Git's own list only once: the target is tracked too.
pub fn tracked_files() -> Vec<SourceFile> {
    let root = root();
    let listed = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z"])
        .current_dir(&root)
        .output()
        .expect("git lists the tracked files");
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let paths = String::from_utf8(listed.stdout).expect("paths are UTF-8");
    let files: Vec<SourceFile> = paths
        .split('\0')
        .filter(|path| !path.is_empty() && !root.join(path).is_symlink())
        .filter_map(|path| {
            let text = std::fs::read_to_string(root.join(path)).ok()?;
            Some(SourceFile { path: path.to_owned(), text })
        })
        .collect();
    assert!(files.len() > 300, "only {} tracked files were found", files.len());
    files
}
