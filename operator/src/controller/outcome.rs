//! Results of reconciles, and the two ways in which one ends early: stalled, or with an error that may pass.

use std::time::Duration;

use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use meshwright_api::MeshInstallation;

use super::backoff::{backoff, requeue_after};
use super::context::Context;
use super::error::ReconcileError;
use super::releases::is_transient;
use super::report::report;
use super::unrendered::measure_unrendered;
use crate::apply::ErrorClass;
use crate::mesh::health::Blocker;
use crate::mesh::rollup::ReconcileOutcome;
use crate::runtime::metrics::ReconcileResult;

/// Requeue delay after a write that leaves more to do.
pub const SOON: Duration = Duration::from_millis(50);

/// The result for metrics, and when to reconcile again.
pub type Reconciled = Result<(ReconcileResult, Action), ReconcileError>;

/// The result for metrics of a reconcile that ended with an error of this class.
pub const fn result_of_class(class: ErrorClass) -> ReconcileResult {
    match class {
        ErrorClass::Forbidden => ReconcileResult::Forbidden,
        ErrorClass::Invalid => ReconcileResult::Invalid,
        ErrorClass::Conflict => ReconcileResult::Conflict,
        ErrorClass::Transient => ReconcileResult::Transient,
    }
}

/// Reports a spec that cannot be reconciled until a user changes it or its dependencies, with the health of the mesh as
/// far as live objects show it.
pub async fn report_stalled(installation: &MeshInstallation, context: &Context, blocker: Blocker) -> Reconciled {
    let delay = requeue_after(blocker.reason);
    let running = measure_unrendered(context, installation);
    let outcome = ReconcileOutcome::Stalled { blocker, running: running.as_ref() };
    let update = report(context, installation, outcome, None).await;
    Ok((ReconcileResult::Invalid, update.requeue(delay)))
}

/// Reports an error that is not the spec's fault, with the health of the mesh as far as live objects show it, and
/// retries with backoff.
pub async fn report_blocked(
    installation: &MeshInstallation,
    context: &Context,
    blocker: Blocker,
    was_ready: bool,
    class: ErrorClass,
) -> Reconciled {
    let reason = blocker.reason;
    let running = measure_unrendered(context, installation);
    let outcome = ReconcileOutcome::Blocked { blocker, was_ready, running: running.as_ref() };
    let update = report(context, installation, outcome, None).await;
    let name = installation.name_any();
    // The registry poller has a backoff of its own.
    let delay = if is_transient(reason) {
        requeue_after(reason)
    } else {
        backoff(class, context.cache.count_failure(&name), &name)
    };
    Ok((result_of_class(class), update.requeue(delay)))
}
