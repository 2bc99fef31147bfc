//! The desired objects of each step of an upgrade.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshwright_api::{UpgradeDirection, UpgradeStep};
use serde_json::Value;

use super::configuration_order::ConfigurationOrder;
use super::step::{RolloutStep, order, step_of};
use crate::mesh::kind::Kind;
use crate::mesh::object::{Component, DesiredObject, ObjectKey, ParseObjectError};
use crate::mesh::observed::{ObjectState, ObservedObject, ObservedObjects};
use crate::mesh::revisions::{DEFAULT, MeshPart, REVISION_LABEL};
use crate::mesh::tags::deactivate;

/// `minReadySeconds` of an istiod that is being replaced: a new pod that crashes soon after its start must not replace
/// the old one.
const SETTLE_SECONDS: i64 = 10;

/// Name prefix of the injection webhook configurations.
const DEFAULT_INJECTOR: &str = "istio-sidecar-injector";

/// The plan of an upgrade from one or more source revisions to a target revision.
#[derive(Debug)]
pub struct UpgradePlan {
    /// Forward or rollback.
    pub direction: UpgradeDirection,
    /// Whether istiod or its configuration is updated first.
    pub order: ConfigurationOrder,
    /// The steps in order, without the clean-up.
    pub steps: Vec<RolloutStep>,
    target: Vec<(RolloutStep, Arc<DesiredObject>)>,
    /// Revisions that live objects may belong to, the most trusted first.
    sources: Vec<BTreeMap<ObjectKey, Arc<DesiredObject>>>,
    /// The first source is deployed, so its missing objects are recreated. The others never were deployed completely.
    first_is_deployed: bool,
    /// Forms that some objects have only during the upgrade.
    interim: BTreeMap<ObjectKey, Arc<DesiredObject>>,
    /// The interim forms of the sources' control planes: one that was replaced before it had settled must not count as
    /// settled.
    settling: Vec<Arc<DesiredObject>>,
    /// Injection webhooks that match nothing: those of new tags until they are callable, and that of the control plane
    /// that served the default before a tag did.
    deactivated: BTreeMap<ObjectKey, Arc<DesiredObject>>,
}

impl UpgradePlan {
    /// Plans the upgrade to `target`. `sources` are the revisions that live objects may belong to, the most trusted
    /// first; `first_is_deployed` says that the first of them is deployed.
    pub fn new(
        direction: UpgradeDirection,
        configuration: ConfigurationOrder,
        target: &[Arc<DesiredObject>],
        sources: &[&[Arc<DesiredObject>]],
        first_is_deployed: bool,
    ) -> Result<Self, ParseObjectError> {
        let sources: Vec<BTreeMap<ObjectKey, Arc<DesiredObject>>> = sources
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
        let steps = order(direction, configuration, &gateways);
        let mut interim = BTreeMap::new();
        for desired in target {
            if let Some(interim_form) = interim_form(desired, &sources)? {
                interim.insert(desired.key.clone(), Arc::new(interim_form));
            }
        }
        let mut settling = Vec::new();
        for desired in sources.iter().flat_map(BTreeMap::values).filter(|desired| is_control_plane(desired)) {
            settling.extend(with_settle_time(desired)?.map(Arc::new));
        }
        // A source that is not deployed may have left no objects.
        let known = if first_is_deployed { sources.get(..1).unwrap_or_default() } else { &sources };
        let deactivated = deactivated_injectors(target, &sources, known)?;
        let is_new = |desired: &DesiredObject| known.iter().all(|source| !source.contains_key(&desired.key));
        let target = target.iter().map(|desired| (step_of(desired, is_new(desired)), Arc::clone(desired))).collect();
        Ok(Self {
            direction,
            order: configuration,
            steps,
            target,
            sources,
            first_is_deployed,
            interim,
            settling,
            deactivated,
        })
    }

    /// The objects desired in the step at this index: those of this and earlier steps in their target form, the others
    /// as they are. Objects that the target lacks stay until the clean-up.
    #[must_use]
    pub fn desired(&self, index: usize, live: &ObservedObjects) -> Vec<Arc<DesiredObject>> {
        let reached: BTreeSet<&RolloutStep> = self.steps.iter().take(index.saturating_add(1)).collect();
        let mut desired = Vec::with_capacity(self.target.len());
        for (step, target) in &self.target {
            desired.extend(self.choose(target, live, reached.contains(step)));
        }
        let wanted: BTreeSet<&ObjectKey> = self.target.iter().map(|(_, desired)| &desired.key).collect();
        let ports = self.upcoming_ports(&reached);
        let mut leftovers: BTreeMap<&ObjectKey, &Arc<DesiredObject>> = BTreeMap::new();
        for source in self.sources.iter().rev() {
            leftovers.extend(source.iter().filter(|(key, _)| !wanted.contains(key)));
        }
        for (key, fallback) in leftovers {
            let Some(found) = live.get(key) else { continue };
            if uses_any(found, &ports) || self.is_removed_early(fallback, &reached) {
                continue;
            }
            desired.push(self.leftover(found, fallback, live));
        }
        desired
    }

