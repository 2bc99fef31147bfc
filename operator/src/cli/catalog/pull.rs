//! `meshwright catalog pull`.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    path::Path,
};

use semver::Version;

use super::{describe_outcome, release_version};
use crate::catalog::{
    ChartName, Digest, ReleaseFacts,
    oci::{self, Credentials, PullError, PullOptions, PullResult, RegistrySource, credentials::ReadCredentialsError},
};

/// Environment variable with the password for `--username`.
const PASSWORD: &str = "MESHWRIGHT_REGISTRY_PASSWORD";

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # Pull a release
  meshwright catalog pull oci://registry.example.com/istio/charts --version 1.31.2 --catalog releases

  # Pull from a private registry
  meshwright catalog pull oci://registry.example.com/istio/charts --version 1.31.2 --username ci --password-stdin <token

The charts base, istiod, gateway, cni and ztunnel are pulled from the repositories with these names in the given path, by the \
tag that Helm derives from the version. Their digests are printed and stored in the catalog. Either the complete release is \
added, or nothing.

Credentials are read from Docker's configuration ($DOCKER_CONFIG/config.json or ~/.docker/config.json) or its credential \
helper, unless --username is set. HTTPS_PROXY, HTTP_PROXY and NO_PROXY are supported; SSL_CERT_FILE replaces the system's \
certificate authorities.")]
pub(super) struct PullArgs {
    /// Registry and path of the charts
    #[arg(value_name = "oci://REGISTRY/PATH")]
    from: RegistrySource,
    /// Version of the release, for example 1.31.2
    #[arg(long, value_name = "VERSION", value_parser = release_version)]
    version: Version,
    /// Pull a chart by its manifest digest instead of its tag; can be repeated
    #[arg(long = "digest", value_name = "CHART=sha256:...", value_parser = pin)]
    digests: Vec<(ChartName, Digest)>,
    /// User name for the registry; the password is read from `MESHWRIGHT_REGISTRY_PASSWORD`
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// Read the password for --username from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
    /// Use plain HTTP
    #[arg(long)]
    plain_http: bool,
    /// Replace an existing release with the same version and other content
    #[arg(long)]
    replace: bool,
}

/// A release can't be pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullCliError {
    /// The password for `--username` is missing.
    #[error("--username {0:?} requires a password; set {PASSWORD} or use --password-stdin")]
    NoPassword(String),
    /// The password can't be read.
    #[error("can't read the password from standard input")]
    ReadPassword(#[source] io::Error),
    /// Stored credentials can't be read.
    #[error("can't read the credentials for {0}")]
    Credentials(RegistrySource, #[source] Box<ReadCredentialsError>),
    /// A chart has two digests.
    #[error("--digest {0} is set twice")]
    Twice(ChartName),
    /// The async runtime can't be started.
    #[error("can't start the async runtime")]
    StartRuntime(#[source] io::Error),
    /// The pull failed.
    #[error("can't pull Istio {version} from {from}")]
    Pull {
        /// Version of the release.
        version: Version,
        /// Registry and path of the charts.
        from: RegistrySource,
        /// The underlying error.
        #[source]
        source: Box<PullError>,
    },
}

fn pin(text: &str) -> Result<(ChartName, Digest), String> {
    let names = || ChartName::ALL.map(ChartName::as_str).join(", ");
    let (name, digest) = text.split_once('=').ok_or("use chart=digest, such as istiod=sha256:...")?;
    let chart = ChartName::ALL.into_iter().find(|chart| chart.as_str() == name);
    let chart = chart.ok_or_else(|| format!("unknown chart {name:?}; use one of: {}", names()))?;
    Ok((chart, digest.parse().map_err(|error: crate::catalog::digest::ParseDigestError| error.to_string())?))
}

/// Pulls the release and returns the summary to print.
pub(super) fn pull(args: PullArgs, catalog: &Path, facts: &ReleaseFacts) -> Result<String, PullCliError> {
    let mut pins = BTreeMap::new();
    for (chart, digest) in &args.digests {
        if pins.insert(*chart, digest.clone()).is_some() {
            return Err(PullCliError::Twice(*chart));
        }
    }
    let credentials = credentials(&args)?;
    let PullArgs { from, version, digests: _, username: _, password_stdin: _, plain_http, replace } = args;
    let request = PullOptions {
        from: &from,
        version: &version,
        pins: &pins,
        chart_digests: &BTreeMap::new(),
        facts,
        credentials: &credentials,
        plain_http,
        catalog,
        replace,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let pulled = runtime.map_err(PullCliError::StartRuntime)?.block_on(oci::pull(&request));
    match pulled {
        Ok(pulled) => Ok(summary(&version, &pulled)),
        Err(source) => Err(PullCliError::Pull { version, from, source: Box::new(source) }),
    }
}

fn credentials(args: &PullArgs) -> Result<Credentials, PullCliError> {
    let Some(username) = args.username.clone() else {
        return Credentials::from_docker(args.from.registry())
            .map_err(|source| PullCliError::Credentials(args.from.clone(), Box::new(source)));
    };
    let password = if args.password_stdin {
        let mut text = String::new();
        io::stdin().lock().read_to_string(&mut text).map_err(PullCliError::ReadPassword)?;
        text.trim_end_matches(['\r', '\n']).to_owned()
    } else {
        std::env::var(PASSWORD).unwrap_or_default()
    };
    if password.is_empty() {
        Err(PullCliError::NoPassword(username))
    } else {
        Ok(Credentials::Password { username, password })
    }
}

fn summary(version: &Version, pulled: &PullResult) -> String {
    let mut lines = vec![format!("Istio {version}: {}", describe_outcome(pulled.outcome))];
    lines.extend(pulled.origins.values().map(|origin| format!("  {origin}")));
    lines
        .extend(pulled.absent.iter().map(|chart| format!("  chart {chart} not found; the release doesn't include it")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::import::PutOutcome;

    #[test]
    fn parses_chart_and_digest() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let (chart, parsed) = pin(&format!("ztunnel={digest}")).unwrap();
        assert_eq!((chart, parsed.as_str()), (ChartName::Ztunnel, digest.as_str()));
        assert!(pin(&digest).unwrap_err().contains("istiod=sha256:"));
        assert!(
            pin(&format!("pilot={digest}")).unwrap_err().contains("use one of: base, istiod, cni, ztunnel, gateway")
        );
        assert!(pin("base=sha256:12").unwrap_err().contains("64 lower-case hexadecimal digits"));
    }

    #[test]
    fn summary_lists_pulled_and_missing_charts() {
        let origins = BTreeMap::from([(ChartName::Base, "oci://r/base@sha256:0".to_owned())]);
        let pulled = PullResult { outcome: PutOutcome::Added, origins, absent: vec![ChartName::Ztunnel] };
        assert_eq!(
            summary(&Version::new(1, 31, 2), &pulled),
            "Istio 1.31.2: added\n  oci://r/base@sha256:0\n  chart ztunnel not found; the release doesn't include it"
        );
    }
}
