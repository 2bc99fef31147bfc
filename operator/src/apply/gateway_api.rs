//! Detects the Kubernetes Gateway API with a metadata watch on one of its CRDs.

use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, ObjectMeta, PartialObjectMeta};
use kube_runtime::{WatchStreamExt as _, watcher};
use meshwright_api::GatewayApiStatus;
use semver::Version;
use tracing::warn;

use super::changes::Changes;
use super::inventory::Inventory;
use crate::catalog::gateway_api;
use crate::runtime::watch_activity::watch_config;

/// The CRD whose presence indicates the Gateway API.
pub const GATEWAY_CRD: &str = "gateways.gateway.networking.k8s.io";
/// Annotation with the version of the Gateway API's manifests.
pub const VERSION_ANNOTATION: &str = "gateway.networking.k8s.io/bundle-version";

/// Annotation with the channel of the Gateway API's manifests.
const CHANNEL_ANNOTATION: &str = "gateway.networking.k8s.io/channel";
/// The channel that also has kinds without a stable version.
const EXPERIMENTAL: &str = "experimental";

/// The state of the Gateway API. Clones share it.
#[derive(Clone, Default)]
pub struct GatewayApi {
    state: Arc<Mutex<Option<ObservedGatewayApi>>>,
}

/// What the CRD shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ObservedGatewayApi {
    status: GatewayApiStatus,
    is_experimental: bool,
}

impl GatewayApi {
    /// The last observed state; `None` before the first list, and if the CRD can't be watched.
    #[must_use]
    pub fn status(&self) -> Option<GatewayApiStatus> {
        self.observed().map(|observed| observed.status)
    }

    /// Warns if the installed version doesn't work with a release.
    #[must_use]
    pub fn warning(&self, release: &Version) -> Option<String> {
        let ObservedGatewayApi { status, is_experimental } = self.observed()?;
        gateway_api::warning(release, &status.version.filter(|_| status.installed)?, is_experimental)
    }

    fn observed(&self) -> Option<ObservedGatewayApi> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, observed: ObservedGatewayApi) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = state.as_ref() != Some(&observed);
        *state = Some(observed);
        changed
    }

    /// Watches until the process ends, and requeues all installations when the state changes.
    pub async fn watch(self, client: Client, inventory: Inventory, changed: Changes) {
        let config = watch_config().fields(&format!("metadata.name={GATEWAY_CRD}"));
        let api: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(client);
        let mut events = watcher(api, config).default_backoff().boxed();
        let mut listed = ObservedGatewayApi::default();
        loop {
            let update = match events.try_next().await {
                Ok(Some(watcher::Event::Init)) => {
                    listed = ObservedGatewayApi::default();
                    None
                }
                Ok(Some(watcher::Event::InitApply(crd))) => {
                    listed = installed(&crd.metadata);
                    None
                }
                Ok(Some(watcher::Event::InitDone)) => Some(std::mem::take(&mut listed)),
                Ok(Some(watcher::Event::Apply(crd))) => Some(installed(&crd.metadata)),
                Ok(Some(watcher::Event::Delete(_))) => Some(ObservedGatewayApi::default()),
                Ok(None) => return,
                Err(error) => {
                    warn!(crd = GATEWAY_CRD, error = %error, "watch failed; retrying");
                    None
                }
            };
            if update.is_some_and(|update| self.note(update)) {
                for installation in inventory.installations() {
                    changed.note(installation);
                }
            }
        }
    }
}

fn installed(crd: &ObjectMeta) -> ObservedGatewayApi {
    let annotation = |name: &str| crd.annotations.as_ref().and_then(|annotations| annotations.get(name));
    let version = annotation(VERSION_ANNOTATION).cloned();
    ObservedGatewayApi {
        status: GatewayApiStatus { installed: crd.deletion_timestamp.is_none(), version },
        is_experimental: annotation(CHANNEL_ANNOTATION).is_some_and(|channel| channel == EXPERIMENTAL),
    }
}