    /// Index of a source whose control plane differs from the target's and still has objects.
    #[must_use]
    pub fn leftover_source(&self, live: &ObservedObjects) -> Option<usize> {
        let wanted = |key: &ObjectKey| self.target.iter().any(|(_, target)| target.key == *key);
        let is_istiod = |desired: &&Arc<DesiredObject>| is_control_plane(desired);
        self.sources.iter().position(|source| {
            let another = source.values().find(is_istiod).is_some_and(|istiod| !wanted(&istiod.key));
            let mut own =
                source.values().filter(|d| MeshPart::of(&d.component) == MeshPart::ControlPlane && !wanted(&d.key));
            another
                && own.any(|desired| live.get(&desired.key).is_some_and(|found| found.ownership.installation.is_some()))
        })
    }

    /// The desired objects after the last step while a source's control plane is still in use: the target and that one.
    #[must_use]
    pub fn retained(&self, source: usize, live: &ObservedObjects) -> Vec<Arc<DesiredObject>> {
        let mut desired: Vec<Arc<DesiredObject>> = self.target.iter().map(|(_, target)| Arc::clone(target)).collect();
        let wanted: BTreeSet<ObjectKey> = desired.iter().map(|desired| desired.key.clone()).collect();
        let retained = self.sources.get(source).into_iter().flat_map(BTreeMap::values);
        for object in
            retained.filter(|d| MeshPart::of(&d.component) == MeshPart::ControlPlane && !wanted.contains(&d.key))
        {
            desired.push(live.get(&object.key).map_or_else(
                || Arc::clone(self.deactivated.get(&object.key).unwrap_or(object)),
                |found| self.leftover(found, object, live),
            ));
        }
        desired
    }

    /// The target's objects among these; those of tags only once they are updated.
    #[must_use]
    pub fn target_objects(&self, desired: &[Arc<DesiredObject>], live: &ObservedObjects) -> Vec<Arc<DesiredObject>> {
        let wanted: BTreeSet<&ObjectKey> = self.target.iter().map(|(_, target)| &target.key).collect();
        let is_current = |desired: &DesiredObject| {
            !matches!(desired.component, Component::Tag(_))
                || live.get(&desired.key).is_some_and(|found| self.is_updated(desired, found))
        };
        desired.iter().filter(|desired| wanted.contains(&desired.key) && is_current(desired)).cloned().collect()
    }

    /// The form of an object that the target lacks. An injector that served the default is deactivated once the tag
    /// `default` is active.
    fn leftover(
        &self,
        found: &ObservedObject,
        fallback: &Arc<DesiredObject>,
        live: &ObservedObjects,
    ) -> Arc<DesiredObject> {
        if let Some(deactivated) = self.deactivated.get(&fallback.key)
            && (matches(found, deactivated) || self.default_tag_is_active(live))
        {
            return Arc::clone(deactivated);
        }
        Arc::clone(self.matching_source(found, &fallback.key).unwrap_or(fallback))
    }

    /// A tag that the target lacks must not point to an abandoned control plane.
    fn is_removed_early(&self, leftover: &DesiredObject, reached: &BTreeSet<&RolloutStep>) -> bool {
        let tags = RolloutStep::from(UpgradeStep::Tags);
        self.direction == UpgradeDirection::Rollback
            && matches!(leftover.component, Component::Tag(_))
            && reached.contains(&tags)
    }

    /// The webhook of the tag `default` is the target's and callable.
    fn default_tag_is_active(&self, live: &ObservedObjects) -> bool {
        self.target.iter().any(|(_, target)| {
            target.component == Component::Tag(DEFAULT.to_owned())
                && target.key.kind == Kind::MutatingWebhookConfiguration
                && live.get(&target.key).is_some_and(|found| matches(found, target) && is_callable(found))
        })
    }

    /// Injectors that are still to be deactivated.
    pub fn active_injectors<'a>(&'a self, live: &'a ObservedObjects) -> impl Iterator<Item = &'a ObjectKey> {
        let wanted = |key: &ObjectKey| self.target.iter().any(|(_, target)| target.key == *key);
        let has_default = self.target.iter().any(|(_, target)| target.component == Component::Tag(DEFAULT.to_owned()));
        self.deactivated
            .iter()
            .filter(move |(key, _)| has_default && !wanted(key))
            .filter(|(key, deactivated)| live.get(key).is_some_and(|found| !matches(found, deactivated)))
            .map(|(key, _)| key)
    }

