//! Deletes essential objects of the mesh and measures the time until the operator has recreated them.

use std::fmt::Debug;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, DeleteParams};
use kube::runtime::watcher::watch_object;
use kube::{Resource, ResourceExt as _};
use meshwright_e2e::{Lab, TestResult, objects};
use serde::de::DeserializeOwned;

use super::output;

const NAMESPACE: &str = "istio-system";
const ISTIOD: &str = "istiod";
const INJECTOR: &str = "istio-sidecar-injector";
const DEADLINE: Duration = Duration::from_mins(3);

/// Deletes istiod's Deployment.
pub(crate) async fn istiod(lab: &Lab) -> TestResult {
    let api: Api<Deployment> = Api::namespaced(lab.client(), NAMESPACE);
    let recovery = delete(&api, ISTIOD, |deployment| objects::rolled_out(deployment).is_ok()).await?;
    recovery.print("Deployment istio-system/istiod", "all pods ready");
    Ok(())
}

/// Deletes the injection webhook, without which new pods get no proxy.
pub(crate) async fn injector(lab: &Lab) -> TestResult {
    let api: Api<MutatingWebhookConfiguration> = Api::all(lab.client());
    let recovery = delete(&api, INJECTOR, has_ca_bundles).await?;
    recovery.print(&format!("MutatingWebhookConfiguration {INJECTOR}"), "caBundle set");
    Ok(())
}

/// Whether every webhook has a caBundle, which the API server needs to call it.
fn has_ca_bundles(configuration: &MutatingWebhookConfiguration) -> bool {
    let webhooks = configuration.webhooks.iter().flatten();
    let mut bundles =
        webhooks.map(|webhook| webhook.client_config.ca_bundle.as_ref().is_some_and(|ca| !ca.0.is_empty()));
    bundles.next().unwrap_or(false) && bundles.all(|set| set)
}

/// Times since the deletion of an object.
struct Recovery {
    recreated: Duration,
    functional: Duration,
}

impl Recovery {
    fn print(&self, object: &str, functional_state: &str) {
        let (recreated, functional) = (output::seconds(self.recreated), output::seconds(self.functional));
        output::line(&format!(
            "      {object}: deleted; recreated after {recreated}, {functional_state} after {functional}"
        ));
    }
}

/// Deletes an object and watches until it is recreated and functional. Polling would limit the accuracy of the times.
async fn delete<K>(api: &Api<K>, name: &str, is_functional: impl Fn(&K) -> bool) -> TestResult<Recovery>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let watched = async {
        let mut states = pin!(watch_object(api.clone(), name));
        let first = states.next().await.ok_or("the watch ended")??;
        let old = first.ok_or_else(|| format!("{name} does not exist"))?.uid();
        let deleted = Instant::now();
        api.delete(name, &DeleteParams::default()).await?;
        let mut recreated = None;
        loop {
            // The watch reconnects after errors until the deadline.
            let Ok(Some(object)) = states.next().await.ok_or("the watch ended")? else { continue };
            if object.uid() == old {
                continue;
            }
            let recreated = *recreated.get_or_insert_with(|| deleted.elapsed());
            if is_functional(&object) {
                return Ok(Recovery { recreated, functional: deleted.elapsed() });
            }
        }
    };
    let recovery = tokio::time::timeout(DEADLINE, watched).await;
    recovery.map_err(|_| format!("{name} was not recreated and functional within {} s", DEADLINE.as_secs()))?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn requires_ca_bundle_on_every_webhook() {
        let with = |bundles: &[&str]| {
            let webhooks: Vec<_> = bundles
                .iter()
                .map(|ca| {
                    let config = json!({"caBundle": ca});
                    json!({"name": "x", "admissionReviewVersions": ["v1"], "sideEffects": "None", "clientConfig": config})
                })
                .collect();
            has_ca_bundles(&serde_json::from_value(json!({"metadata": {}, "webhooks": webhooks})).unwrap())
        };
        assert!(with(&["YQ==", "YQ=="]));
        assert!(!with(&["YQ==", ""]));
        assert!(!with(&[]));
    }
}
