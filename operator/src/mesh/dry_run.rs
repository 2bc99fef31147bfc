//! The dry run before a rollout: which writes of a plan it sends, and what follows from the API server's rejections.

use std::collections::BTreeMap;
use std::sync::Arc;

use semver::Version;
use serde_json::Value;

use super::health::Blocker;
use super::kind::Kind;
use super::object::{Component, DesiredObject, ObjectKey};
use super::observed::{ObjectState, ObservedObjects};
use super::plan::{Plan, PlanAction, PlanStep, Prepared};
use super::rollup::reason_of;
use crate::apply::ErrorClass;

/// The most rejections that a message quotes.
const QUOTED: usize = 3;

/// An object to send in a dry run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRunRequest {
    /// The object to apply.
    pub desired: Arc<DesiredObject>,
    /// Whether the object exists already.
    pub exists: bool,
}

/// The writes of a plan that a dry run can check, and those that have to wait for another object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DryRunSelection {
    /// The objects to send, in the order of stages.
    pub requests: Vec<DryRunRequest>,
    /// For each object that has to be written first: how many objects can't be checked before.
    pub not_checked: BTreeMap<ObjectKey, usize>,
}

/// An object that the API server rejects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRunRejection {
    /// The rejected object.
    pub key: ObjectKey,
    /// Whether permissions or the object itself are the reason.
    pub class: ErrorClass,
    /// The API server's message, with the object.
    pub message: String,
}

impl DryRunSelection {
    /// Selects all objects that the plan changes, except those of add-ons, which do not block a mesh. Reverting drift
    /// needs no dry run, and adoption compares unmanaged objects itself.
    #[must_use]
    pub fn of(prepared: &Plan<Prepared>, live: &ObservedObjects) -> Self {
        let mut selection = Self::default();
        for PlanStep { desired, action } in &prepared.steps {
            let found = live.get(&desired.key);
            let is_changed = match action {
                PlanAction::Create => true,
                PlanAction::Update(_) => {
                    found.is_some_and(|live| live.ownership.hash.as_deref() != Some(&desired.hash))
                }
                _ => false,
            };
            if !is_changed || matches!(desired.component, Component::AddOn(_)) {
                continue;
            }
            match required_first(desired, &prepared.steps, live) {
                Some(key) => *selection.not_checked.entry(key).or_default() += 1,
                None => {
                    selection.requests.push(DryRunRequest { desired: Arc::clone(desired), exists: found.is_some() });
                }
            }
        }
        selection
    }
}

/// The object that a plan has to write before the API server can check this one: its namespace, the CRD of its kind, or
/// the role that it binds.
fn required_first(desired: &DesiredObject, steps: &[PlanStep], live: &ObservedObjects) -> Option<ObjectKey> {
    let is_planned = |key: &ObjectKey| steps.iter().any(|step| step.desired.key == *key);
    let ObjectKey { kind, namespace, .. } = &desired.key;
    if let Some(name) = namespace {
        let key = ObjectKey { kind: Kind::Namespace, namespace: None, name: name.clone() };
        let is_missing = match live.get(&key) {
            Some(found) => matches!(found.state, ObjectState::Namespace { terminating: true, .. }),
            None => is_planned(&key),
        };
        if is_missing {
            return Some(key);
        }
    }
    if !kind.built_in() {
        let name = format!("{}.{}", kind.plural(), kind.group());
        let key = ObjectKey { kind: Kind::CustomResourceDefinition, namespace: None, name };
        let is_established = live.get(&key).is_some_and(|crd| crd.state == ObjectState::Crd { established: true });
        if is_planned(&key) && !is_established {
            return Some(key);
        }
    }
    let role = bound_role(desired)?;
    (!live.contains_key(&role) && is_planned(&role)).then_some(role)
}

/// The role that a binding grants.
fn bound_role(desired: &DesiredObject) -> Option<ObjectKey> {
    if !matches!(desired.key.kind, Kind::ClusterRoleBinding | Kind::RoleBinding) {
        return None;
    }
    let value = desired.value();
    let text = |path: &str| value.pointer(path).and_then(Value::as_str);
    let (kind, namespace) = match text("/roleRef/kind")? {
        "Role" => (Kind::Role, desired.key.namespace.clone()),
        _ => (Kind::ClusterRole, None),
    };
    Some(ObjectKey { kind, namespace, name: text("/roleRef/name")?.to_owned() })
}

/// The blocker for a revision with rejected objects; `None` without rejections.
#[must_use]
pub fn blocker(version: &Version, rejections: &[DryRunRejection]) -> Option<Blocker> {
    let first = rejections.first()?;
    let quoted: Vec<&str> = rejections.iter().take(QUOTED).map(|rejection| rejection.message.as_str()).collect();
    let more = match rejections.len().saturating_sub(QUOTED) {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let message = format!("a dry run of {version} was rejected. Nothing was written: {}{more}", quoted.join("; "));
    Some(Blocker { reason: reason_of(first.class), message })
}

#[cfg(test)]
mod tests;
