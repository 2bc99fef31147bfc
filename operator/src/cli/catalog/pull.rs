//! `meshwright catalog pull`.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    path::Path,
};

use semver::Version;

use super::{release_version, told};
use crate::catalog::{
    ChartName, Digest, Facts,
    oci::{self, Credentials, Pull, PullError, Pulled, Source, credentials::ReadCredentialsError},
};

/// Holds the password for --username.
const PASSWORD: &str = "MESHWRIGHT_REGISTRY_PASSWORD";

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
The charts base, istiod, gateway, cni and ztunnel are pulled from repositories of these names below the given place, by the \
tag that Helm makes of the version. Their digests are printed, and kept in the catalog. Nothing is added unless all of it is \
whole.

Credentials come from Docker's configuration ($DOCKER_CONFIG/config.json or ~/.docker/config.json) or the helper that it \
names, unless --username is given. HTTPS_PROXY, HTTP_PROXY and NO_PROXY are followed; SSL_CERT_FILE names the \
authorities to trust in place of the system's, or of Mozilla's where the system has none.")]
pub(super) struct PullArgs {
    /// Where the charts are: oci:// and registry and path
    #[arg(value_name = "oci://REGISTRY/PATH")]
    from: Source,
    /// The release's version, for example 1.31.2
    #[arg(long, value_name = "VERSION", value_parser = release_version)]
    version: Version,
    /// Pull this chart by the digest of its manifest, not by the tag; give it once for each chart to pin
    #[arg(long = "digest", value_name = "CHART=sha256:...", value_parser = pin)]
    digests: Vec<(ChartName, Digest)>,
    /// Ask as this user, with the password in `MESHWRIGHT_REGISTRY_PASSWORD`
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// Read the password for --username from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
    /// Talk HTTP without TLS
    #[arg(long)]
    plain_http: bool,
    /// Put it in the place of other content under the same version
    #[arg(long)]
    replace: bool,
}

/// A release can't be pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullCliError {
    /// A user without a password.
    #[error("--username {0:?} needs a password: set {PASSWORD}, or give it on standard input with --password-stdin")]
    NoPassword(String),
    /// The password can't be read.
    #[error("can't read the password from standard input")]
    ReadPassword(#[source] io::Error),
    /// Kept credentials can't be used.
    #[error("can't ask {0}")]
    Credentials(Source, #[source] Box<ReadCredentialsError>),
    /// One chart is pinned twice.
    #[error("--digest {0} is given twice")]
    Twice(ChartName),
    /// The process got no runtime.
    #[error("can't start a runtime for requests")]
    StartRuntime(#[source] io::Error),
    /// The pull failed.
    #[error("can't pull Istio {version} from {from}")]
    Pull {
        /// The release.
        version: Version,
        /// Where from.
        from: Source,
        /// Cause.
        #[source]
        source: Box<PullError>,
    },
}

fn pin(text: &str) -> Result<(ChartName, Digest), String> {
    let names = || ChartName::ALL.map(ChartName::as_str).join(", ");
    let (name, digest) = text.split_once('=').ok_or("a chart and its digest are needed, such as istiod=sha256:...")?;
    let chart = ChartName::ALL.into_iter().find(|chart| chart.as_str() == name);
    let chart = chart.ok_or_else(|| format!("there is no chart {name:?}, only {}", names()))?;
    Ok((chart, digest.parse().map_err(|error: crate::catalog::digest::ParseDigestError| error.to_string())?))
}

/// Pulls, and says what became of it.
pub(super) fn pull(args: PullArgs, catalog: &Path, facts: &Facts) -> Result<String, PullCliError> {
    let mut pins = BTreeMap::new();
    for (chart, digest) in &args.digests {
        if pins.insert(*chart, digest.clone()).is_some() {
            return Err(PullCliError::Twice(*chart));
        }
    }
    let credentials = credentials(&args)?;
    let PullArgs { from, version, digests: _, username: _, password_stdin: _, plain_http, replace } = args;
    let request = Pull {
        from: &from,
        version: &version,
        pins: &pins,
        contents: &BTreeMap::new(),
        facts,
        credentials: &credentials,
        plain_http,
        catalog,
        replace,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let pulled = runtime.map_err(PullCliError::StartRuntime)?.block_on(oci::pull(&request));
    match pulled {
        Ok(pulled) => Ok(said(&version, &pulled)),
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

fn said(version: &Version, pulled: &Pulled) -> String {
    let mut lines = vec![format!("Istio {version}: {}", told(pulled.outcome))];
    lines.extend(pulled.origins.values().map(|origin| format!("  {origin}")));
    lines.extend(pulled.absent.iter().map(|chart| format!("  no {chart} there: this release will be without it")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::import::Outcome;

    #[test]
    fn a_pin_is_a_chart_and_a_digest() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let (chart, parsed) = pin(&format!("ztunnel={digest}")).unwrap();
        assert_eq!((chart, parsed.as_str()), (ChartName::Ztunnel, digest.as_str()));
        assert!(pin(&digest).unwrap_err().contains("istiod=sha256:"));
        assert!(pin(&format!("pilot={digest}")).unwrap_err().contains("only base, istiod, cni, ztunnel, gateway"));
        assert!(pin("base=sha256:12").unwrap_err().contains("64 hexadecimal digits"));
    }

    #[test]
    fn what_was_pulled_is_told_and_what_was_not_there_too() {
        let origins = BTreeMap::from([(ChartName::Base, "oci://r/base@sha256:0".to_owned())]);
        let pulled = Pulled { outcome: Outcome::Added, origins, absent: vec![ChartName::Ztunnel] };
        assert_eq!(
            said(&Version::new(1, 31, 2), &pulled),
            "Istio 1.31.2: added\n  oci://r/base@sha256:0\n  no ztunnel there: this release will be without it"
        );
    }
}
