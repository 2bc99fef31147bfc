//! The `meshwright` binary: reads the command line and hands over to its subcommand.

use std::process::ExitCode;

use clap::Parser as _;
use meshwright::cli::Cli;

fn main() -> ExitCode {
    Cli::parse().run()
}
