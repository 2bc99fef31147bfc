//! Gateway pods that came up while no injector answered: their image is the chart's placeholder, so they never start.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, Preconditions};
use kube::{Client, ResourceExt as _};
use tracing::info;

use crate::runtime::metrics::{Metrics, WriteVerb};
use crate::runtime::requests::{why, within_deadline};

/// What Istio's gateway chart writes where the injector shall put the proxy's image.
const PLACEHOLDER: &str = "auto";
/// Pods looked at; a gateway that has more of them heals in several rounds.
const PAGE: u32 = 100;

/// Looking after the pods of a gateway failed.
#[derive(Debug, thiserror::Error)]
pub enum GatewayPodsError {
    /// They could not be listed.
    #[error("listing the pods of {namespace}/{gateway} failed: {}", why(.source))]
    List {
        /// Namespace of the gateway.
        namespace: String,
        /// The gateway.
        gateway: String,
        /// Cause.
        #[source]
        source: Box<kube::Error>,
    },
    /// One of them could not be deleted.
    #[error("deleting pod {namespace}/{pod}, which came up without a proxy, failed: {}", why(.source))]
    Delete {
        /// Namespace of the gateway.
        namespace: String,
        /// The pod.
        pod: String,
        /// Cause.
        #[source]
        source: Box<kube::Error>,
    },
}

/// Finds and deletes such pods. Cloning shares the client.
#[derive(Clone)]
pub struct GatewayPods {
    client: Client,
    metrics: Metrics,
}

impl GatewayPods {
    /// One that counts its writes.
    #[must_use]
    pub const fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, metrics }
    }

    /// The pods of a gateway that were never injected. `selector` is its Deployment's.
    pub async fn uninjected(
        &self,
        namespace: &str,
        gateway: &str,
        selector: &str,
    ) -> Result<Vec<Pod>, GatewayPodsError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let params = ListParams::default().labels(selector).limit(PAGE);
        let found = within_deadline(pods.list(&params)).await.map_err(|source| GatewayPodsError::List {
            namespace: namespace.to_owned(),
            gateway: gateway.to_owned(),
            source: Box::new(source),
        })?;
        Ok(found.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none() && is_bare(pod)).collect())
    }

    /// Deletes one of them; its ReplicaSet makes another, which the injector sees.
    pub async fn replace(&self, pod: &Pod) -> Result<(), GatewayPodsError> {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
            ..DeleteParams::default()
        };
        self.metrics.wrote(WriteVerb::Delete);
        info!(namespace, pod = name, "replacing a gateway pod that came up without a proxy");
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        match within_deadline(pods.delete(&name, &params)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
            Err(source) => Err(GatewayPodsError::Delete { namespace, pod: name, source: Box::new(source) }),
        }
    }
}

fn is_bare(pod: &Pod) -> bool {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers.into_iter().any(|container| container.image.as_deref() == Some(PLACEHOLDER))
}
