//! The way to the cluster that is meant, for commands that ask it something and end.

use std::fmt;
use std::io;
use std::path::PathBuf;

use clap::Args;
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use meshwright_api::MeshInstallation;

use crate::apply::absent;
use crate::runtime::client::{Clients, ConnectError};
use crate::runtime::requests::why;

/// Which cluster is meant.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct ClusterArgs {
    /// Kubeconfig of the cluster; if absent what KUBECONFIG names, or ~/.kube/config, or in a pod its own cluster
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; its current one if absent
    #[arg(long, value_name = "CONTEXT")]
    context: Option<String>,
}

/// The cluster can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The process got no runtime.
    #[error("can't start a runtime for requests")]
    StartRuntime(#[source] io::Error),
    /// No kubeconfig says where the cluster is.
    #[error(
        "no cluster to talk to: name its kubeconfig with --kubeconfig or in KUBECONFIG, its context with --context"
    )]
    Kubeconfig(#[source] Box<KubeconfigError>),
    /// The kubeconfig has no such context.
    #[error("the kubeconfig has no context {name:?}; it has {}", if .known.is_empty() { "none".to_owned() } else { .known.join(", ") })]
    Context {
        /// What was asked for.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// What the kubeconfig says can't be used.
    #[error("can't connect to the cluster")]
    Connect(#[source] ConnectError),
    /// The API server doesn't answer.
    #[error(
        "the API server at {place} does not answer: {}. If another cluster is meant, name it with --kubeconfig and \
         --context", why(.source)
    )]
    Silent {
        /// Which.
        place: Place,
        /// Cause.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server answers, and not to us.
    #[error("the API server at {place} turns these credentials away, which may have expired: {}", why(.source))]
    TurnedAway {
        /// Which.
        place: Place,
        /// Cause.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server doesn't tell its version.
    #[error("can't read the version of the API server at {place}: {}", why(.source))]
    Version {
        /// Which.
        place: Place,
        /// Cause.
        #[source]
        source: Box<kube::Error>,
    },
}

/// Which cluster it is, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    url: String,
    context: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.url.trim_end_matches('/'))?;
        self.context.iter().try_for_each(|context| write!(out, " (context {context})"))
    }
}

/// A cluster that answers.
pub(super) struct Cluster {
    pub(super) clients: Clients,
    /// The version of its API server, or why it isn't told.
    pub(super) kubernetes: Result<String, ClusterError>,
}

/// Runs requests to their end.
pub(super) fn block_on<T>(requests: impl Future<Output = T>) -> Result<T, ClusterError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(ClusterError::StartRuntime)?.block_on(requests))
}

/// Clients of the cluster. It is asked for its version, so that it is said once that it doesn't answer, and with its place,
/// rather than of every request.
pub(super) async fn connect(args: &ClusterArgs) -> Result<Cluster, ClusterError> {
    let (config, context) = config(args).await?;
    let place = Place { url: config.cluster_url.to_string(), context };
    let clients = Clients::patient(config).map_err(ClusterError::Connect)?;
    let version = clients.requests.apiserver_version().await;
    let kubernetes = match version.map_err(Box::new) {
        Ok(info) => Ok(info.git_version),
        Err(source) => match &*source {
            kube::Error::Api(status) if status.code == 401 => return Err(ClusterError::TurnedAway { place, source }),
            // Who may not ask this may still ask other things.
            kube::Error::Api(_) => Err(ClusterError::Version { place, source }),
            _ => return Err(ClusterError::Silent { place, source }),
        },
    };
    Ok(Cluster { clients, kubernetes })
}

async fn config(args: &ClusterArgs) -> Result<(Config, Option<String>), ClusterError> {
    let named = args.kubeconfig.is_some() || args.context.is_some();
    match from_kubeconfig(args).await {
        Err(ClusterError::Kubeconfig(error)) if !named => {
            let in_pod = Config::incluster().map_err(|_| ClusterError::Kubeconfig(error))?;
            Ok((in_pod, None))
        }
        found => found,
    }
}

