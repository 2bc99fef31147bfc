//! Exit codes of the binary when its output is a closed pipe.

use std::io::pipe;
use std::process::{Command, Stdio};

fn meshwright(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshwright"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[test]
fn closed_stdout_is_not_an_error() {
    let catalog = tempfile::tempdir().unwrap();
    let catalog = format!("--catalog={}", catalog.path().display());
    for args in [&["install"][..], &["crd"], &["catalog", "list", &catalog]] {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let status = meshwright(args).stdout(writer).status().unwrap();
        assert_eq!(status.code(), Some(0), "{args:?}");
    }
}

#[test]
fn closed_stderr_keeps_the_exit_code() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let status = meshwright(&["catalog", "list", "--catalog=/nowhere"]).stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(1));
}
