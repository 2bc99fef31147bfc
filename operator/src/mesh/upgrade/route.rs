//! The objects that are desired in a step of the way from one state of the mesh to another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshwright_api::UpgradeDirection;
use serde_json::Value;

use super::step::{Step, order, step_of};
use crate::mesh::kind::Kind;
use crate::mesh::live::{Facts, Live, LiveObjects};
use crate::mesh::object::{AdmitObjectError, Component, Desired, ObjectKey};

/// How long an istiod must serve before it counts, while it is being replaced: seconds. One that crashes soon after its
/// start would otherwise take the old one's place first.
const SETTLE_SECONDS: i64 = 10;

/// A way from states of the mesh that ran, or were under way, to another.
#[derive(Debug)]
pub struct Route {
    /// Forward or back.
    pub direction: UpgradeDirection,
    /// The steps, in order.
    pub steps: Vec<Step>,
    target: Vec<(Step, Arc<Desired>)>,
    /// What ran, the most trusted first.
    sources: Vec<BTreeMap<ObjectKey, Arc<Desired>>>,
    /// What some objects are on the way, and neither before nor after it.
    interim: BTreeMap<ObjectKey, Arc<Desired>>,
}

impl Route {
    /// The way to `target`. `sources` are the states that objects may be found in, the most trusted first.
    pub fn new(
        direction: UpgradeDirection,
        target: &[Arc<Desired>],
        sources: &[&[Arc<Desired>]],
    ) -> Result<Self, AdmitObjectError> {
        let sources: Vec<BTreeMap<ObjectKey, Arc<Desired>>> = sources
            .iter()
            .map(|list| list.iter().map(|desired| (desired.key.clone(), Arc::clone(desired))).collect())
            .collect();
        let gateways: BTreeSet<&str> = target
            .iter()
            .filter_map(|desired| match &desired.component {
                Component::Gateway(name) => Some(name.as_str()),
                _ => None,
            })
            .collect();
        let steps = order(direction, &gateways);
        let mut interim = BTreeMap::new();
        for desired in target {
            if let Some(on_the_way) = on_the_way(desired, &sources)? {
                interim.insert(desired.key.clone(), Arc::new(on_the_way));
            }
        }
        let is_new = |desired: &Desired| sources.iter().all(|source| !source.contains_key(&desired.key));
        let target = target.iter().map(|desired| (step_of(desired, is_new(desired)), Arc::clone(desired))).collect();
        Ok(Self { direction, steps, target, sources, interim })
    }

    /// What is desired while the step at this place is under way: what it and those before it move, as it is to be, and
    /// the rest as it is found. What the target doesn't have stays until the clean-up.
    #[must_use]
    pub fn desired(&self, at: usize, live: &LiveObjects) -> Vec<Arc<Desired>> {
        let reached: BTreeSet<&Step> = self.steps.iter().take(at.saturating_add(1)).collect();
        let mut desired = Vec::with_capacity(self.target.len());
        for (step, target) in &self.target {
            let found = live.get(&target.key);
            let moves = reached.contains(step);
            desired.extend(self.choose(target, found, moves));
        }
        let wanted: BTreeSet<&ObjectKey> = self.target.iter().map(|(_, desired)| &desired.key).collect();
        let ports = self.ports_to_come(&reached);
        let mut leaving: BTreeMap<&ObjectKey, &Arc<Desired>> = BTreeMap::new();
        for source in self.sources.iter().rev() {
            leaving.extend(source.iter().filter(|(key, _)| !wanted.contains(key)));
        }
        for (key, fallback) in leaving {
            let Some(found) = live.get(key) else { continue };
            if holds_any(found, &ports) {
                continue;
            }
            desired.push(self.as_found(found, key).unwrap_or(fallback).clone());
        }
        desired
    }

    /// Whether a live object is as a step makes it, or as the clean-up does.
    #[must_use]
    pub fn has_moved(&self, moved: &Desired, live: &Live) -> bool {
        // Definitions of a newer release are never taken back.
        let newer = moved.key.kind == Kind::CustomResourceDefinition && live.marks.release > moved.release;
        let mut forms = self.target.iter().map(|(_, target)| target).filter(|target| target.key == moved.key);
        !live.deleting && (newer || is_made_from(live, moved) || forms.any(|target| is_made_from(live, target)))
    }

