//! The controller: reads the cluster, calls the pure functions in `crate::mesh`, applies the result and reports status.
//! Only this module knows the order of these steps.

mod backoff;
mod cache;
mod cluster_scoped;
mod context;
mod dry_run_cache;
mod error;
mod events;
mod finalize;
mod finalizer;
mod gateways;
mod generation;
mod injection;
mod node_ports;
mod observed_cluster;
mod options;
mod outcome;
mod oversized_objects;
mod owned_objects;
mod peers;
mod plan_conflicts;
mod preflight;
mod proxies;
mod reconcile;
mod reconcile_target;
mod releases;
mod report;
mod resolve;
mod resolved_revision;
mod rollout_causes;
mod rollout_target;
mod status_write;
mod transition;
mod unreadable;
mod unrendered;
mod unwritten_status;
mod write_throttle;

use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube_runtime::controller::{Config, Controller, Error};
use kube_runtime::reflector::{ObjectRef, Store};
use meshwright_api::MeshInstallation;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::apply::Changes;
use crate::runtime::watch_activity::watch_config;

pub use cache::ReconcileCache;
pub use context::{Context, FINALIZER, by_precedence};
pub use error::ReconcileError;
pub use events::EventSink;
pub use node_ports::usual_range;
pub use observed_cluster::{ObservedCluster, check_upgrade, resolve_observed, resolve_observed_record};
pub use options::OperatorOptions;
pub use oversized_objects::report_oversized;
pub use plan_conflicts::{SELECTOR_REMEDY, describe_change, release_mismatch, selector_conflict};
pub use preflight::no_rollback;
pub use releases::{PrepareReleaseStoreError, ReleaseStore};
pub use resolved_revision::ResolvedRevision;
pub use rollout_target::{RolloutTarget, last_known_good, previous_records};

/// A MeshInstallation as it is watched: one that cannot be parsed must not end the watch of the others.
pub type Watched = DeserializeGuard<MeshInstallation>;

/// MeshInstallations reconciled concurrently.
const CONCURRENCY: u16 = 2;

/// Reconciles until the token is cancelled: on every change of a MeshInstallation, and when `changed` names one.
pub async fn run(mut context: Context, changed: Changes, token: CancellationToken) {
    let api: Api<Watched> = Api::all(context.clients.watches.clone());
    let triggers = changed.stream().map(|name| ObjectRef::<Watched>::new_with(&name, ()));
    let controller = Controller::new(api, watch_config())
        .with_config(Config::default().concurrency(CONCURRENCY))
        .reconcile_on(triggers)
        .graceful_shutdown_on(token.cancelled_owned());
    let store = controller.store();
    let read = store.clone();
    context.metrics.set_condition_source(Box::new(move || conditions(&read)));
    context.store = Some(store);
    controller
        .run(reconcile::reconcile, reconcile::on_error, Arc::new(context))
        .for_each(|result| async {
            match result {
                Ok((object, action)) => debug!(installation = %object.name, ?action, "reconciled"),
                // The MeshInstallation was deleted in the meantime. `on_error` logs failed reconciles.
                Err(Error::ObjectNotFound(_) | Error::ReconcilerFailed(..)) => {}
                Err(error) => warn!(error = %error, "the controller's work queue failed"),
            }
        })
        .await;
}

/// The conditions of all MeshInstallations, by name.
fn conditions(store: &Store<Watched>) -> Vec<(String, Vec<Condition>)> {
    let all = store.state();
    let conditions_of = |watched: &Watched| {
        let installation = watched.0.as_ref().ok()?;
        Some((installation.name_any(), installation.status.as_ref()?.conditions.clone()))
    };
    all.iter().filter_map(|watched| conditions_of(watched)).collect()
}
