//! Connection to the cluster, for commands that send requests and exit.

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
use crate::runtime::requests::api_error_message;

/// Flags that select the cluster.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct ClusterArgs {
    /// Path of the kubeconfig file [default: $KUBECONFIG, ~/.kube/config, or the in-cluster configuration]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Kubeconfig context [default: the current context]
    #[arg(long, value_name = "CONTEXT")]
    context: Option<String>,
}

/// The cluster can't be reached.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The async runtime can't be started.
    #[error("can't start the async runtime")]
    StartRuntime(#[source] io::Error),
    /// There is no usable kubeconfig.
    #[error("no cluster configured; set --kubeconfig or KUBECONFIG, and --context")]
    Kubeconfig(#[source] Box<KubeconfigError>),
    /// The kubeconfig has no such context.
    #[error("context {name:?} does not exist in the kubeconfig; it has {}", if .known.is_empty() { "none".to_owned() } else { .known.join(", ") })]
    Context {
        /// The value of `--context`.
        name: String,
        /// The contexts in the kubeconfig.
        known: Vec<String>,
    },
    /// The client can't be created from the kubeconfig.
    #[error("can't connect to the cluster")]
    Connect(#[source] ConnectError),
    /// The API server doesn't respond.
    #[error(
        "the API server at {server} does not respond: {}. To use another cluster, set --kubeconfig and --context",
        api_error_message(.source)
    )]
    Unreachable {
        /// The API server.
        server: ApiServer,
        /// The failed request.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server rejects the credentials.
    #[error("the API server at {server} rejected the credentials, which may have expired: {}", api_error_message(.source))]
    Unauthorized {
        /// The API server.
        server: ApiServer,
        /// The failed request.
        #[source]
        source: Box<kube::Error>,
    },
    /// The version can't be read.
    #[error("can't read the version of the API server at {server}: {}", api_error_message(.source))]
    Version {
        /// The API server.
        server: ApiServer,
        /// The failed request.
        #[source]
        source: Box<kube::Error>,
    },
}

/// The address of an API server, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiServer {
    url: String,
    context: Option<String>,
}

impl fmt::Display for ApiServer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.url.trim_end_matches('/'))?;
        self.context.iter().try_for_each(|context| write!(out, " (context {context})"))
    }
}

/// A connected cluster.
pub(super) struct Cluster {
    pub(super) clients: Clients,
    /// The version of its API server. Commands that don't need it ignore an error.
    pub(super) kubernetes: Result<String, ClusterError>,
}

/// Runs a future on a new runtime.
pub(super) fn block_on<T>(requests: impl Future<Output = T>) -> Result<T, ClusterError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(ClusterError::StartRuntime)?.block_on(requests))
}

/// Creates clients and reads the API server's version, so that an unreachable cluster is reported once and with its
/// address instead of for every request.
pub(super) async fn connect(args: &ClusterArgs) -> Result<Cluster, ClusterError> {
    let (config, context) = config(args).await?;
    let server = ApiServer { url: config.cluster_url.to_string(), context };
    let clients = Clients::with_retry(config).map_err(ClusterError::Connect)?;
    let version = clients.requests.apiserver_version().await;
    let kubernetes = match version.map_err(Box::new) {
        Ok(info) => Ok(info.git_version),
        Err(source) => match &*source {
            kube::Error::Api(status) if status.code == 401 => {
                return Err(ClusterError::Unauthorized { server, source });
            }
            // A user without this permission may have others.
            kube::Error::Api(_) => Err(ClusterError::Version { server, source }),
            _ => return Err(ClusterError::Unreachable { server, source }),
        },
    };
    Ok(Cluster { clients, kubernetes })
}

async fn config(args: &ClusterArgs) -> Result<(Config, Option<String>), ClusterError> {
    let explicit = args.kubeconfig.is_some() || args.context.is_some();
    match from_kubeconfig(args).await {
        Err(ClusterError::Kubeconfig(error)) if !explicit => {
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

/// All MeshInstallations; none if the CRD isn't installed.
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
    use crate::runtime::requests::api_error_chain;

    /// A kubeconfig with two clusters; the first one is the current context.
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

    async fn connect_error(args: &ClusterArgs) -> String {
        api_error_chain(&connect(args).await.err().unwrap())
    }

    #[tokio::test]
    async fn unreachable_server_error_has_address_and_context() {
        let folder = TempDir::new().unwrap();
        // The listener is closed again.
        let unused_address = format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
        let mut args = kubeconfig(folder.path(), &unused_address, "http://127.0.0.1:1");
        let message = connect_error(&args).await;
        assert!(message.contains(&format!("{unused_address} (context one) does not respond: ")), "{message}");
        assert!(
            message.contains("--kubeconfig") && message.contains("refused") && !message.contains("ServiceError"),
            "{message}"
        );
        args.context = Some("two".into());
        let message = connect_error(&args).await;
        assert!(message.contains("http://127.0.0.1:1 (context two) does not respond"), "{message}");
    }

    #[tokio::test]
    async fn reports_missing_context_and_kubeconfig() {
        let folder = TempDir::new().unwrap();
        let mut args = kubeconfig(folder.path(), "http://127.0.0.1:1", "http://127.0.0.1:1");
        args.context = Some("three".into());
        assert_eq!(connect_error(&args).await, "context \"three\" does not exist in the kubeconfig; it has one, two");
        args.kubeconfig = Some("/nowhere/config".into());
        let message = connect_error(&args).await;
        assert!(message.contains("/nowhere/config") && message.contains("--context"), "{message}");
    }

    #[tokio::test]
    async fn reports_rejected_credentials() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            assert!(BufReader::new(&stream).lines().map(Result::unwrap).any(|line| line.is_empty()));
            let head = "HTTP/1.1 401 Unauthorized\r\nconnection: close\r\ncontent-length: 12\r\n\r\n";
            (&stream).write_all(format!("{head}Unauthorized").as_bytes()).unwrap();
        });
        let folder = TempDir::new().unwrap();
        let message = connect_error(&kubeconfig(folder.path(), &url, &url)).await;
        server.join().unwrap();
        assert!(message.contains(&format!("{url} (context one) rejected the credentials")), "{message}");
        assert!(message.ends_with(": Unauthorized"), "{message}");
    }
}
