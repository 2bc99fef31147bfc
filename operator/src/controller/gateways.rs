//! Gateways whose pods came up without the injector's help: they are replaced, once, when injection is proved.

use tracing::warn;

use super::accepted::Accepted;
use super::context::Context;
use crate::apply::{GatewayPodsError, selector};
use crate::mesh::health::{Health, Injection};
use crate::mesh::kind::Kind;
use crate::mesh::live::{Facts, LiveObjects};
use crate::mesh::object::{Component, Desired};
use crate::mesh::probe::Outcome;

/// Replaces such pods, and lets health tell of those that came up so again.
pub async fn replace_uninjected(
    context: &Context,
    installation: &str,
    accepted: &Accepted,
    live: &LiveObjects,
    injection: &Injection,
    health: &mut Health,
) {
    if !matches!(injection, Injection::Seen(Outcome::Proved(_))) {
        return;
    }
    for desired in &accepted.desired {
        let (Component::Gateway(gateway), Kind::Deployment) = (&desired.component, desired.key.kind) else { continue };
        let stuck = matches!(
            live.get(&desired.key).map(|live| &live.facts),
            Some(Facts::Workload(workload)) if workload.observed && !workload.rolled_out() && workload.total > 0
        );
        if !stuck {
            context.memory.forget_replacement(installation, gateway);
            continue;
        }
        match replace(context, installation, gateway, desired).await {
            Ok(None) => {}
            Ok(Some(complaint)) => health.complain(gateway, &complaint),
            Err(error) => {
                warn!(installation, gateway, error = %error, "gateway pods could not be looked after");
                health.complain(gateway, &error.to_string());
            }
        }
    }
}

async fn replace(
    context: &Context,
    installation: &str,
    gateway: &str,
    desired: &Desired,
) -> Result<Option<String>, GatewayPodsError> {
    let Some(selector) = selector(desired) else { return Ok(None) };
    let namespace = desired.key.namespace.clone().unwrap_or_default();
    let bare = context.gateway_pods.uninjected(&namespace, gateway, &selector).await?;
    if bare.is_empty() {
        return Ok(None);
    }
    if !context.memory.begin_replacement(installation, gateway) {
        return Ok(Some(format!(
            "{} pods came up without a proxy again though injection is proved elsewhere: see whether namespace \
             {namespace} is labelled istio-injection=disabled, and whether a webhook skips it",
            bare.len()
        )));
    }
    for pod in &bare {
        context.gateway_pods.replace(pod).await?;
    }
    Ok(None)
}
