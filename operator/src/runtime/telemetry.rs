//! Logs: text for people, JSON for machines, always to standard error so that standard output stays for results.

use std::io::IsTerminal as _;

use clap::{Args, ValueEnum};
use thiserror::Error;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line for a person to read, with colours on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Flags of the logs.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// How logs are written
    #[arg(long, value_enum, env = "MESHWRIGHT_LOG_FORMAT", default_value = "text", global = true)]
    pub log_format: LogFormat,

    /// What is logged: a level (error, warn, info, debug, trace) or filters such as `info,meshwright::apply=debug`
    #[arg(long, env = "MESHWRIGHT_LOG", default_value = "info", value_name = "FILTER", global = true)]
    pub log_level: String,
}

/// Logs could not be set up.
#[derive(Debug, Error)]
pub enum InitLogsError {
    /// The filter isn't one.
    #[error("--log-level {filter:?} is not a filter; give a level such as `info` or pairs such as `info,kube=debug`")]
    ParseFilter {
        /// What was given.
        filter: String,
        /// Where it went wrong.
        #[source]
        source: ParseError,
    },
    /// Logs were set up before.
    #[error("logs are already set up in this process")]
    Install(#[source] TryInitError),
}

/// Sets up logs for the whole process; once only.
pub fn init(args: &LogArgs) -> Result<(), InitLogsError> {
    let filter = parse_filter(&args.log_level)?;
    let builder = fmt().with_writer(std::io::stderr).with_env_filter(filter);
    match args.log_format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    }
    .map_err(InitLogsError::Install)
}

fn parse_filter(filter: &str) -> Result<EnvFilter, InitLogsError> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|source| InitLogsError::ParseFilter { filter: filter.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        logs: LogArgs,
    }

    #[test]
    fn logs_are_text_at_info_unless_asked_otherwise() {
        let cli = Cli::try_parse_from(["meshwright"]).unwrap();
        assert_eq!(cli.logs.log_format, LogFormat::Text);
        assert_eq!(cli.logs.log_level, "info");
        let cli = Cli::try_parse_from(["meshwright", "--log-format", "json", "--log-level", "kube=trace"]).unwrap();
        assert_eq!(cli.logs.log_format, LogFormat::Json);
        assert!(parse_filter(&cli.logs.log_level).is_ok());
    }

    #[test]
    fn a_bad_filter_is_refused_by_its_text() {
        let error = parse_filter("info,meshwright=loud").unwrap_err();
        assert!(error.to_string().contains("info,meshwright=loud"), "{error}");
    }
}
