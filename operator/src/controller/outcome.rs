//! What comes of a reconcile that can't go on: told in status, and when to come again.

use std::time::Duration;

use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use meshwright_api::MeshInstallation;

use super::backoff::{patience, pause};
use super::context::Context;
use super::error::ReconcileError;
use super::releases::passes;
use super::report::report;
use crate::apply::ErrorClass;
use crate::mesh::health::{Blocker, Health};
use crate::mesh::rollup::Course;
use crate::runtime::metrics::ReconcileResult;

/// After a write that left something to do.
pub const SOON: Duration = Duration::from_millis(50);

/// What came of a reconcile.
pub type Done = Result<(ReconcileResult, Action), ReconcileError>;

/// What metrics call a reconcile that ended with an error of this class.
pub const fn class_result(class: ErrorClass) -> ReconcileResult {
    match class {
        ErrorClass::Forbidden => ReconcileResult::Forbidden,
        ErrorClass::Invalid => ReconcileResult::Invalid,
        ErrorClass::Conflict => ReconcileResult::Conflict,
        ErrorClass::Transient => ReconcileResult::Transient,
    }
}

/// Tells of a spec that can't be followed until it, or what it hangs on, changes.
pub async fn stalled(
    installation: &MeshInstallation,
    context: &Context,
    blocker: Blocker,
    running: Option<&Health>,
) -> Done {
    let again = patience(blocker.reason);
    let told = report(context, installation, Course::Stalled { blocker, running }, None).await?;
    Ok((ReconcileResult::Invalid, told.again(again)))
}

/// Tells of something that isn't the spec's fault, and comes again after a pause.
pub async fn hindered(
    installation: &MeshInstallation,
    context: &Context,
    blocker: Blocker,
    proved: bool,
    class: ErrorClass,
) -> Done {
    let reason = blocker.reason;
    let told = report(context, installation, Course::Hindered { blocker, proved, running: None }, None).await?;
    let name = installation.name_any();
    // Registries count their own failures, and rest by them.
    let delay =
        if passes(reason) { patience(reason) } else { pause(class, context.memory.count_failure(&name), &name) };
    Ok((class_result(class), told.again(delay)))
}
