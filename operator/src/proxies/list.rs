//! Reads of pods, once: for those who ask without a watch, and to be sure before a mesh is removed.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, Resource as _, ResourceExt as _};

use super::census::Census;
use super::pod::{INJECTED, ProxyPod, UNFINISHED};
use crate::runtime::requests::{pages, within_deadline};

/// Annotation that the node agent puts on a pod whose traffic goes through ztunnel, and the value that says so.
const REDIRECTION: (&str, &str) = ("ambient.istio.io/redirection", "enabled");
/// Pods read at a time.
const PAGE: u32 = 200;
/// Pods of which only the metadata are read, at a time.
const METADATA_PAGE: u32 = 500;

/// The proxies of all pods.
pub async fn list(client: &Client) -> Result<Census, kube::Error> {
    let pods: Api<ProxyPod> = Api::all(client.clone());
    let params = ListParams::default().labels(INJECTED).fields(UNFINISHED).limit(PAGE);
    let mut census = Census::default();
    pages(&pods, params, |mut pod| {
        let uid = pod.meta_mut().uid.take().unwrap_or_default();
        census.observe(&uid, pod.sighting);
    })
    .await?;
    Ok(census)
}

/// The pods that need a mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InUse {
    /// Those with a proxy, the mesh's own gateways aside.
    pub proxies: usize,
    /// Those whose traffic goes through ztunnel.
    pub ambient: usize,
}

impl InUse {
    /// All of them.
    #[must_use]
    pub const fn total(self) -> usize {
        self.proxies + self.ambient
    }
}

/// Counts the pods that need the mesh. `own`: namespace and name of its own Deployments; `ambient`: it has a ztunnel.
pub async fn in_use(
    client: &Client,
    revisions: &[String],
    own: &[(String, String)],
    ambient: bool,
) -> Result<InUse, kube::Error> {
    let proxies = list(client).await?.others(revisions, own);
    let ambient = if ambient { redirected(client).await? } else { 0 };
    Ok(InUse { proxies, ambient })
}

/// How many pods the node agent has redirected: no label tells of them.
async fn redirected(client: &Client) -> Result<usize, kube::Error> {
    let pods: Api<Pod> = Api::all(client.clone());
    let (key, value) = REDIRECTION;
    let mut params = ListParams::default().fields(UNFINISHED).limit(METADATA_PAGE);
    let mut count = 0;
    loop {
        // The server leaves everything but metadata out.
        let page = within_deadline(pods.list_metadata(&params)).await?;
        count += page.items.iter().filter(|pod| pod.annotations().get(key).is_some_and(|v| v == value)).count();
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(count),
        }
    }
}
