//! The program as a shell runs it: what a reader that has gone away makes of it.

use std::io::pipe;
use std::process::{Command, Stdio};

fn meshwright(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshwright"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[test]
fn a_reader_that_went_away_is_no_failure() {
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
fn an_error_that_nobody_reads_ends_the_program_as_one_that_somebody_does() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let status = meshwright(&["catalog", "list", "--catalog=/nowhere"]).stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(1));
}
