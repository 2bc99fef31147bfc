//! The gate of each step, measured on live objects.

use std::sync::Arc;

use meshwright_api::UpgradeStep;
use meshwright_api::conditions::Reason;

use super::configuration_order::ConfigurationOrder;
use super::plan::UpgradePlan;
use super::step::RolloutStep;
use crate::mesh::health::{Blocker, Injection, injection_blocker, is_workload_ready, waiting_for};
use crate::mesh::injection_check::InjectionOutcome;
use crate::mesh::object::DesiredObject;
use crate::mesh::observed::{ObjectState, ObservedObjects};

/// The step that an upgrade is at.
#[derive(Debug)]
pub struct CurrentStep {
    /// Index of the step in the plan.
    pub index: usize,
    /// Name of the step.
    pub step: RolloutStep,
    /// What the first incomplete step waits for.
    pub blocker: Blocker,
    /// The step has failed permanently, so that its deadline need not pass.
    pub cannot_succeed: bool,
    /// The objects desired in this step.
    pub desired: Vec<Arc<DesiredObject>>,
}

/// The current step: the first incomplete one, but none before `min_step`, which was reached earlier. `None` when only
/// the clean-up is left. `injection` returns the state of injection for the given desired objects.
#[must_use]
pub fn current_step(
    plan: &UpgradePlan,
    live: &ObservedObjects,
    injection: impl Fn(&[Arc<DesiredObject>]) -> Injection,
    min_step: Option<&RolloutStep>,
) -> Option<CurrentStep> {
    if min_step.is_some_and(|step| step.name == UpgradeStep::CleanUp) {
        return None;
    }
    let min_index = min_step.and_then(|step| plan.steps.iter().position(|of| of == step)).unwrap_or_default();
    let (first_open, blocker) = plan.steps.iter().enumerate().find_map(|(index, step)| {
        let desired = plan.desired(index, live);
        let blocker = gate(plan, index, step, &desired, live, &injection)?;
        Some((index, blocker))
    })?;
    let index = first_open.max(min_index);
    let step = plan.steps.get(index)?.clone();
    let desired = plan.desired(index, live);
    let cannot_succeed = index == first_open
        && step.name == UpgradeStep::InjectionCheck
        && injection(&plan.target_objects(&desired, live)).is_permanently_denied();
    Some(CurrentStep { index, step, blocker, cannot_succeed, desired })
}

fn gate(
    plan: &UpgradePlan,
    index: usize,
    step: &RolloutStep,
    desired: &[Arc<DesiredObject>],
    live: &ObservedObjects,
    injection: impl Fn(&[Arc<DesiredObject>]) -> Injection,
) -> Option<Blocker> {
    let pending: Vec<&Arc<DesiredObject>> = plan
        .objects_of_step(index)
        .filter(|desired| !live.get(&desired.key).is_some_and(|live| plan.is_updated(desired, live)))
        .collect();
    if let Some(first) = pending.first() {
        let more = if pending.len() > 1 { format!(" and {} more", pending.len() - 1) } else { String::new() };
        let message = format!("applying {}{more}", first.key);
        return Some(Blocker { reason: Reason::Applying, message });
    }
    let state_of = |desired: &Arc<DesiredObject>| live.get(&desired.key).map(|live| &live.state);
    match step.name {
        UpgradeStep::Crds => {
            let crd = plan
                .objects_of_step(index)
                .find(|d| matches!(state_of(d), Some(ObjectState::Crd { established: false })))?;
            let message = format!("{} is not established yet", crd.key);
            Some(Blocker { reason: Reason::WaitingForCRDs, message })
        }
        UpgradeStep::InjectionCheck => {
            let injection = injection(&plan.target_objects(desired, live));
            match &injection {
                // Reported in status; not caused by the new spec.
                Injection::Checked(
                    InjectionOutcome::DeniedByOther { .. }
                    | InjectionOutcome::NamespaceExcluded { .. }
                    | InjectionOutcome::CheckForbidden(_),
                ) => None,
                _ => injection_blocker(&injection),
            }
        }
        UpgradeStep::Configuration if plan.order == ConfigurationOrder::AfterControlPlane => {
            plan.objects_of_step(index).find_map(|desired| match state_of(desired)? {
                ObjectState::Webhooks { without_ca, .. } if !without_ca.is_empty() => Some(Blocker {
                    reason: Reason::WaitingForCABundle,
                    message: format!("{}: istiod has not set the caBundle of {}", desired.key, without_ca.join(", ")),
                }),
                _ => None,
            })
        }
        UpgradeStep::ControlPlane | UpgradeStep::Cni | UpgradeStep::Ztunnel | UpgradeStep::Gateway => {
            plan.objects_of_step(index).find_map(|object| match state_of(object)? {
                ObjectState::Workload(workload) => (!is_workload_ready(desired, &object.key, workload))
                    .then(|| waiting_for(&object.key.name, Some(workload))),
                _ => None,
            })
        }
        UpgradeStep::Tags => {
            let active_injector = plan.active_injectors(live).next()?;
            let message = format!("{active_injector} still serves the tag default");
            Some(Blocker { reason: Reason::Applying, message })
        }
        UpgradeStep::Rbac | UpgradeStep::Configuration | UpgradeStep::CleanUp => None,
    }
}
