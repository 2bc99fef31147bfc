//! The way to the cluster that `KUBECONFIG` names, for commands that ask it something and end.

use std::io;

use kube::Client;
use kube::api::{Api, ListParams};
use meshwright_api::MeshInstallation;

use crate::apply::absent;
use crate::runtime::client::{Clients, ConnectError};

/// The cluster can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The process got no runtime.
    #[error("can't start a runtime for requests")]
    StartRuntime(#[source] io::Error),
    /// There is no cluster to ask.
    #[error("can't connect to a cluster")]
    Connect(#[source] ConnectError),
    /// The API server doesn't answer.
    #[error("the cluster does not answer")]
    Silent(#[source] Box<kube::Error>),
}

/// Runs requests to their end.
pub(super) fn block_on<T>(requests: impl Future<Output = T>) -> Result<T, ClusterError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(ClusterError::StartRuntime)?.block_on(requests))
}

/// Clients of the cluster.
pub(super) async fn connect() -> Result<Clients, ClusterError> {
    Clients::infer().await.map_err(ClusterError::Connect)
}

/// The version of its API server: that it doesn't answer is said once, rather than of every request.
pub(super) async fn version(clients: &Clients) -> Result<String, ClusterError> {
    let info = clients.requests.apiserver_version().await;
    info.map(|info| info.git_version).map_err(|error| ClusterError::Silent(Box::new(error)))
}

/// All MeshInstallations; none where the cluster doesn't know the kind.
pub(super) async fn installations(client: &Client) -> Result<Vec<MeshInstallation>, kube::Error> {
    match Api::<MeshInstallation>::all(client.clone()).list(&ListParams::default()).await {
        Ok(list) => Ok(list.items),
        Err(error) if absent(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
