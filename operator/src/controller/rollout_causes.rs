//! Adds to health why pods don't start: what the kubelet and the scheduler say about them.

use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use meshwright_api::UpgradeStep;

use super::context::Context;
use super::resolved_revision::ResolvedRevision;
use crate::mesh::health::{Health, UnreadyWorkload, unready_workloads};
use crate::mesh::namespace_rules::{NamespaceObstacle, NamespaceRules};
use crate::mesh::object::{Component, DesiredObject};
use crate::mesh::observed::{ObservedObjects, namespace_labels};
use crate::mesh::upgrade::RolloutStep;

/// How long a workload has to be unready before its pods and Events are read: most pods start sooner.
const EXPLAINED_AFTER: SignedDuration = SignedDuration::from_secs(10);

/// Adds the cause to each workload that has not been ready for a while. `has_step`: a step is in progress, whose message
/// has the cause.
pub async fn add_rollout_causes(
    context: &Context,
    installation: &str,
    measured: &[Arc<DesiredObject>],
    live: &ObservedObjects,
    has_step: bool,
    health: &mut Health,
) {
    let now = Timestamp::now();
    let unready = unready_workloads(measured, live);
    let observed = context.cache.unready_since(installation, unready.iter().map(UnreadyWorkload::key), now);
    if has_step {
        return;
    }
    for workload in &unready {
        let since = workload.unavailable_since.into_iter().chain(observed.get(workload.key()).copied()).min();
        let Some(since) = since.filter(|since| now.duration_since(*since) >= EXPLAINED_AFTER) else { continue };
        if let Some(cause) = context.pod_diagnostics.of(&workload.desired, Some(since)).await {
            health.add_cause(workload, &cause);
        }
    }
}

/// Why the labels of a namespace keep the pods of a step from starting.
pub fn namespace_obstacle(
    context: &Context,
    installation: &str,
    accepted: &ResolvedRevision,
    step: &RolloutStep,
) -> Option<String> {
    let component = match (step.name, &step.gateway) {
        (UpgradeStep::Gateway, Some(gateway)) => Component::Gateway(gateway.clone()),
        (UpgradeStep::Ztunnel, _) => Component::Ztunnel,
        _ => return None,
    };
    let live = context.inventory.snapshot(installation, &accepted.all());
    let rules = NamespaceRules::of(&accepted.validated, &accepted.desired);
    let obstacles = rules.obstacles(|namespace| namespace_labels(&live, namespace));
    obstacles.iter().find(|obstacle| obstacle.component == component).map(NamespaceObstacle::message)
}
