//! Gateway pods that were created without injection: their image is the chart's placeholder, so they never start.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, Preconditions};
use kube::{Client, ResourceExt as _};
use tracing::info;

use crate::runtime::metrics::{Metrics, WriteVerb};
use crate::runtime::requests::{api_error_message, within_deadline};

/// Image in Istio's gateway chart that the injector replaces by the proxy's.
const PLACEHOLDER: &str = "auto";
/// Pods per list; further ones are replaced by later reconciles.
const PAGE: u32 = 100;

/// Replacing pods of a gateway failed.
#[derive(Debug, thiserror::Error)]
pub enum GatewayPodsError {
    /// The pods could not be listed.
    #[error("listing the pods of {namespace}/{gateway} failed: {}", api_error_message(.source))]
    List {
        /// The gateway's namespace.
        namespace: String,
        /// The gateway's name in the spec.
        gateway: String,
        /// The failed request.
        #[source]
        source: Box<kube::Error>,
    },
    /// A pod could not be deleted.
    #[error("deleting pod {namespace}/{pod}, which has no proxy, failed: {}", api_error_message(.source))]
    Delete {
        /// The gateway's namespace.
        namespace: String,
        /// The pod's name.
        pod: String,
        /// The failed request.
        #[source]
        source: Box<kube::Error>,
    },
}

/// Finds and deletes pods without a proxy.
#[derive(Clone)]
pub struct GatewayPods {
    client: Client,
    metrics: Metrics,
}

impl GatewayPods {
    /// Creates a replacer that counts its writes.
    #[must_use]
    pub const fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, metrics }
    }

    /// The gateway's pods without a proxy. `selector` is that of its Deployment.
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
        Ok(found
            .items
            .into_iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none() && is_uninjected(pod))
            .collect())
    }

    /// Deletes a pod; its ReplicaSet creates another, which is injected.
    pub async fn replace(&self, pod: &Pod) -> Result<(), GatewayPodsError> {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
            ..DeleteParams::default()
        };
        self.metrics.count_write(WriteVerb::Delete);
        info!(namespace, pod = name, "replacing a gateway pod without a proxy");
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        match within_deadline(pods.delete(&name, &params)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
            Err(source) => Err(GatewayPodsError::Delete { namespace, pod: name, source: Box::new(source) }),
        }
    }
}

fn is_uninjected(pod: &Pod) -> bool {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers.into_iter().any(|container| container.image.as_deref() == Some(PLACEHOLDER))
}