async fn from_kubeconfig(args: &ClusterArgs) -> Result<(Config, Option<String>), ClusterError> {
    let unusable = |error| ClusterError::Kubeconfig(Box::new(error));
    let kubeconfig = args.kubeconfig.as_ref().map_or_else(Kubeconfig::read, Kubeconfig::read_from).map_err(unusable)?;
    let known = || kubeconfig.contexts.iter().map(|context| context.name.clone());
    if let Some(name) = args.context.as_ref().filter(|name| !known().any(|known| known == **name)) {
        return Err(ClusterError::Context { name: name.clone(), known: known().collect() });
    }
    let context = args.context.clone().or_else(|| kubeconfig.current_context.clone());
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(unusable)?;
    Ok((config, context))
}

/// All MeshInstallations; none where the cluster doesn't know the kind.
pub(super) async fn installations(client: &Client) -> Result<Vec<MeshInstallation>, kube::Error> {
    match Api::<MeshInstallation>::all(client.clone()).list(&ListParams::default()).await {
        Ok(list) => Ok(list.items),
        Err(error) if absent(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;
    use crate::runtime::requests::told;

    /// A kubeconfig with two clusters, the first of which is its current one.
    fn kubeconfig(folder: &Path, first: &str, second: &str) -> ClusterArgs {
        let path = folder.join("config");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: one\n\
             clusters: [{{name: a, cluster: {{server: '{first}'}}}}, {{name: b, cluster: {{server: '{second}'}}}}]\n\
             contexts: [{{name: one, context: {{cluster: a, user: u}}}}, {{name: two, context: {{cluster: b, user: u}}}}]\n\
             users: [{{name: u, user: {{}}}}]\n"
        );
        fs::write(&path, text).unwrap();
        ClusterArgs { kubeconfig: Some(path), context: None }
    }

    async fn refusal(args: &ClusterArgs) -> String {
        told(&connect(args).await.err().unwrap())
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_named_with_its_context_and_a_way_out() {
        let folder = TempDir::new().unwrap();
        // Nobody listens there any more.
        let gone = format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
        let mut args = kubeconfig(folder.path(), &gone, "http://127.0.0.1:1");
        let said = refusal(&args).await;
        assert!(said.contains(&format!("{gone} (context one) does not answer: ")), "{said}");
        assert!(said.contains("--kubeconfig") && said.contains("refused") && !said.contains("ServiceError"), "{said}");
        args.context = Some("two".into());
        let said = refusal(&args).await;
        assert!(said.contains("http://127.0.0.1:1 (context two) does not answer"), "{said}");
    }

    #[tokio::test]
    async fn a_context_or_a_kubeconfig_that_is_not_there_is_named() {
        let folder = TempDir::new().unwrap();
        let mut args = kubeconfig(folder.path(), "http://127.0.0.1:1", "http://127.0.0.1:1");
        args.context = Some("three".into());
        assert_eq!(refusal(&args).await, "the kubeconfig has no context \"three\"; it has one, two");
        args.kubeconfig = Some("/nowhere/config".into());
        let said = refusal(&args).await;
        assert!(said.contains("/nowhere/config") && said.contains("--context"), "{said}");
    }

    #[tokio::test]
    async fn credentials_that_are_not_taken_are_told_apart_from_silence() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            assert!(BufReader::new(&stream).lines().map(Result::unwrap).any(|line| line.is_empty()));
            let head = "HTTP/1.1 401 Unauthorized\r\nconnection: close\r\ncontent-length: 12\r\n\r\n";
            (&stream).write_all(format!("{head}Unauthorized").as_bytes()).unwrap();
        });
        let folder = TempDir::new().unwrap();
        let said = refusal(&kubeconfig(folder.path(), &url, &url)).await;
        server.join().unwrap();
        assert!(said.contains(&format!("{url} (context one) turns these credentials away")), "{said}");
        assert!(said.ends_with(": Unauthorized"), "{said}");
    }
}