    /// Whether a live object has the form that its step or the clean-up applies.
    #[must_use]
    pub fn is_updated(&self, object: &DesiredObject, live: &ObservedObject) -> bool {
        // CRDs are never downgraded.
        let newer = object.key.kind == Kind::CustomResourceDefinition && live.ownership.release > object.release;
        let mut forms = self.target.iter().map(|(_, target)| target).filter(|target| target.key == object.key);
        !live.deleting && (newer || matches(live, object) || forms.any(|target| matches(live, target)))
    }

    /// The objects that the step at this index applies, in the form that it applies.
    pub fn objects_of_step(&self, index: usize) -> impl Iterator<Item = &Arc<DesiredObject>> {
        let step = self.steps.get(index);
        self.target
            .iter()
            .filter(move |(of, _)| Some(of) == step)
            .map(|(_, target)| self.interim.get(&target.key).unwrap_or(target))
    }

    /// The previous form of an object, if known. A control plane must understand the applied configuration, which may
    /// be of a release that was never deployed completely, and on a rollback the configuration that is applied before
    /// it.
    fn previous(&self, target: &DesiredObject, live: &ObservedObjects) -> Option<&Arc<DesiredObject>> {
        if !self.first_is_deployed {
            return None;
        }
        if !is_control_plane(target) {
            return self.sources.first()?.get(&target.key);
        }
        let injectors = live.iter().filter(|(key, _)| key.is_injector_configuration());
        let in_force = injectors.filter_map(|(_, found)| found.ownership.release.as_ref());
        let coming = target.release.as_ref().filter(|_| self.direction == UpgradeDirection::Rollback);
        let newest = in_force.chain(coming).max();
        let mut states = self.sources.iter().filter_map(|source| source.get(&target.key));
        states.find(|state| state.release.as_ref() >= newest)
    }

    fn choose(
        &self,
        target: &Arc<DesiredObject>,
        live: &ObservedObjects,
        is_reached: bool,
    ) -> Option<Arc<DesiredObject>> {
        let found = live.get(&target.key);
        let mut next_form = self.interim.get(&target.key).unwrap_or(target);
        if let Some(deactivated) = self.deactivated.get(&target.key)
            && !found.is_some_and(is_callable)
        {
            next_form = deactivated;
        }
        // An object in its final form has passed all steps.
        if found.is_some_and(|found| matches(found, target)) {
            return Some(Arc::clone(target));
        }
        if is_reached {
            return Some(Arc::clone(next_form));
        }
        let Some(found) = found else {
            // Not created before its step; a deleted object is recreated in its previous form.
            return self.previous(target, live).cloned();
        };
        // An updated object stays updated, even if an earlier step is incomplete again.
        if matches(found, next_form)
            || self.deactivated.get(&target.key).is_some_and(|deactivated| matches(found, deactivated))
        {
            return Some(Arc::clone(next_form));
        }
        // During an upgrade, roles grant the rules of all revisions.
        let unknown = || match target.key.kind {
            Kind::ClusterRole | Kind::Role => Some(next_form),
            _ => self.previous(target, live),
        };
        Some(Arc::clone(self.matching_source(found, &target.key).or_else(unknown).unwrap_or(target)))
    }

    /// The form in a source that a live object has.
    fn matching_source(&self, found: &ObservedObject, key: &ObjectKey) -> Option<&Arc<DesiredObject>> {
        let states = self.sources.iter().filter_map(|source| source.get(key));
        states.chain(self.settling.iter().filter(|desired| desired.key == *key)).find(|state| matches(found, state))
    }

    /// Node ports of the target's Services of the reached steps. Leftover Services that use one are deleted early.
    fn upcoming_ports(&self, reached: &BTreeSet<&RolloutStep>) -> BTreeSet<i32> {
        self.target
            .iter()
            .filter(|(step, desired)| reached.contains(step) && desired.key.kind == Kind::Service)
            .flat_map(|(_, desired)| match ObjectState::of(Kind::Service, &desired.value()) {
                ObjectState::Service(service) => service.node_ports().collect::<Vec<_>>(),
                _ => Vec::new(),
            })
            .collect()
    }
}

/// Whether the API server can call the webhook.
fn is_callable(found: &ObservedObject) -> bool {
    matches!(&found.state, ObjectState::Webhooks { without_ca, .. } if without_ca.is_empty() && !found.deleting)
}

