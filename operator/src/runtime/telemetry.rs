//! Logging as text or JSON. Logs are written to standard error, because standard output is for results.

use std::io::IsTerminal as _;

use clap::{Args, ValueEnum};
use thiserror::Error;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

/// Format of the logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Human-readable lines, with colors on a terminal.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// kube logs the body of a response that it can't parse, which may contain any object of the cluster.
const WITHOUT_BODIES: &str = "kube_client::client=error";

/// Command line flags for logging.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// Format of the logs
    #[arg(long, value_enum, env = "MESHWRIGHT_LOG_FORMAT", default_value = "text", global = true)]
    pub log_format: LogFormat,

    /// Log level (error, warn, info, debug, trace) or a filter such as `info,meshwright::apply=debug`
    #[arg(long, env = "MESHWRIGHT_LOG", default_value = "info", value_name = "FILTER", global = true)]
    pub log_level: String,
}

/// Initializing the logs failed.
#[derive(Debug, Error)]
pub enum InitLogsError {
    /// The filter is invalid.
    #[error("invalid --log-level {filter:?}: use a level such as `info` or a filter such as `info,kube=debug`")]
    ParseFilter {
        /// The invalid filter.
        filter: String,
        /// The parse error.
        #[source]
        source: ParseError,
    },
    /// A logger is already installed.
    #[error("logging is already initialized in this process")]
    Install(#[source] TryInitError),
}

/// Initializes logging for the process. It can be called only once.
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
    let failed = |source| InitLogsError::ParseFilter { filter: filter.to_owned(), source };
    let chosen = EnvFilter::builder().parse(filter).map_err(failed)?;
    Ok(chosen.add_directive(WITHOUT_BODIES.parse().map_err(failed)?))
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
    fn defaults_to_text_at_info_level() {
        let cli = Cli::try_parse_from(["meshwright"]).unwrap();
        assert_eq!(cli.logs.log_format, LogFormat::Text);
        assert_eq!(cli.logs.log_level, "info");
        let cli = Cli::try_parse_from(["meshwright", "--log-format", "json", "--log-level", "kube=trace"]).unwrap();
        assert_eq!(cli.logs.log_format, LogFormat::Json);
        assert!(parse_filter(&cli.logs.log_level).is_ok());
    }

    #[test]
    fn never_logs_response_bodies() {
        for filter in ["info", "kube=trace", "kube_client::client=trace"] {
            let directives = parse_filter(filter).unwrap().to_string();
            assert!(directives.split(',').any(|directive| directive == WITHOUT_BODIES), "{filter}: {directives}");
        }
    }

    #[test]
    fn invalid_filter_is_named_in_error() {
        let error = parse_filter("info,meshwright=loud").unwrap_err();
        assert!(error.to_string().contains("info,meshwright=loud"), "{error}");
    }
}
