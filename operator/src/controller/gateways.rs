//! Replaces gateway pods that were created without injection, once the injection check has succeeded.

use tracing::warn;

use super::context::Context;
use super::resolved_revision::ResolvedRevision;
use crate::apply::{GatewayPodsError, selector};
use crate::mesh::health::{Health, Injection};
use crate::mesh::injection_check::InjectionOutcome;
use crate::mesh::kind::Kind;
use crate::mesh::namespace_rules::ObstacleCause;
use crate::mesh::object::{Component, DesiredObject};
use crate::mesh::observed::{ObjectState, ObservedObjects};

/// Replaces gateway pods without a proxy. Reports in health those whose replacements have no proxy either.
pub async fn replace_uninjected(
    context: &Context,
    installation: &str,
    accepted: &ResolvedRevision,
    live: &ObservedObjects,
    injection: &Injection,
    health: &mut Health,
) {
    if !matches!(injection, Injection::Checked(InjectionOutcome::Injected(_))) {
        return;
    }
    for desired in &accepted.desired {
        let (Component::Gateway(gateway), Kind::Deployment) = (&desired.component, desired.key.kind) else { continue };
        let stuck = matches!(
            live.get(&desired.key).map(|live| &live.state),
            Some(ObjectState::Workload(workload)) if workload.observed && !workload.rolled_out() && workload.total > 0
        );
        // Replacements would not be injected either. Health reports the label, whose removal triggers a reconcile.
        let is_excluded = health.obstacles.iter().any(|obstacle| {
            obstacle.component == desired.component && matches!(obstacle.cause, ObstacleCause::NotInjected(_))
        });
        if !stuck || is_excluded {
            context.cache.forget_replacement(installation, gateway);
            continue;
        }
        match replace(context, installation, gateway, desired).await {
            Ok(None) => {}
            Ok(Some(complaint)) => health.add_gateway_problem(gateway, &complaint),
            Err(error) => {
                warn!(installation, gateway, error = %error, "replacing gateway pods failed");
                health.add_gateway_problem(gateway, &error.to_string());
            }
        }
    }
}

async fn replace(
    context: &Context,
    installation: &str,
    gateway: &str,
    desired: &DesiredObject,
) -> Result<Option<String>, GatewayPodsError> {
    let Some(selector) = selector(desired) else { return Ok(None) };
    let namespace = desired.key.namespace.clone().unwrap_or_default();
    let uninjected = context.gateway_pods.uninjected(&namespace, gateway, &selector).await?;
    if uninjected.is_empty() {
        return Ok(None);
    }
    if !context.cache.begin_replacement(installation, gateway) {
        return Ok(Some(format!(
            "{} pods in namespace {namespace} have no proxy, although the injection check succeeds. Check whether a \
             selector of the injection webhook or spec.injector.neverInjectSelector excludes them",
            uninjected.len()
        )));
    }
    for pod in &uninjected {
        context.gateway_pods.replace(pod).await?;
    }
    Ok(None)
}
