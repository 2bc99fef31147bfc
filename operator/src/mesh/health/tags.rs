//! Revision tags: whether pods that ask by them come to this mesh.

use std::sync::Arc;

use meshwright_api::ComponentStatus;
use meshwright_api::conditions::Reason;

use super::Blocker;
use crate::mesh::kind::Kind;
use crate::mesh::live::{Facts, LiveObjects};
use crate::mesh::object::{Component, Desired};
use crate::mesh::validated::Validated;

/// What the control plane is told of where its own injector is switched off, which is only ever done for another's tag.
pub(super) fn deactivated(desired: &[Arc<Desired>], live: &LiveObjects) -> Option<String> {
    let injectors = desired.iter().filter(|object| {
        object.component == Component::Istiod && object.key.kind == Kind::MutatingWebhookConfiguration
    });
    let mut off = injectors.filter(|injector| {
        let facts = live.get(&injector.key).map(|live| &live.facts);
        matches!(facts, Some(Facts::Webhooks { answers, .. }) if answers.is_empty())
    });
    off.next()?;
    Some("another installation has the tag default: pods that ask for no revision get their proxies from it".into())
}

/// One component for each tag of the spec.
pub(super) fn measure(
    validated: &Validated,
    desired: &[Arc<Desired>],
    live: &LiveObjects,
    version: &str,
    blockers: &mut Vec<Blocker>,
) -> Vec<ComponentStatus> {
    let status = |tag: &String| {
        let component = Component::Tag(tag.clone());
        let webhook = desired
            .iter()
            .find(|object| object.component == component && object.key.kind == Kind::MutatingWebhookConfiguration);
        let message = match webhook.map(|webhook| live.get(&webhook.key).map(|live| &live.facts)) {
            None => Some("another installation answers for it until this one injects"),
            Some(Some(Facts::Webhooks { answers, without_ca, .. })) if without_ca.is_empty() => (!answers
                .contains(tag))
            .then_some("another installation answers for it until its webhook is switched on"),
            Some(_) => Some("its webhook has no certificate yet"),
        };
        if let Some(message) = message {
            blockers.push(Blocker { reason: Reason::Applying, message: format!("tag {tag}: {message}") });
        }
        ComponentStatus {
            name: component.to_string(),
            namespace: Some(validated.namespace.clone()),
            version: Some(version.to_owned()),
            ready: i32::from(message.is_none()),
            desired: 1,
            message: message.map(str::to_owned),
        }
    };
    validated.tags.iter().map(status).collect()
}
