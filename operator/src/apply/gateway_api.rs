//! Whether the cluster has the Kubernetes Gateway API: a watch on one of its definitions, metadata only.

use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, ObjectMeta, PartialObjectMeta};
use kube_runtime::{WatchStreamExt as _, watcher};
use meshwright_api::GatewayApiStatus;
use tracing::warn;

use super::changes::Changes;
use super::inventory::Inventory;

/// The definition without which there is no Gateway API.
pub const DEFINITION: &str = "gateways.gateway.networking.k8s.io";
/// Where the Gateway API's own manifests say which version they are of.
pub const VERSION_ANNOTATION: &str = "gateway.networking.k8s.io/bundle-version";

/// What is known of the Gateway API. Cloning shares.
#[derive(Clone, Default)]
pub struct GatewayApi {
    state: Arc<Mutex<Option<GatewayApiStatus>>>,
}

impl GatewayApi {
    /// What was seen last; `None` before the first list, and while the definition can't be watched.
    #[must_use]
    pub fn status(&self) -> Option<GatewayApiStatus> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, status: GatewayApiStatus) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = state.as_ref() != Some(&status);
        *state = Some(status);
        changed
    }

    /// Watches until the process ends. Names every installation when the answer changes.
    pub async fn watch(self, client: Client, inventory: Inventory, changed: Changes) {
        let config = watcher::Config::default().fields(&format!("metadata.name={DEFINITION}"));
        let api: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(client);
        let mut events = watcher(api, config).default_backoff().boxed();
        let mut listed = GatewayApiStatus::default();
        loop {
            let news = match events.try_next().await {
                Ok(Some(watcher::Event::Init)) => {
                    listed = GatewayApiStatus::default();
                    None
                }
                Ok(Some(watcher::Event::InitApply(definition))) => {
                    listed = installed(&definition.metadata);
                    None
                }
                Ok(Some(watcher::Event::InitDone)) => Some(std::mem::take(&mut listed)),
                Ok(Some(watcher::Event::Apply(definition))) => Some(installed(&definition.metadata)),
                Ok(Some(watcher::Event::Delete(_))) => Some(GatewayApiStatus::default()),
                Ok(None) => return,
                Err(error) => {
                    warn!(definition = DEFINITION, error = %error, "a watch failed; it is tried again");
                    None
                }
            };
            if news.is_some_and(|news| self.note(news)) {
                for installation in inventory.installations() {
                    changed.note(installation);
                }
            }
        }
    }
}

fn installed(definition: &ObjectMeta) -> GatewayApiStatus {
    let version = definition.annotations.as_ref().and_then(|a| a.get(VERSION_ANNOTATION)).cloned();
    GatewayApiStatus { installed: definition.deletion_timestamp.is_none(), version }
}
