//! The `meshwright` binary: reads the command line and hands over to its subcommand.

use std::process::ExitCode;

use dlmalloc::GlobalDlmalloc;
use meshwright::cli::Cli;

/// One heap for all threads, given back to the system when it shrinks: the peaks of parsing CRDs then don't stay with
/// each thread that ever had one, which with the C library's allocator doubles the resident set.
#[global_allocator]
static HEAP: GlobalDlmalloc = GlobalDlmalloc;

fn main() -> ExitCode {
    Cli::read().run()
}