/// Injection webhooks in a form that matches nothing: those of new tags, and those of deleted control planes, of which
/// one may have served the default without a tag.
fn deactivated_injectors(
    target: &[Arc<DesiredObject>],
    sources: &[BTreeMap<ObjectKey, Arc<DesiredObject>>],
    known: &[BTreeMap<ObjectKey, Arc<DesiredObject>>],
) -> Result<BTreeMap<ObjectKey, Arc<DesiredObject>>, ParseObjectError> {
    let is_injector = |desired: &DesiredObject| desired.key.kind == Kind::MutatingWebhookConfiguration;
    let is_new = |key: &ObjectKey| known.iter().all(|source| !source.contains_key(key));
    let tags = target.iter().filter(|desired| matches!(desired.component, Component::Tag(_)));
    let new = tags.filter(|desired| is_injector(desired) && is_new(&desired.key));
    let stays = |key: &ObjectKey| target.iter().any(|desired| desired.key == *key);
    // The label names the revision that a webhook calls.
    let unnamed = |desired: &DesiredObject| {
        let value = desired.value();
        let revision = value.pointer("/metadata/labels").and_then(|labels| labels.get(REVISION_LABEL)?.as_str());
        desired.key.name.starts_with(DEFAULT_INJECTOR) && revision.is_none_or(|revision| revision == DEFAULT)
    };
    let deleted = sources.iter().flat_map(BTreeMap::values).filter(|desired| {
        is_injector(desired) && desired.component == Component::Istiod && !stays(&desired.key) && unnamed(desired)
    });
    let mut deactivated = BTreeMap::new();
    for desired in new.chain(deleted) {
        let object = desired.with_content(deactivate(desired.value()))?;
        deactivated.entry(desired.key.clone()).or_insert_with(|| Arc::new(object));
    }
    Ok(deactivated)
}

fn matches(found: &ObservedObject, desired: &DesiredObject) -> bool {
    found.ownership.hash.as_deref() == Some(&desired.hash)
}

fn uses_any(found: &ObservedObject, ports: &BTreeSet<i32>) -> bool {
    matches!(&found.state, ObjectState::Service(service) if service.node_ports().any(|port| ports.contains(&port)))
}

/// The form that an object has only during the upgrade: roles grant the rules of both revisions, since both run, and a
/// new istiod must be ready for a while before its predecessor is deleted.
fn interim_form(
    target: &DesiredObject,
    sources: &[BTreeMap<ObjectKey, Arc<DesiredObject>>],
) -> Result<Option<DesiredObject>, ParseObjectError> {
    let previous = || sources.iter().filter_map(|source| source.get(&target.key));
    match target.key.kind {
        Kind::ClusterRole | Kind::Role => with_rules_of(target, previous().map(Arc::as_ref)),
        Kind::Deployment if is_control_plane(target) => {
            let template = |desired: &DesiredObject| desired.value().pointer("/spec/template").cloned();
            let rolls = previous().any(|desired| template(desired) != template(target));
            if rolls { with_settle_time(target) } else { Ok(None) }
        }
        _ => Ok(None),
    }
}

/// The role with the rules of others of its name added; `None` if it has them already.
pub fn with_rules_of<'a>(
    target: &DesiredObject,
    others: impl Iterator<Item = &'a DesiredObject>,
) -> Result<Option<DesiredObject>, ParseObjectError> {
    let mut object = target.value();
    let mut changed = false;
    for rule in others.flat_map(|desired| rules(&desired.value())) {
        changed |= add_rule(&mut object, rule);
    }
    changed.then(|| target.with_content(object)).transpose()
}

pub(super) fn is_control_plane(desired: &DesiredObject) -> bool {
    desired.key.kind == Kind::Deployment && desired.component == Component::Istiod
}

/// The control plane with `minReadySeconds` set; `None` if it has at least as much.
fn with_settle_time(istiod: &DesiredObject) -> Result<Option<DesiredObject>, ParseObjectError> {
    let mut object = istiod.value();
    let seconds = object.pointer("/spec/minReadySeconds").and_then(Value::as_i64).unwrap_or_default();
    if seconds >= SETTLE_SECONDS {
        return Ok(None);
    }
    crate::mesh::merge::set(&mut object, "spec.minReadySeconds", SETTLE_SECONDS);
    istiod.with_content(object).map(Some)
}

fn rules(role: &Value) -> Vec<Value> {
    role.get("rules").and_then(Value::as_array).cloned().unwrap_or_default()
}

fn add_rule(role: &mut Value, granted: Value) -> bool {
    let Some(rules) = role.get_mut("rules").and_then(Value::as_array_mut) else { return false };
    if rules.contains(&granted) {
        return false;
    }
    rules.push(granted);
    true
}
