//! The driver: observes, calls the pure middle (`crate::mesh`), applies, reports. The only place that knows the order.

mod accepted;
mod backoff;
mod beside;
mod charge;
mod cluster_objects;
mod contest;
mod context;
mod error;
mod events;
mod finalize;
mod follow;
mod gateways;
mod heading;
mod injection;
mod memory;
mod options;
mod outcome;
mod ports;
mod preflight;
mod proxies;
mod reconcile;
mod refusals;
mod releases;
mod report;
mod resolve;
mod surroundings;
mod transition;

use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube_runtime::controller::{Config, Controller, Error};
use kube_runtime::reflector::{ObjectRef, Store};
use kube_runtime::watcher;
use meshwright_api::MeshInstallation;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::apply::Changes;

pub use accepted::Accepted;
pub use context::{Context, FINALIZER, by_precedence};
pub use error::ReconcileError;
pub use events::EventSink;
pub use heading::{Heading, by_trust, last_good};
pub use memory::Memory;
pub use options::Options;
pub use ports::usual_range;
pub use preflight::no_way_back;
pub use refusals::{SELECTS_REMEDY, field, other_release, selects};
pub use releases::{PrepareReleasesError, Releases};
pub use surroundings::{Surroundings, may_move, remake, resolve_for};

/// The custom resource as it is watched: one that can't be parsed must not end the watch of the others.
pub type Watched = DeserializeGuard<MeshInstallation>;

/// Installations reconciled at the same time.
const CONCURRENCY: u16 = 2;

/// Reconciles until the token is cancelled: on every change of an installation, and whenever `changed` names one.
pub async fn run(mut context: Context, changed: Changes, token: CancellationToken) {
    let api: Api<Watched> = Api::all(context.clients.watches.clone());
    let triggers = changed.stream().map(|name| ObjectRef::<Watched>::new_with(&name, ()));
    let controller = Controller::new(api, watcher::Config::default())
        .with_config(Config::default().concurrency(CONCURRENCY))
        .reconcile_on(triggers)
        .graceful_shutdown_on(token.cancelled_owned());
    let store = controller.store();
    let read = store.clone();
    context.metrics.read_conditions_from(Box::new(move || conditions(&read)));
    context.store = Some(store);
    controller
        .run(reconcile::reconcile, reconcile::on_error, Arc::new(context))
        .for_each(|result| async {
            match result {
                Ok((object, action)) => debug!(installation = %object.name, ?action, "reconciled"),
                // A change to something of an installation that is gone by now.
                // Failed reconciles are logged where their pause is chosen.
                Err(Error::ObjectNotFound(_) | Error::ReconcilerFailed(..)) => {}
                Err(error) => warn!(error = %error, "the controller's queue failed"),
            }
        })
        .await;
}

/// What the conditions of all installations say.
fn conditions(store: &Store<Watched>) -> Vec<(String, Vec<Condition>)> {
    let all = store.state();
    let told = |watched: &Watched| {
        let installation = watched.0.as_ref().ok()?;
        Some((installation.name_any(), installation.status.as_ref()?.conditions.clone()))
    };
    all.iter().filter_map(|watched| told(watched)).collect()
}
