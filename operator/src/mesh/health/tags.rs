//! Health of revision tags: whether pods that select a tag are injected by this mesh.

use std::sync::Arc;

use meshwright_api::ComponentStatus;
use meshwright_api::conditions::Reason;

use super::Blocker;
use crate::mesh::kind::Kind;
use crate::mesh::object::{Component, DesiredObject};
use crate::mesh::observed::{ObjectState, ObservedObjects};
use crate::mesh::validated::ValidatedSpec;

/// The control plane's message when its own injector is deactivated, since another installation owns the tag `default`.
pub(super) fn deactivated(desired: &[Arc<DesiredObject>], live: &ObservedObjects) -> Option<String> {
    let injectors = desired.iter().filter(|object| {
        object.component == Component::Istiod && object.key.kind == Kind::MutatingWebhookConfiguration
    });
    let mut off = injectors.filter(|injector| {
        let state = live.get(&injector.key).map(|live| &live.state);
        matches!(state, Some(ObjectState::Webhooks { answers, .. }) if answers.is_empty())
    });
    off.next()?;
    Some("another installation has the tag default and injects pods that select no revision".into())
}

/// Status of each tag of the spec.
pub(super) fn measure(
    validated: &ValidatedSpec,
    desired: &[Arc<DesiredObject>],
    live: &ObservedObjects,
    version: &str,
    blockers: &mut Vec<Blocker>,
) -> Vec<ComponentStatus> {
    let status = |tag: &String| {
        let component = Component::Tag(tag.clone());
        let webhook = desired
            .iter()
            .find(|object| object.component == component && object.key.kind == Kind::MutatingWebhookConfiguration);
        let message = match webhook.map(|webhook| live.get(&webhook.key).map(|live| &live.state)) {
            None => Some("another installation serves it until this one injects"),
            Some(Some(ObjectState::Webhooks { answers, without_ca, .. })) if without_ca.is_empty() => {
                (!answers.contains(tag)).then_some("another installation serves it until its webhook is active")
            }
            Some(_) => Some("its webhook has no caBundle yet"),
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
