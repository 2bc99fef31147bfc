//! Deletes what the mesh can't do without, and shows it come back.

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

use super::tell;

const NAMESPACE: &str = "istio-system";
const ISTIOD: &str = "istiod";
const INJECTOR: &str = "istio-sidecar-injector";
const DEADLINE: Duration = Duration::from_mins(3);

/// Deletes istiod's Deployment.
pub(crate) async fn istiod(lab: &Lab) -> TestResult {
    let api: Api<Deployment> = Api::namespaced(lab.client(), NAMESPACE);
    let healed = delete(&api, ISTIOD, |deployment| objects::rolled_out(deployment).is_ok()).await?;
    healed.tell("the Deployment istiod", "all its pods ready");
    Ok(())
}

/// Deletes the injector's webhook, without which new pods get no proxy.
pub(crate) async fn injector(lab: &Lab) -> TestResult {
    let api: Api<MutatingWebhookConfiguration> = Api::all(lab.client());
    let healed = delete(&api, INJECTOR, can_be_called).await?;
    healed.tell(&format!("the MutatingWebhookConfiguration {INJECTOR}"), "with istiod's certificate");
    Ok(())
}

/// The API server calls a webhook only once it knows whom to trust.
fn can_be_called(configuration: &MutatingWebhookConfiguration) -> bool {
    let webhooks = configuration.webhooks.iter().flatten();
    let mut trusted =
        webhooks.map(|webhook| webhook.client_config.ca_bundle.as_ref().is_some_and(|ca| !ca.0.is_empty()));
    trusted.next().unwrap_or(false) && trusted.all(|trusted| trusted)
}

/// How long it took since the deletion.
struct Healed {
    back: Duration,
    works: Duration,
}

impl Healed {
    fn tell(&self, what: &str, works: &str) {
        let (back, after) = (tell::seconds(self.back), tell::seconds(self.works));
        tell::line(&format!("      {what}: deleted; back after {back}, {works} after {after}"));
    }
}

/// Deletes an object and watches until another of its name is there, and until that one `works`. A watch tells of it
/// at once, where asking again and again would only tell how often one asked.
async fn delete<K>(api: &Api<K>, name: &str, works: impl Fn(&K) -> bool) -> TestResult<Healed>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let watched = async {
        let mut states = pin!(watch_object(api.clone(), name));
        let first = states.next().await.ok_or("the watch ended")??;
        let old = first.ok_or_else(|| format!("there is no {name} to delete"))?.uid();
        let deleted = Instant::now();
        api.delete(name, &DeleteParams::default()).await?;
        let mut back = None;
        loop {
            // The watch starts anew by itself; the deadline ends what doesn't come back.
            let Ok(Some(object)) = states.next().await.ok_or("the watch ended")? else { continue };
            if object.uid() == old {
                continue;
            }
            let since = *back.get_or_insert_with(|| deleted.elapsed());
            if works(&object) {
                return Ok(Healed { back: since, works: deleted.elapsed() });
            }
        }
    };
    let healed = tokio::time::timeout(DEADLINE, watched).await;
    healed.map_err(|_| format!("{name} was deleted and did not come back to work in {} s", DEADLINE.as_secs()))?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_webhook_works_when_every_entry_is_trusted() {
        let with = |bundles: &[&str]| {
            let webhooks: Vec<_> = bundles
                .iter()
                .map(|ca| {
                    let config = json!({"caBundle": ca});
                    json!({"name": "x", "admissionReviewVersions": ["v1"], "sideEffects": "None", "clientConfig": config})
                })
                .collect();
            can_be_called(&serde_json::from_value(json!({"metadata": {}, "webhooks": webhooks})).unwrap())
        };
        assert!(with(&["YQ==", "YQ=="]));
        assert!(!with(&["YQ==", ""]));
        assert!(!with(&[]));
    }
}