    /// The objects that the step at this place moves, as they are to be then.
    pub fn moved_by(&self, at: usize) -> impl Iterator<Item = &Arc<Desired>> {
        let step = self.steps.get(at);
        self.target
            .iter()
            .filter(move |(of, _)| Some(of) == step)
            .map(|(_, target)| self.interim.get(&target.key).unwrap_or(target))
    }

    fn choose(&self, target: &Arc<Desired>, found: Option<&Live>, moves: bool) -> Option<Arc<Desired>> {
        let to_be = self.interim.get(&target.key).unwrap_or(target);
        // What is as it is to stay has been through all of this.
        if found.is_some_and(|found| is_made_from(found, target)) {
            return Some(Arc::clone(target));
        }
        if moves {
            return Some(Arc::clone(to_be));
        }
        let before = self.sources.iter().find_map(|source| source.get(&target.key));
        let Some(found) = found else {
            // Not made before its time; what had been there is brought back as it was.
            return before.cloned();
        };
        // What has moved stays moved, though an earlier step may have fallen behind again.
        if is_made_from(found, to_be) {
            return Some(Arc::clone(to_be));
        }
        Some(Arc::clone(self.as_found(found, &target.key).or(before).unwrap_or(target)))
    }

    /// The state, of those known, that a live object is in.
    fn as_found(&self, found: &Live, key: &ObjectKey) -> Option<&Arc<Desired>> {
        let hash = found.marks.hash.as_deref()?;
        self.sources.iter().filter_map(|source| source.get(key)).find(|desired| desired.hash == hash)
    }

    /// Node ports of the Services that are to be by now: whoever else of ours holds one makes way.
    fn ports_to_come(&self, reached: &BTreeSet<&Step>) -> BTreeSet<i32> {
        self.target
            .iter()
            .filter(|(step, desired)| reached.contains(step) && desired.key.kind == Kind::Service)
            .flat_map(|(_, desired)| match Facts::of(Kind::Service, &desired.value()) {
                Facts::Service(service) => service.node_ports().collect::<Vec<_>>(),
                _ => Vec::new(),
            })
            .collect()
    }
}

fn is_made_from(found: &Live, desired: &Desired) -> bool {
    found.marks.hash.as_deref() == Some(&desired.hash)
}

fn holds_any(found: &Live, ports: &BTreeSet<i32>) -> bool {
    matches!(&found.facts, Facts::Service(service) if service.node_ports().any(|port| ports.contains(&port)))
}

/// What an object is on the way, where that is neither what it was nor what it is to be: roles grant what either side
/// needs, since both run; and istiod must serve for a while before its predecessor goes.
fn on_the_way(
    target: &Desired,
    sources: &[BTreeMap<ObjectKey, Arc<Desired>>],
) -> Result<Option<Desired>, AdmitObjectError> {
    let before = || sources.iter().filter_map(|source| source.get(&target.key));
    match target.key.kind {
        Kind::ClusterRole | Kind::Role => {
            let mut object = target.value();
            let mut grown = false;
            for rule in before().flat_map(|desired| rules(&desired.value())) {
                grown |= add_rule(&mut object, rule);
            }
            grown.then(|| target.revise(object)).transpose()
        }
        Kind::Deployment if target.component == Component::Istiod => {
            let mut object = target.value();
            let template = |value: &Value| value.pointer("/spec/template").cloned();
            let rolls = before().any(|desired| template(&desired.value()) != template(&object));
            let settles = object.pointer("/spec/minReadySeconds").and_then(Value::as_i64).unwrap_or_default();
            if !rolls || settles >= SETTLE_SECONDS {
                return Ok(None);
            }
            crate::mesh::merge::set(&mut object, "spec.minReadySeconds", SETTLE_SECONDS);
            target.revise(object).map(Some)
        }
        _ => Ok(None),
    }
}

fn rules(role: &Value) -> Vec<Value> {
    role.get("rules").and_then(Value::as_array).cloned().unwrap_or_default()
}

fn add_rule(role: &mut Value, rule: Value) -> bool {
    let Some(rules) = role.get_mut("rules").and_then(Value::as_array_mut) else { return false };
    if rules.contains(&rule) {
        return false;
    }
    rules.push(rule);
    true
}
