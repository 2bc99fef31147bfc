//! The `meshwright` binary: parses the command line and runs the subcommand.

use std::process::ExitCode;

use dlmalloc::GlobalDlmalloc;
use meshwright::cli::Cli;

/// One heap for all threads, which returns freed memory to the system. With the C library's allocator each thread would
/// retain its peak of parsing CRDs, which doubles the resident set.
#[global_allocator]
static HEAP: GlobalDlmalloc = GlobalDlmalloc;

fn main() -> ExitCode {
    Cli::read().run()
}
