//! Faults and versions of the lab's istiods.

use kube::api::Api;

use k8s_openapi::api::core::v1::Pod;

use crate::runner::Fault;
use crate::{Lab, LabError, http};

impl Lab {
    /// Injects a fault into every istiod with this image tag, running ones included, until
    /// [`Self::clear_istiod_fault`].
    pub fn inject_istiod_fault(&self, release: &str, fault: Fault) -> Result<(), LabError> {
        self.set_fault(release, Some(fault))
    }

    /// Removes the fault of a release.
    pub fn clear_istiod_fault(&self, release: &str) -> Result<(), LabError> {
        self.set_fault(release, None)
    }

    /// Version that a Pod's istiod reports, for example `1.32.0-lab.1`.
    pub async fn istiod_version(&self, namespace: &str, pod: &str) -> Result<String, LabError> {
        let pods: Api<Pod> = Api::namespaced(self.client(), namespace);
        let found = pods.get(pod).await.map_err(LabError::api(format!("get the Pod {namespace}/{pod}")))?;
        let address = format!("{}:15014", found.status.and_then(|status| status.pod_ip).unwrap_or_default());
        let response = http::get(&address, "/version").await;
        let (_, body) = response.map_err(|source| LabError::Http { address: address.clone(), source })?;
        // The body is `<version>-<git revision>-<build status>`; the lab's builds report `unknown`.
        Ok(body.trim().trim_end_matches("-unknown").to_owned())
    }
}
