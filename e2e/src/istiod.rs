//! What a test may ask of istiod, and do to it, by the release that it is of.

use kube::api::Api;

use k8s_openapi::api::core::v1::Pod;

use crate::runner::Fault;
use crate::{Lab, LabError, http};

impl Lab {
    /// Makes istiod of a release fail, by the tag of its image, until [`Self::mend_istiod`]. Running Pods of it are
    /// affected too, as far as the fault says.
    pub fn break_istiod(&self, release: &str, fault: Fault) -> Result<(), LabError> {
        self.set_fault(release, Some(fault))
    }

    /// Ends the fault of a release.
    pub fn mend_istiod(&self, release: &str) -> Result<(), LabError> {
        self.set_fault(release, None)
    }

    /// The version that the istiod of a Pod says it is, for example `1.32.0-lab.1`.
    pub async fn istiod_version(&self, namespace: &str, pod: &str) -> Result<String, LabError> {
        let pods: Api<Pod> = Api::namespaced(self.client(), namespace);
        let found = pods.get(pod).await.map_err(LabError::api(format!("get the Pod {namespace}/{pod}")))?;
        let address = format!("{}:15014", found.status.and_then(|status| status.pod_ip).unwrap_or_default());
        let answer = http::get(&address, "/version").await;
        let (_, body) = answer.map_err(|source| LabError::Http { address: address.clone(), source })?;
        // Version, revision of the sources, status of the build.
        Ok(body.trim().trim_end_matches("-unknown").to_owned())
    }
}
