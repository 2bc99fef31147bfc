//! One-time lists of pods, for commands without a watch and before a mesh is removed.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, Resource as _, ResourceExt as _};

use super::index::ProxyIndex;
use super::proxy_pod::{INJECTED, ProxyPod, UNFINISHED};
use crate::runtime::requests::{pages, within_deadline};

/// Annotation that istio-cni sets on pods whose traffic is redirected to ztunnel, and its value.
const REDIRECTION: (&str, &str) = ("ambient.istio.io/redirection", "enabled");
/// Pods per page. In larger pages, pods with many containers would exceed the limits of responses.
const PAGE: u32 = 50;
/// Pods per page when only metadata is read.
const METADATA_PAGE: u32 = 500;

/// Lists the proxies of all pods.
pub async fn list(client: &Client) -> Result<ProxyIndex, kube::Error> {
    let pods: Api<ProxyPod> = Api::all(client.clone());
    let params = ListParams::default().labels(INJECTED).fields(UNFINISHED).limit(PAGE);
    let mut index = ProxyIndex::default();
    pages(&pods, params, |mut pod| {
        let uid = pod.meta_mut().uid.take().unwrap_or_default();
        index.update(&uid, pod.proxy);
    })
    .await?;
    Ok(index)
}

/// Number of pods that use a mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeshUsage {
    /// Pods with a proxy, without the mesh's own gateways.
    pub proxies: usize,
    /// Pods whose traffic is redirected to ztunnel.
    pub ambient: usize,
}

impl MeshUsage {
    /// Returns the total number of pods.
    #[must_use]
    pub const fn total(self) -> usize {
        self.proxies + self.ambient
    }
}

/// Counts the pods that use the mesh. `own` contains namespace and name of the mesh's Deployments; `ambient` is set if
/// the mesh has a ztunnel.
pub async fn count_usage(
    client: &Client,
    revisions: &[String],
    own: &[(String, String)],
    ambient: bool,
) -> Result<MeshUsage, kube::Error> {
    let proxies = list(client).await?.count_users(revisions, own);
    let ambient = if ambient { count_ambient_pods(client).await? } else { 0 };
    Ok(MeshUsage { proxies, ambient })
}

/// Counts the pods that istio-cni has redirected to ztunnel. They have no label to select them by.
async fn count_ambient_pods(client: &Client) -> Result<usize, kube::Error> {
    let pods: Api<Pod> = Api::all(client.clone());
    let (key, value) = REDIRECTION;
    let mut params = ListParams::default().fields(UNFINISHED).limit(METADATA_PAGE);
    let mut count = 0;
    loop {
        // The server returns only metadata.
        let page = within_deadline(pods.list_metadata(&params)).await?;
        count += page.items.iter().filter(|pod| pod.annotations().get(key).is_some_and(|v| v == value)).count();
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(count),
        }
    }
}
