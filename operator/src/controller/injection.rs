//! What is known of injection, of the mesh as it is.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::backoff::RESYNC;
use super::context::Context;
use crate::mesh::health::{Injection, minimum};
use crate::mesh::live::{Facts, LiveObjects};
use crate::mesh::object::{Component, Desired, short_hash};
use crate::mesh::probe::{Outcome, asks};
use crate::mesh::proxy_inputs::is_expected_image;
use crate::mesh::validated::Validated;

/// An injector that has not read its new configuration yet is looked at again after this long.
const STILL_OLD: Duration = Duration::from_millis(500);

/// Where the control plane is rolled out, injection is looked at; the second value says when to look again.
pub fn injection(
    context: &Context,
    installation: &str,
    validated: &Validated,
    desired: &[Arc<Desired>],
    live: &LiveObjects,
) -> (Injection, Duration) {
    let Some(inputs) = probe_inputs(desired, live) else { return (Injection::Pending, RESYNC) };
    let injector = injector(desired);
    let is_expected = |image: &str| injector.as_ref().is_none_or(|injector| is_expected_image(injector, image));
    let (proof, again) = context.prober.consult(installation, asks(validated, desired, live), &inputs, is_expected);
    match proof {
        // What an older state showed tells nothing of this one.
        Some(proof) if proof.inputs == inputs => match &proof.outcome {
            Outcome::Proved(image) if !is_expected(image) => (Injection::Pending, again.min(STILL_OLD)),
            _ => (Injection::Seen(proof.outcome), again),
        },
        _ => (Injection::Pending, again),
    }
}

/// The data of the injector's ConfigMap.
fn injector(desired: &[Arc<Desired>]) -> Option<Value> {
    let is_it = |d: &&Arc<Desired>| d.component == Component::Istiod && d.key.is_injector_configuration();
    desired.iter().find(is_it).and_then(|map| map.value().get("data").cloned())
}

/// What injection depends on: webhooks with their CA, the control plane's pods, its configuration. `None` while the
/// control plane can't answer anyway.
fn probe_inputs(all: &[Arc<Desired>], live: &LiveObjects) -> Option<String> {
    let mut parts = Vec::new();
    for desired in all.iter().filter(|d| matches!(d.component, Component::Tag(_))) {
        if let Some(Facts::Webhooks { identity, .. }) = live.get(&desired.key).map(|live| &live.facts) {
            parts.push(identity.clone());
        }
    }
    for desired in all.iter().filter(|d| d.component == Component::Istiod) {
        match live.get(&desired.key).map(|live| &live.facts) {
            Some(Facts::Workload(workload)) => {
                if !workload.is_up(minimum(all, &desired.key)) {
                    return None;
                }
                parts.push(format!("{workload:?}"));
            }
            Some(Facts::Webhooks { without_ca, identity, .. }) => {
                if !without_ca.is_empty() {
                    return None;
                }
                parts.push(identity.clone());
            }
            Some(Facts::Content(hash)) => parts.push(hash.clone()),
            Some(_) => {}
            None => return None,
        }
    }
    Some(short_hash(parts.join("/").as_bytes()))
}
